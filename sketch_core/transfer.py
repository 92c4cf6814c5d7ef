"""Bytes of one address into one file: progress, cancel, continuing, and every failure a sentence.

Requests go through the session of huggingface_hub (its proxies, certificates, offline mode, and a client that
the user configured), read here in small pieces: its own download reports every 10 MB, cannot be stopped in
between, and tries for 23 s before it says that there is no network.

The transfer runs in a thread of its own and the caller waits for it, so that a server which has gone silent
holds nobody up: a transfer that is told to stop writes nothing more, and ends when its socket does.

Limits: one connection; no huggingface_hub "xet" transfers, whose servers answer plain HTTP as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .data.records import replacing, unwritable

CONNECT_SECONDS = 5.0  # for one address of the host
ANSWER_SECONDS = 10.0  # for the first answer of the host, whatever its addresses do
POLL_SECONDS = 0.1  # between two calls of on_progress
CHUNK = 1 << 15  # bytes asked of the socket at a time
TRIES = 3  # in a row without a new byte, after a transfer broke off
HEAD = 9  # bytes that `check_start` wants to see


@dataclass(frozen=True)
class Request:
    """What to get, and what is known of it before.

    name         how errors call it.
    url          where it is.
    headers      of the request; called in the transfer's thread, for huggingface_hub asks its Hub for some.
    by_hand      a sentence: how the user gets the file without us.
    on_hub       whether the answer must come from a Hub, which names the commit.
    bytes, sha256  what it must be, or None; sha256_by: who says so; otherwise: a sentence, what to do where
                 it has another sha256.
    copies       how many such files the folder must have room for: two, where it is converted there.
    check_start  raises on first bytes that cannot be what is wanted.
    """

    name: str
    url: str
    headers: Callable[[], Mapping[str, str]]
    by_hand: str
    on_hub: bool = False
    bytes: int | None = None
    copies: int = 1
    sha256: str | None = None
    sha256_by: str = "you"
    otherwise: str = ""
    check_start: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class Received:
    """What came: `commit` and `etag` as the Hub says, or None."""

    bytes: int
    sha256: str
    commit: str | None
    etag: str | None


def receive(request: Request, part: Path, on_progress: Callable[[int, int | None], None]) -> Received:
    """Fills `part` with the bytes of the request, going on where an earlier call broke off.

    on_progress  called ten times a second with bytes so far and in all; an exception that it raises ends the
                 transfer, removes `part` and reaches the caller.
    What is wrong with the bytes, or with the way to them, is a ValueError of one sentence. A transfer that
    breaks off leaves `part` to be continued; wrong bytes are removed.
    """
    transfer = _Transfer(request, part)
    thread = threading.Thread(target=transfer.run, name=f"fetching {request.name}", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            if transfer.waiting_since is not None and transfer.waits() > ANSWER_SECONDS:
                raise ValueError(transfer.unreachable("no answer"))
            if transfer.error is None:
                _report(transfer, on_progress)
        if transfer.error is not None:
            raise transfer.error
    except BaseException:
        transfer.stop()
        if not transfer.done:
            discard(part)
        raise
    return transfer.received


def leftover(part: Path) -> tuple[int, int | None]:
    """Bytes of a part that are there, and in all where that is known; for those who wait for another's."""
    with contextlib.suppress(OSError):
        return part.stat().st_size, _state(part).get("total")
    return 0, None


def pause() -> None:
    """For those who wait for another's transfer."""
    time.sleep(POLL_SECONDS)


def discard(part: Path) -> None:
    """Removes a part and what is noted beside it."""
    for path in (part, _state_path(part)):
        with contextlib.suppress(OSError):
            path.unlink()


def _report(transfer: _Transfer, on_progress: Callable[[int, int | None], None]) -> None:
    try:
        on_progress(transfer.done, transfer.total)
    except Exception:  # not Ctrl-C: who runs the command again goes on
        transfer.stop()
        discard(transfer.part)
        raise


class _Broken(Exception):
    """The connection failed; the transfer may go on with another one."""


class _Stopped(Exception):
    """The caller has gone."""


