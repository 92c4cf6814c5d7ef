"""A copy of the pack whose manifest has models to download from a Hub on loopback.

The pack in use knows no such models, and has no switch that would make it: so tests change a copy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from tests.hub_server import FakeHub

ROOT = Path(__file__).parents[2]
PARTS = ("nodes", "sketch_core", "web", "weights_manifest.json", "__init__.py")
EMBEDDED = "stroke_transformer.quickdraw345"
REPOSITORY = "someone/sketches"
SOON = "stroke_transformer.soon"  # not published


def copy_pack(folder: Path) -> Path:
    """The parts of the pack that a user needs, in `folder`."""
    folder.mkdir(parents=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


def publish(hub: FakeHub, pack: Path, *names: str) -> bytes:
    """Puts the embedded model on the Hub once more under each name, and into the manifest of the copy."""
    manifest = json.loads((pack / "weights_manifest.json").read_text("utf-8"))
    entry = manifest[EMBEDDED]
    content = (pack / entry["source"]["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    commit = hub.add(REPOSITORY, {f"{name}.safetensors": content for name in names})
    for name in names:
        source = {"kind": "hub", "repo_id": REPOSITORY, "filename": f"{name}.safetensors", "revision": commit}
        manifest[f"stroke_transformer.{name}"] = entry | {"source": source, "published": True}
    unknown = {"source": None, "verified": False, "sha256": None, "bytes": None}
    manifest[SOON] = entry | unknown
    (pack / "weights_manifest.json").write_text(json.dumps(manifest, indent=2))
    return content
