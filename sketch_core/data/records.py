"""What readers and writers of drawings share: an error that names the record, and files that appear whole.

A reader's `on_error` says what becomes of a record that cannot be read: "raise" ends the reading with a
`DataError`, "skip" leaves the record out, and a function is handed the error and the record is left out (so it
can be counted or shown). Damage that hides where the next record starts is always raised.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal


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
        raise _unwritable(path, error) from error
    try:
        with file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _WRITING:
            raise _unwritable(path, error) from error
        raise


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITING = (*_FULL, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EROFS)


def _unwritable(path: Path, error: OSError) -> ValueError:
    advice = "Free some space" if error.errno in _FULL else "Choose a folder that you can write to"
    return ValueError(f"cannot write {path}: {error.strerror or error}. {advice} and try again.")