@dataclass
class _Transfer:
    request: Request
    part: Path
    done: int = 0
    total: int | None = None
    answered: bool = False
    waiting_since: float | None = None  # until the first answer
    error: BaseException | None = None
    received: Received | None = None
    commit: str | None = None
    etag: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)
    stopping: threading.Event = field(default_factory=threading.Event)
    writing: threading.Lock = field(default_factory=threading.Lock)

    # ---- the caller's side

    def stop(self) -> None:
        """After this no byte more is written."""
        with self.writing:
            self.stopping.set()

    def waits(self) -> float:
        return time.monotonic() - (self.waiting_since or math.inf)

    # ---- the thread's side

    def run(self) -> None:
        try:
            self._check_place()
            with self._ours(), open(self.part, "ab"):  # it is there from now on, so that others see it grow
                pass
            self._take_up()
            self._try_until_whole()
            self._check_whole()
            self.received = Received(self.done, self.digest.hexdigest(), self.commit, self.etag)
        except _Stopped:
            pass
        except OSError as error:
            with contextlib.suppress(_Stopped), self._ours():
                discard(self.part)
            self.error = unwritable(self.part, error)
        except BaseException as error:  # handed to the caller
            self.error = error

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """While the caller waits; after it has gone, the part is the next transfer's."""
        with self.writing:
            if self.stopping.is_set():
                raise _Stopped
            yield

    def _empty(self) -> None:
        with self._ours():
            discard(self.part)
            open(
                self.part, "wb"
            ).close()  # where another thread still has it open, Windows does not unlink it

    def _check_place(self) -> None:
        if self.part.exists() and not self.part.is_file():
            raise ValueError(f"{self.part} is in the way. Remove it and try again.")

    def _take_up(self) -> None:
        """Reads what an earlier transfer left."""
        state = _state(self.part)
        if state.get("url") != self.request.url:
            self._empty()
            return
        with open(self.part, "rb") as file:
            while chunk := file.read(1 << 20):
                if self.stopping.is_set():
                    raise _Stopped
                self.digest.update(chunk)
                self.done += len(chunk)
        self.etag, self.commit, self.total = state.get("etag"), state.get("commit"), state.get("total")

    def _try_until_whole(self) -> None:
        failures, farthest = 0, self.done
        self.waiting_since = time.monotonic()
        if self.total is None or self.done != self.total:
            self.headers = self.request.headers()
        while self.total is None or self.done != self.total:
            try:
                if self._once():
                    return
            except _Broken as broken:
                failures = 1 if self.done > farthest else failures + 1
                farthest = max(self.done, farthest)
                if not self.answered and failures > 1:  # the first may have been a connection gone stale
                    raise ValueError(self.unreachable(str(broken))) from broken.__cause__
                if failures > TRIES:
                    of = f" of {self.total}" if self.total is not None else ""
                    raise ValueError(
                        f"{self.request.name} broke off after {self.done}{of} bytes ({broken}). "
                        f"Fetch it again: it goes on where it stopped."
                    ) from broken.__cause__
                if self.stopping.wait(0.25 * 2**failures if self.answered else 0.0):
                    raise _Stopped from None

    def _once(self) -> bool:
        """One connection, until its end; True when nothing more is to come."""
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
        with _opened(self.request.url, headers) as (response, chunks):
            if response.status_code == 416 and self.done:  # more is here than there
                self._start_again()
                return False
            self._check_answer(response)
            etag, commit, total = _described(response)
            if self.request.on_hub and commit is None:
                self._refuse("came without the name of a commit, so not from a Hub (see HF_ENDPOINT)")
            if self.done and (response.status_code != 206 or (self.etag, self.total) != (etag, total)):
                self._start_again()
                if response.status_code == 206:  # the rest of another file
                    return False
            self.etag, self.commit, self.total = etag, commit, total
            self._check_total()
            self._write_state()
            self._write_body(chunks)
        if self.total is None:
            self.total = self.done
        return self.done == self.total

    def _write_body(self, chunks: Iterator[bytes]) -> None:
        head = b"" if not self.done else None
        with open(self.part, "ab", buffering=0) as file:
            for chunk in chunks:
                if head is not None:
                    head += chunk[:HEAD]
                    if len(head) >= HEAD:
                        self._check_head(head)
                        head = None
                with self._ours():
                    file.write(chunk)
                self.digest.update(chunk)
                self.done += len(chunk)
                if self.total is not None and self.done > self.total:
                    self._refuse(f"is longer than the {self.total} bytes that were announced")
        if head:
            self._check_head(head)
        if self.total is not None and self.done < self.total:
            raise _Broken("the connection was cut")

    def _start_again(self) -> None:
        self._empty()
        self.done, self.digest = 0, hashlib.sha256()

    # ---- checks

    def _check_answer(self, response: Any) -> None:
        from huggingface_hub.utils import hf_raise_for_status

        self.answered, self.waiting_since = True, None
        try:
            hf_raise_for_status(response)
        except Exception as error:  # the library's many classes, of two HTTP libraries
            raise ValueError(_refusal(self.request, response, error)) from error
        kind = response.headers.get("Content-Type", "")
        if kind.startswith(("text/html", "application/xhtml")):
            self._refuse_page()

    def _check_total(self) -> None:
        if self.total is None:
            return
        if self.request.bytes not in (None, self.total):
            self._refuse(f"has {self.total} bytes, wanted {self.request.bytes}")
        free = shutil.disk_usage(self.part.parent).free
        needed = self.total * self.request.copies - self.done
        if needed > free:
            with self._ours():
                discard(self.part)
            raise ValueError(
                f"{self.request.name} takes {needed >> 20} MiB and {free >> 20} MiB are free "
                f"in {self.part.parent.parent}. Free some space and try again."
            )

    def _check_head(self, head: bytes) -> None:
        if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
            self._refuse_page()
        if self.request.check_start is not None:
            try:
                self.request.check_start(head)
            except ValueError as error:
                self._refuse(str(error))

    def _check_whole(self) -> None:
        found = self.digest.hexdigest()
        if self.part.stat().st_size != self.done:
            self._refuse("was changed while it arrived")
        if self.request.bytes not in (None, self.done):
            self._refuse(f"has {self.done} bytes, wanted {self.request.bytes}")
        if self.request.sha256 not in (None, found):
            known = f"{self.request.sha256_by} says {self.request.sha256[:12]}…"
            self._refuse(f"is another file: its sha256 is {found[:12]}…, {known}", self.request.otherwise)
        known_by_etag = self.request.on_hub and self.request.sha256 is None and self.etag
        if known_by_etag and not _fits_etag(self.part, found, self.etag):
            self._refuse(f"arrived damaged: it is not the file that the Hub calls {self.etag[:12]}…")
        with open(self.part, "rb+") as file:
            os.fsync(file.fileno())

    def _refuse_page(self) -> None:
        self._refuse("is a web page instead of weights: something between here and there, a login perhaps")

    def _refuse(self, why: str, advice: str = "") -> None:
        with self._ours():
            discard(self.part)
        kept = f"Nothing of it was kept. {advice}".strip()
        raise ValueError(f"{self.request.name} from {self.request.url} {why}. {kept}")

    def unreachable(self, reason: str) -> str:
        host = urlsplit(self.request.url).hostname
        return f"cannot reach {host} for {self.request.name} ({reason}). {self.request.by_hand}"

    def _write_state(self) -> None:
        facts = {"url": self.request.url, "etag": self.etag, "commit": self.commit, "total": self.total}
        with self._ours():
            with replacing(_state_path(self.part)) as file:
                file.write(json.dumps(facts).encode())


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _state(part: Path) -> dict[str, Any]:
    try:
        found = json.loads(_state_path(part).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# ---- the two HTTP libraries that huggingface_hub has used -------------------------------------------


@contextmanager
def _opened(url: str, headers: Mapping[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """The answer to a GET, redirects followed (no token goes to another host), and its bytes as they come."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    session, silence = get_session(), constants.HF_HUB_DOWNLOAD_TIMEOUT
    with contextlib.ExitStack() as stack:
        try:
            if callable(getattr(session, "stream", None)):  # httpx: 1.0 and later
                timeout = (CONNECT_SECONDS, silence, silence, CONNECT_SECONDS)
                made = session.stream("GET", url, headers=headers, follow_redirects=True, timeout=timeout)
                response = stack.enter_context(made)
                chunks = response.iter_bytes()
            else:  # requests
                timeout = (CONNECT_SECONDS, silence)
                made = session.get(url, headers=headers, stream=True, timeout=timeout)
                response = stack.enter_context(made)
                chunks = response.iter_content(CHUNK)
        except Exception as error:  # either library has its own family
            raise _Broken(_in_short(error)) from error
        yield response, _read(chunks)


def _read(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Exception as error:  # as above; what the reader of these chunks raises does not pass here
        raise _Broken(_in_short(error)) from error


def _in_short(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    seen = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    text = getattr(seen, "strerror", None) or str(seen) or type(seen).__name__
    text = re.sub(r"(\s+for url:?)?\s*['\"]?https?://\S+", "", text)  # storage addresses are signed
    return " ".join(re.sub(r"^\[.*?\]\s*", "", text).split())[:120]


def _described(response: Any) -> tuple[str | None, str | None, int | None]:
    """(etag, commit, size) of an answer: the Hub says them before it sends the reader on to its storage."""
    chain = [*response.history, response]
    said = next((r.headers for r in reversed(chain) if r.headers.get("X-Repo-Commit")), response.headers)
    etag = (said.get("X-Linked-Etag") or said.get("ETag") or "").removeprefix("W/").strip('"') or None
    size = said.get("X-Linked-Size") or _length(response)
    return etag, said.get("X-Repo-Commit"), int(size) if size and size.isdecimal() else None


def _length(response: Any) -> str | None:
    if response.status_code == 206:
        return response.headers.get("Content-Range", "").rpartition("/")[2]
    return response.headers.get("Content-Length")


def _fits_etag(part: Path, sha256: str, etag: str) -> bool:
    """The Hub's ETag is the sha256 of a large file, and git's name of a small one; others say nothing."""
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return etag == sha256
    if re.fullmatch(r"[0-9a-f]{40}", etag):
        digest = hashlib.sha1(b"blob %d\0" % part.stat().st_size, usedforsecurity=False)
        digest.update(part.read_bytes())
        return digest.hexdigest() == etag
    return True


def _refusal(request: Request, response: Any, error: Exception) -> str:
    """The sentence for an answer that is not the file."""
    code, status = response.headers.get("X-Error-Code"), response.status_code
    host = urlsplit(str(response.url)).hostname
    name, site = request.name, urlsplit(request.url)
    if code == "GatedRepo":
        page = "{0.scheme}://{0.netloc}{1}".format(site, site.path.partition("/resolve/")[0])
        return f"{name} is behind terms of use. Accept them at {page}, then log in with `hf auth login`."
    if code == "RevisionNotFound":
        return f"{name}: the repository has no such revision. Check it, or leave it out."
    if code == "EntryNotFound":
        return f"{name}: the repository has no such file. Check its name."
    if code == "RepoNotFound" or status == 401:
        return (
            f"{name}: there is no such repository, or it is private. "
            f"Check its name, or log in with `hf auth login`."
        )
    if status == 403:
        return f"{name}: {host} does not give it to you (403). Log in with `hf auth login`, or ask its owner."
    if status in (404, 410):
        return f"{name}: {host} has no such file ({status}). Check its name."
    if status == 429:
        return f"{name}: {host} says that there were too many requests (429). Try again {_later(response)}."
    if status >= 500:
        return f"{name}: {host} is in trouble ({status}). Try again {_later(response)}. {request.by_hand}"
    return f"{name}: {host} answered {status} ({_in_short(error)}). {request.by_hand}"


def _later(response: Any) -> str:
    seconds = response.headers.get("Retry-After", "")
    return f"in {seconds} s" if seconds.isdecimal() else "later"
