"""Drawings in files: sketch-rnn npz, Quick, Draw! ndjson and bin, and fetching them."""

from __future__ import annotations

from .npz import read_npz, write_npz
from .records import DataError

__all__ = ["DataError", "read_npz", "write_npz"]
