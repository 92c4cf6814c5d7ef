"""What all tests share: hypothesis without a clock, so that a busy machine fails nothing; the loaded pack."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import settings

_cache = tempfile.TemporaryDirectory(prefix="sketchknitter-tests-")
os.environ["SKETCHKNITTER_CACHE"] = _cache.name  # what tests remember of weight files is not the user's

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """The pack in the fake ComfyUI; see `fake_comfyui.loaded_pack`."""
    from tests import fake_comfyui

    with fake_comfyui.loaded_pack(monkeypatch, tmp_path) as loaded:
        yield loaded
