"""What readers and writers of drawings share: an error that names the record, and files that appear whole.

A reader's `on_error` says what becomes of a record that cannot be read: "raise" ends the reading with a
`DataError`, "skip" leaves the record out, and a function is handed the error and the record is left out (so
it can be counted or shown). Damage that hides where the next record starts ends a stream after that one
error; a file of which nothing can be read (a broken zip) always raises.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import numpy as np

from ..strokes import QUICKDRAW_CANVAS

MAX_COORDINATE = 1e6  # canvas units; float32 holds a sixteenth up to there


class DataError(ValueError):
    """A file or a record of it cannot be read; the message names the file and the line or record."""


OnError = Literal["raise", "skip"] | Callable[[DataError], None]


def check_on_error(on_error: OnError) -> None:
    if on_error not in ("raise", "skip") and not callable(on_error):
        raise ValueError(f'on_error is {on_error!r}, wanted "raise", "skip" or a function of the error.')


def report(on_error: OnError, error: DataError) -> None:
    """Raise, forget or hand over `error`, as `on_error` says."""
    if on_error == "raise":
        raise error
    if callable(on_error):
        on_error(error)


def canvas_of(strokes: Sequence[np.ndarray]) -> tuple[float, float]:
    """The canvas of strokes (n, 2) from a file that names none: 255 x 255, or larger where they are."""
    if not strokes:
        return QUICKDRAW_CANVAS
    right, bottom = np.ceil(np.max([stroke.max(0) for stroke in strokes], 0)).tolist()
    return max(QUICKDRAW_CANVAS[0], right), max(QUICKDRAW_CANVAS[1], bottom)


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file to write that takes the place of `path` when the block ends well, and vanishes when not.

    An unwritable folder or a full disk is a ValueError of one sentence; what was at `path` stays as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        file = open(part, "xb")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _WRITING:
            raise unwritable(path, error) from error
        raise


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITING = (*_FULL, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EROFS)


def unwritable(path: Path, error: OSError) -> ValueError:
    """The one sentence for a folder that cannot be written to, or a disk that is full."""
    advice = "Free some space" if error.errno in _FULL else "Choose a folder that you can write to"
    return ValueError(f"cannot write {path}: {error.strerror or error}. {advice} and try again.")
