"""Downloads under way: one transfer a file, however many want it.

A transfer runs in a thread of its own, so neither the server nor whoever waits is held up by it. It ends
early once nobody wants it any more, or when somebody cancels it for all.

Limits: transfers of this process; that two processes share one is the library's care.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path

from . import host

PAUSE = 0.2  # seconds from one report of progress to the next, at least
EVENT = "sketchknitter.download"  # what the front end listens for; its data is Download.report()

Fetch = Callable[..., Path]  # fetch(on_progress=...) -> the file; on_progress gets .done and .total, in bytes


class Cancelled(Exception):
    """Raised into a transfer to end it, and out of `Download.result` of one that was ended."""


class Download:
    """One transfer.

    state  "downloading", "done", "cancelled" or "failed";  error  a sentence for people, once it has failed.
    done   bytes here;  total  bytes in all, None where nobody knows.
    """

    def __init__(self, name: str, fetch: Fetch, changed: Callable[[Download], None]) -> None:
        self.name, self.state, self.error = name, "downloading", None
        self.done, self.total = 0, None
        self.wanted_by: set[Hashable] = set()
        self._fetch, self._changed, self._path = fetch, changed, None
        self._stop, self._ended = threading.Event(), threading.Event()
        self._next_report = 0.0

    def run(self) -> None:
        try:
            self._path = self._fetch(on_progress=self._heard)
            self.state = "done"
        except Exception as error:
            if self._stop.is_set():
                self.state = "cancelled"
            else:
                self.state, self.error = "failed", str(error)
                if not isinstance(error, ValueError):  # no sentence of the library's
                    logging.exception("SketchKnitter: %s could not be downloaded", self.name)
                    self.error = f"{self.name} could not be downloaded ({type(error).__name__}: {error})."
        try:
            self._changed(self)
        finally:
            self._ended.set()

    def _heard(self, progress) -> None:
        if self._stop.is_set():
            raise Cancelled(f"the download of {self.name} was cancelled.")
        self.done, self.total = progress.done, progress.total
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + PAUSE
            self._changed(self)

    def stop(self) -> None:
        self._stop.set()

    def report(self) -> dict:
        """All there is to say of it, as JSON."""
        return {name: getattr(self, name) for name in ("name", "state", "done", "total", "error")}

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most so many seconds."""
        return self._ended.wait(seconds)

    def result(self) -> Path:
        """The file of a transfer that has ended."""
        if self.state == "cancelled":
            raise Cancelled(f"the download of {self.name} was cancelled.")
        if self.error is not None:
            raise ValueError(self.error)
        return self._path


class Downloads:
    """The transfers of this process by name, and of each name how the latest one went.

    changed  hears of every change, from the thread of the transfer.
    """

    def __init__(self, changed: Callable[[Download], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._latest: dict[str, Download] = {}

    def want(self, name: str, fetch: Fetch, by: Hashable) -> Download:
        """The transfer of a name, which `by` now wants: the one under way, or a new one."""
        with self._lock:
            download = self._latest.get(name)
            if download is None or download.state != "downloading" or not download.wanted_by:
                download = self._latest[name] = Download(name, fetch, self._changed)
                threading.Thread(target=download.run, name=f"download {name}", daemon=True).start()
            download.wanted_by.add(by)
        self._changed(download)
        return download

    def leave(self, download: Download, by: Hashable) -> None:
        """`by` wants it no longer; the last one to leave ends it."""
        with self._lock:
            download.wanted_by.discard(by)
            if not download.wanted_by:
                download.stop()

    def cancel(self, name: str) -> bool:
        """Ends a transfer for all who want it; False if there is none."""
        with self._lock:
            download = self._latest.get(name)
            if download is None or download.state != "downloading":
                return False
            download.wanted_by.clear()
            download.stop()
            return True

    def latest(self, name: str) -> Download | None:
        return self._latest.get(name)


downloads = Downloads(lambda download: host.push(EVENT, download.report()))


def progress_text(done: int, total: int | None) -> str:
    from ..sketch_core.hub import readable_size

    if not done:
        return "Downloading"
    return f"Downloading {readable_size(done)}" + (f" of {readable_size(total)}" if total else "")
