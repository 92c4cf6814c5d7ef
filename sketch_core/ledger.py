"""What this machine remembers of weight files: which were checked, and what the first download of one had.

Two kinds of notes, one small JSON file each, in the user's cache folder:
  checked   a path with its size and modification time -> its sha256, so that a file is hashed once;
  pinned    a file name -> the sha256 and the commit of its first download, checked from then on.
A note appears whole or not at all, so any number of processes may write. Notes that cannot be written are
kept for as long as the process lives. Deleting the folder costs hashing again, and trusting a first download
again.

Limits: a file that changes under the same size and modification time is not noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .data.records import replacing

CHUNK = 1 << 20
_in_memory: dict[Path, dict[str, Any]] = {}


def cache_folder() -> Path:
    """Where the library keeps files of its own: SKETCHKNITTER_CACHE, or sketchknitter in the user's cache."""
    named = os.environ.get("SKETCHKNITTER_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sketchknitter")


def sha256_of(path: str | Path, on_progress: Callable[[int], None] | None = None) -> str:
    """The sha256 of a file, read anew; on_progress hears how many bytes are read."""
    digest, done = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done)
    return digest.hexdigest()


def checked_sha256(path: Path) -> str:
    """The sha256 of a file, read from it only when its size or modification time is not the noted one."""
    note, stamp = _note("checked", _absolute(path)), _stamp(path)
    known = _read(note)
    if known.get("stamp") == stamp and isinstance(known.get("sha256"), str):
        return known["sha256"]
    found = sha256_of(path)
    if _stamp(path) == stamp:  # else it changed while it was read: look again next time
        _write(note, {"path": _absolute(path), "stamp": stamp, "sha256": found})
    return found


def remember_checked(path: Path, sha256: str) -> None:
    """Notes what a file that was just written has."""
    note = {"path": _absolute(path), "stamp": _stamp(path), "sha256": sha256}
    _write(_note("checked", _absolute(path)), note)


def pinned(filename: str) -> Mapping[str, Any]:
    """What the first download under this file name had (see `pin`); empty where there was none."""
    found = _read(_note("pinned", filename))
    texts = all(isinstance(value, str) for value in found.values())
    return found if texts and found.get("filename") == filename else {}


def pin(filename: str, **facts: str) -> None:
    """Notes facts of a first download: sha256 of the file kept, source_sha256, revision, url."""
    _write(_note("pinned", filename), {"filename": filename, **facts})


def unpin(filename: str) -> None:
    """Forgets a first download, so that the next one is a first one."""
    note = _note("pinned", filename)
    _in_memory.pop(note, None)
    with contextlib.suppress(OSError):
        note.unlink()


def _stamp(path: Path) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _absolute(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _note(kind: str, subject: str) -> Path:
    name = hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()[:32]
    return cache_folder() / kind / f"{name}.json"


def _read(note: Path) -> dict[str, Any]:
    if note in _in_memory:
        return _in_memory[note]
    try:
        found = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(note: Path, facts: dict[str, Any]) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note) as file:
            file.write(json.dumps(facts).encode())
        _in_memory.pop(note, None)
    except (OSError, ValueError):  # a home that cannot be written, a full disk
        _in_memory[note] = facts
