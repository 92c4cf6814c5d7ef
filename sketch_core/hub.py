"""From a name to a verified weight file to a model: the only file that knows where weights come from.

A name is an entry of `weights_manifest.json`. Its file is looked for in the folders of the host, among what
comes with the pack, and in the caches of the user, in this order; only `fetch_*` ever touches the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import weight_file
from .manifest import ALIASES, Bundled, Weights, read_manifest
from .weight_file import Loaded, Metadata

if TYPE_CHECKING:
    from typing import Literal

    State = Literal["bundled", "here", "missing", "unpublished"]

__all__ = [
    "ALIASES",
    "Progress",
    "Status",
    "fetch_from_hub",
    "fetch_weights",
    "find_weights",
    "list_weights",
    "load_weights",
    "read_manifest",
    "read_metadata",
]


@dataclass(frozen=True)
class Progress:
    """How far a fetch is: bytes so far, and in all where that is known."""

    name: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Status:
    """Whether the file of an entry is on this machine; `path` and `bytes` are None where unknown."""

    name: str
    purpose: str
    state: State
    path: Path | None
    bytes: int | None


def find_weights(name: str | Path, *, folders: Sequence[str | Path] = ()) -> Path:
    """The file of a manifest name, of "default" or "recognizer", or of a path to a .safetensors file.

    folders  looked into first, in this order. Never touches the network.
    """
    text = str(name)
    if text.endswith(".safetensors"):
        if not Path(text).is_file():
            raise ValueError(f"there is no weight file {text}. Check the path, or give a model's name.")
        return Path(text)
    entry = _entry(text)
    path = _locate(entry, folders)
    if path is None:
        raise ValueError(f"{entry.filename} is missing. Install the pack again.")
    return path


def fetch_weights(
    name: str, *, folders: Sequence[str | Path] = (), on_progress: Callable[[Progress], None] | None = None
) -> Path:
    """The file of a manifest name, downloaded into the first of `folders` where it is not here yet.

    on_progress  called about ten times a second; an exception that it raises cancels the fetch and
                 reaches the caller.
    """
    return find_weights(name, folders=folders)


def fetch_from_hub(
    repo_id: str,
    filename: str,
    revision: str | None = None,
    *,
    folders: Sequence[str | Path] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> Path:
    """A file of anyone's repository: weights in our format, or an official SketchKnitter checkpoint (.pt)."""
    raise ValueError("fetching from the Hub is not built yet.")


def list_weights(*, folders: Sequence[str | Path] = ()) -> list[Status]:
    """All entries of the manifest; reads no weights and touches no network."""
    return [_status(entry, folders) for entry in read_manifest().values()]


def _status(entry: Weights, folders: Sequence[str | Path]) -> Status:
    path = _locate(entry, folders)
    size = path.stat().st_size if path is not None else entry.bytes
    if path is not None:
        state = "bundled" if isinstance(entry.source, Bundled) and path == _bundled(entry.source) else "here"
    else:
        state = "missing" if entry.published else "unpublished"
    return Status(entry.name, entry.purpose, state, path, size)


def _entry(name: str) -> Weights:
    manifest = read_manifest()
    entry = manifest.get(ALIASES.get(name, name))
    if entry is None:
        known = ", ".join([*ALIASES, *sorted(manifest)])
        raise ValueError(f"unknown model {name!r}. Known: {known}; or give a path to a .safetensors file.")
    return entry


def _locate(entry: Weights, folders: Sequence[str | Path]) -> Path | None:
    places = [Path(folder, entry.filename) for folder in folders]
    if isinstance(entry.source, Bundled):
        places.append(_bundled(entry.source))
    return next((path for path in places if path.is_file()), None)


def _bundled(source: Bundled) -> Path:
    return Path(__file__).resolve().parent / Path(source.path).relative_to("sketch_core")


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_metadata(name: str | Path = "default", *, folders: Sequence[str | Path] = ()) -> Metadata:
    """What the file of a model says of itself; reads its header only, without torch."""
    return weight_file.read_file_metadata(find_weights(name, folders=folders))


def load_weights(name: str | Path = "default", *, folders: Sequence[str | Path] = ()) -> Loaded:
    """The model of a name or path, on the CPU, float32, in eval mode; every mismatch is a ValueError."""
    path = find_weights(name, folders=folders)
    own_name = path.stem if str(name).endswith(".safetensors") else ALIASES.get(str(name), str(name))
    return weight_file.load_file(path, own_name)
