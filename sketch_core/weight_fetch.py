"""Getting a weight file that is not here: one transfer for all who want it, checked before it has its name.

What is on its way lies in `.incomplete` beside its place, under names that nothing takes for weights.

Limits: while a checkpoint is converted, nobody can cancel; for 2 GB that is some seconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from . import checkpoints, ledger, transfer, weight_file
from .data.records import replacing, unwritable
from .manifest import COMMIT, Hub
from .weight_source import (
    Target,
    accepting,
    address,
    another_file,
    by_hand,
    check,
    check_content,
    downloaded_by_hand,
    in_hub_cache,
    own_folder,
)

INCOMPLETE = ".incomplete"
AGENT = "sketchknitter"


@dataclass(frozen=True)
class Progress:
    """How far a fetch is: bytes so far, and in all where that is known."""

    name: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


def fetch(
    target: Target,
    folders: Sequence[str | Path],
    on_progress: OnProgress | None,
    *,
    scale: float | None = None,
    label: str | None = None,
) -> Path:
    """The file of a target, in the first of the folders; see `hub.fetch_weights`."""

    def report(done: int, total: int | None) -> None:
        if on_progress is not None:
            on_progress(Progress(target.name, done, total or target.bytes))

    folder = Path(folders[0]) if folders else own_folder()
    path, part = folder / target.filename, folder / INCOMPLETE / f"{target.filename}.part"
    with _alone(part, report):
        if path.is_file():  # whom we waited for has it
            return check(target, path)
        pinned = ledger.pinned(target.filename)
        first = pinned.get("source_sha256") or (None if target.pickled else pinned.get("sha256"))
        wanted = target.sha256 or first
        raw = downloaded_by_hand(target, folders) or in_hub_cache(target)
        if raw is not None:
            size, commit = raw.stat().st_size, pinned.get("revision") or _cached_commit(raw)
            found = ledger.sha256_of(raw, lambda done: report(done, size))
            if wanted not in (None, found):
                raise ValueError(another_file(target, raw, found, wanted))
        else:
            _refuse_offline(target, folder)
            request = _request(target, folder, first)
            received = transfer.receive(request, part, report)
            raw, found, commit = part, received.sha256, received.commit or ""
        facts = {"name": target.name, "source_sha256": found, "revision": commit}
        try:
            _settle(target, raw, path, facts, scale, label)
        except ValueError as error:
            if not _about_writing(error):  # else what has arrived is good, and is used next time
                transfer.discard(part)
            raise
        transfer.discard(part)
    return path


def _about_writing(error: ValueError) -> bool:
    return isinstance(error.__cause__, OSError)


def _settle(
    target: Target, raw: Path, path: Path, facts: Mapping[str, str], scale: float | None, label: str | None
) -> None:
    """Puts bytes that are what they should be into their place, as safetensors, and notes what they are."""
    ready = path.parent / INCOMPLETE / f"{target.filename}.ready"
    for left in ready.parent.iterdir() if ready.parent.is_dir() else ():  # by a process that was killed
        if left.name.startswith(f".{ready.name}.") and left.suffix == ".part":
            with contextlib.suppress(OSError):
                left.unlink()
    try:
        with _named(target, ready, raw):
            if not target.pickled:
                ready = raw if raw.suffix == ".part" else _copied(raw, ready)
            elif target.architecture is None:
                notes = {"source": target.name, "source_sha256": facts["source_sha256"]}
                checkpoints.convert_official(raw, ready, notes=notes, scale=scale, label=label)
            else:
                notes = {"source": target.name, "source_sha256": facts["source_sha256"]}
                checkpoints.convert(raw, ready, notes=notes)
            check_content(target, ready)
        found = ledger.sha256_of(ready) if target.pickled else facts["source_sha256"]
        ledger.pin(target.filename, sha256=found, **facts)
        try:
            os.replace(ready, path)
        except OSError as error:
            raise unwritable(path, error) from error
        ledger.remember_checked(path, found)
    finally:
        if ready != raw:
            ready.unlink(missing_ok=True)


def _copied(raw: Path, ready: Path) -> Path:
    """A copy: what lies in the cache of all users of huggingface_hub stays there."""
    with replacing(ready) as file, open(raw, "rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)
    return ready


def _cached_commit(raw: Path) -> str:
    """The commit of a file in huggingface_hub's cache (.../snapshots/COMMIT/FILE), or nothing."""
    after = (name for before, name in pairwise(raw.parts) if before == "snapshots")
    return next((name for name in after if COMMIT.fullmatch(name)), "")


@contextmanager
def _named(target: Target, *paths: Path) -> Iterator[None]:
    """Errors about a file that is not in its place call it by the name that the user knows."""
    try:
        yield
    except ValueError as error:
        if _about_writing(error):
            raise
        text = str(error)
        for path in paths:
            text = text.replace(str(path), target.source.filename).replace(path.name, target.source.filename)
        raise ValueError(f"{target.name} cannot be used: {text} Nothing of it was kept.") from error


@contextmanager
def _alone(part: Path, report: Callable[[int, int | None], None]) -> Iterator[None]:
    """Only one process or thread at a time gets past here for a file; the others wait and report."""
    from filelock import FileLock

    lock = FileLock(part.with_name(part.name.removesuffix(".part") + ".lock"))
    while not _acquired(lock, part.parent):
        report(*transfer.leftover(part))
        transfer.pause()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()
        with contextlib.suppress(OSError):  # only where it is empty
            part.parent.rmdir()


def _acquired(lock, folder: Path) -> bool:
    from filelock import Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):  # somebody has it, or has just removed the empty folder
        return False
    except NotImplementedError as error:
        raise ValueError(
            f"the file system of {folder.parent} has no locks, which a download needs. Choose another folder."
        ) from error
    except OSError as error:
        raise unwritable(folder, error) from error
    if _is_ours(lock):
        return True
    lock.release()
    return False


def _is_ours(lock) -> bool:
    """Whether the file that is locked still has its name, which the one who had it before takes from it."""
    held = getattr(getattr(lock, "_context", None), "lock_file_fd", None)
    held = getattr(lock, "_lock_file_fd", None) if held is None else held  # filelock before 3.11
    if os.name == "nt" or held is None:
        return True
    try:
        return os.path.samestat(os.fstat(held), os.stat(lock.lock_file))
    except FileNotFoundError:
        return False


def _refuse_offline(target: Target, folder: Path) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ValueError(
            f"{target.name} is not here, and HF_HUB_OFFLINE forbids to fetch it. {by_hand(target, folder)}"
        )


def _request(target: Target, folder: Path, first: str | None) -> transfer.Request:
    """first: the sha256 of the first download on this machine, or None."""
    on_hub = isinstance(target.source, Hub)
    return transfer.Request(
        name=target.name,
        url=address(target),
        headers=_headers_for_hub if on_hub else lambda: {"User-Agent": AGENT},
        by_hand=by_hand(target, folder),
        on_hub=on_hub,
        bytes=target.bytes,
        copies=2 if target.pickled else 1,
        sha256=target.sha256 or first,
        sha256_by="the manifest" if target.sha256 else "the first download here",
        otherwise=""
        if target.sha256
        else f"To take it: `{accepting(target.filename)}`, then fetch it again.",
        check_start=checkpoints.check_start if target.pickled else weight_file.check_start,
    )


def _headers_for_hub() -> Mapping[str, str]:
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers(library_name=AGENT)
