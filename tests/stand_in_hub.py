"""A manifest with a model to download, and a fetch that waits until it may go on: for tests of nodes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from sketch_core.weight_file import write_weights
from tests.tiny import CONFIG, tiny_transformer

ROOT = Path(__file__).parents[1]
LARGE, SOON = "stroke_transformer.large", "stroke_transformer.soon"
HUB = {"kind": "hub", "repo_id": "someone/sketches", "filename": "large.safetensors", "revision": "0" * 40}


def drawing_model(path: Path) -> Path:
    """Writes a small model that loads and draws nothing anyone would hang on a wall."""
    lengths = [[0] * 10 + [5] * 10] * 3
    network = tiny_transformer(config=dataclasses.replace(CONFIG, width=128))
    write_weights(path, network, {"scale": 40.0, "classes": ["a", "b", "c"], "lengths": lengths})
    return path


@contextmanager
def stand_in_hub(pack, monkeypatch, folder: Path) -> Iterator[SimpleNamespace]:
    """Yields what steers the fetch: `go` lets it end, `error` is raised instead; `asked` is its arguments."""
    manifest = json.loads((ROOT / "weights_manifest.json").read_text("utf-8"))
    entry = manifest["stroke_transformer.quickdraw345"]
    model = drawing_model(folder / "model.safetensors")
    size, sha256 = model.stat().st_size, hashlib.sha256(model.read_bytes()).hexdigest()
    manifest[LARGE] = entry | {"source": HUB, "published": True, "bytes": size, "sha256": sha256}
    manifest[SOON] = entry | {"source": None, "published": False}
    file = folder / "weights_manifest.json"
    file.write_text(json.dumps(manifest))
    monkeypatch.setattr(pack.part("sketch_core.manifest"), "manifest_path", lambda: file)
    monkeypatch.setenv("SKETCHKNITTER_CACHE", str(folder / "cache"))
    state = SimpleNamespace(go=threading.Event(), asked=[], error=None, ended=threading.Event(), bytes=size)

    def fetch(*wanted, folders=(), on_progress=None, **given) -> Path:
        state.asked.append((*wanted, *filter(None, given.values())))
        try:
            while not state.go.wait(0.01):
                on_progress(SimpleNamespace(name=wanted[0], done=size // 2, total=size))
            if state.error:
                raise state.error
            return Path(shutil.copy(model, Path(folders[0], f"{LARGE}.safetensors")))
        finally:
            state.ended.set()

    for name in ("fetch_weights", "fetch_from_hub"):
        monkeypatch.setattr(pack.part("sketch_core.hub"), name, fetch)
    try:
        yield state
    finally:
        state.go.set()
        for thread in threading.enumerate():
            if thread.name.startswith("download "):
                thread.join(30)
