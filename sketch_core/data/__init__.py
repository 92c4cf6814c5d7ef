"""Drawings in files: sketch-rnn npz, Quick, Draw! ndjson and bin, fetching them, and batches to train on."""

from __future__ import annotations

from .binary import read_bin
from .fetch import fetch_class
from .files import read_sketches, write_sketches
from .ndjson import read_ndjson, write_ndjson
from .npz import read_npz, write_npz
from .records import DataError

__all__ = [
    "DataError",
    "fetch_class",
    "read_bin",
    "read_ndjson",
    "read_npz",
    "read_sketches",
    "write_ndjson",
    "write_npz",
    "write_sketches",
]
