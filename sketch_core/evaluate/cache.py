"""Features of the training drawings, kept on disk: to measure all of them takes longer than to draw.

A file is named by the sha256 of what it follows from: the class's drawings, the judge's weights, the size of
the pictures. Code changes, too: before a file is believed, a few of its drawings are measured anew and must
come out the same (`measuring.py`). A file that cannot be read is made anew, a folder that cannot be written
is done without; of more than MAX_BYTES the files unused for longest are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..data.records import replacing
from ..hub import sha256_of

MAX_BYTES = 1 << 30  # of all files; the deep classes take 120 MB a judge


class FeatureCache:
    """Features (n, D) float32 and pictures (n, P) uint8 of a file's training drawings, as one judge sees.

    folder  where they are kept;  judge  sha256 of its weights;  picture  size and line of the pictures.
    """

    def __init__(self, folder: str | Path, *, judge: str, picture: tuple[float, ...] = ()) -> None:
        self.folder, self.judge, self.picture = Path(folder), judge, picture

    def find(self, drawings: Path) -> tuple[np.ndarray, np.ndarray] | None:
        path = self._path(drawings)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                features, pictures = file["features"], file["pictures"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or damaged
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        sound = features.dtype == np.float32 and pictures.dtype == np.uint8 and len(features) == len(pictures)
        return (features, pictures) if sound else None

    def keep(self, drawings: Path, features: np.ndarray, pictures: np.ndarray) -> None:
        path = self._path(drawings)
        buffer = io.BytesIO()
        np.savez(buffer, features=features, pictures=pictures)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(buffer.getbuffer())
            self._make_room()
        except (OSError, ValueError):  # a full disk, a folder of somebody else
            return

    def _make_room(self) -> None:
        files = sorted(self.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > MAX_BYTES:
                path.unlink(missing_ok=True)

    def _path(self, drawings: Path) -> Path:
        facts = [file_sha256(drawings), self.judge, *self.picture]
        return self.folder / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:40]}.npz"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read once as long as it does not change."""
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: str, size: int, modified: int) -> str:
    return sha256_of(Path(path))
