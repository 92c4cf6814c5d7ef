"""From a name to a verified weight file to a model: what the rest of the library asks for weights.

A name is an entry of `weights_manifest.json`. Its file is looked for in the folders of the host, among what
comes with the pack, in the user's cache, and in the cache of the Hugging Face Hub, in this order. Only
`fetch_*` ever touches the network, and only for a file that is in none of these places.

A file is checked before it is first used: against the manifest, or where nobody of the project has seen its
bytes, against the first download on this machine (`ledger.py`). Weights that are pickles at their source are
converted when they arrive (`checkpoints.py`), so what lies in a folder is always safetensors.

Limits: HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN are huggingface_hub's to read, when it is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from . import checkpoints, ledger, weight_file
from .ledger import sha256_of
from .manifest import (
    ALIASES,
    Bundled,
    Hub,
    Url,
    Weights,
    check_filename,
    check_repository,
    check_revision,
    read_manifest,
)
from .weight_fetch import OnProgress, Progress, fetch
from .weight_file import Loaded, Metadata
from .weight_source import (
    SUFFIX,
    Target,
    bundled,
    changed_since,
    check,
    check_fetched,
    file_at,
    in_folders,
    local_name,
    locate,
    missing,
    own_folder,
    problem,
    readable_size,
    target_of,
)

if TYPE_CHECKING:
    from typing import Literal

    State = Literal["bundled", "here", "missing", "unpublished"]

__all__ = [
    "Checked",
    "Progress",
    "Status",
    "fetch_from_hub",
    "fetch_weights",
    "find_weights",
    "list_weights",
    "load_weights",
    "read_metadata",
    "readable_size",
    "sha256_of",
    "verify_weights",
]


@dataclass(frozen=True)
class Status:
    """Whether the file of an entry is on this machine; `path` and `bytes` are None where unknown."""

    name: str
    purpose: str
    state: State
    path: Path | None
    bytes: int | None


@dataclass(frozen=True)
class Checked:
    """What `verify_weights` found: `problem` is None where the file is what it should be.

    sha256  empty where the file could not be read.
    """

    name: str
    path: Path
    sha256: str
    problem: str | None


# ---- finding, without the network -------------------------------------------------------------------


def find_weights(name: str | Path, *, folders: Sequence[str | Path] = ()) -> Path:
    """The checked file of a manifest name, of "default" or "recognizer", or of a path to a .safetensors file.

    folders  looked into first, in this order. Never touches the network; a missing file is a ValueError that
             says where it can be had and where to put it.
    """
    text = str(name)
    if text.endswith(SUFFIX):
        return check_fetched(file_at(text, folders))
    entry = _entry(text)
    path = locate(entry, folders)
    if path is None:
        raise ValueError(missing(entry, folders))
    return check(target_of(entry), path) if entry.source is not None else path  # None: a user's own


def list_weights(*, folders: Sequence[str | Path] = ()) -> list[Status]:
    """All entries of the manifest; reads no weights and touches no network."""
    return [_status(entry, folders) for entry in read_manifest().values()]


def verify_weights(*, folders: Sequence[str | Path] = ()) -> list[Checked]:
    """Hashes everything anew that is here: files of the manifest, and what came from other repositories."""
    found = []
    for entry in read_manifest().values():
        path = locate(entry, folders)
        if path is not None:
            found.append(_verified(entry.name, path, target_of(entry) if entry.source is not None else None))
    known = {checked.path for checked in found}
    for folder in [*map(Path, folders), own_folder()]:
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
            if path not in known and ledger.pinned(path.name):
                found.append(_verified(path.stem, path, None))
    return found


def load_weights(name: str | Path = "default", *, folders: Sequence[str | Path] = ()) -> Loaded:
    """The model of a name or path, on the CPU, float32, in eval mode; every mismatch is a ValueError."""
    path = find_weights(name, folders=folders)
    own_name = path.stem if str(name).endswith(SUFFIX) else ALIASES.get(str(name), str(name))
    return weight_file.load_file(path, own_name)


def read_metadata(name: str | Path = "default", *, folders: Sequence[str | Path] = ()) -> Metadata:
    """What the file of a model says of itself; reads its header only, unchecked, and without torch."""
    text = str(name)
    if text.endswith(SUFFIX):
        return weight_file.read_file_metadata(file_at(text, folders))
    entry = _entry(text)
    path = locate(entry, folders)
    if path is None:
        raise ValueError(missing(entry, folders))
    return weight_file.read_file_metadata(path)


# ---- fetching -----------------------------------------------------------------------------------------


def fetch_weights(
    name: str, *, folders: Sequence[str | Path] = (), on_progress: OnProgress | None = None
) -> Path:
    """The file of a manifest name, downloaded into the first of `folders` where it is not here yet.

    on_progress  called ten times a second, in the caller's thread; an exception that it raises cancels the
                 fetch and reaches the caller.
    Without folders a download goes into the user's cache. Two that want one file share one transfer.
    """
    entry = _entry(name)
    if locate(entry, folders) is not None or not isinstance(entry.source, Hub | Url):
        return find_weights(entry.name, folders=folders)
    return fetch(target_of(entry), folders, on_progress)


def fetch_from_hub(
    repo_id: str,
    filename: str,
    revision: str | None = None,
    *,
    folders: Sequence[str | Path] = (),
    on_progress: OnProgress | None = None,
    scale: float | None = None,
    label: str | None = None,
) -> Path:
    """A file of anyone's repository: weights in our format, or an official SketchKnitter checkpoint (.pt).

    revision      a commit, branch or tag. The commit that the first download of a file meets, and its hash,
                  are written down on this machine and used from then on; another revision is another file.
    scale, label  what a checkpoint does not say, see `checkpoints.convert_official`; with others it becomes
                  another file.
    """
    check_repository(repo_id)
    check_filename(filename)
    source = Hub(repo_id, filename)
    if revision is not None:
        check_revision(revision)
    suffix = PurePosixPath(filename).suffix.lower()
    if suffix != SUFFIX and suffix not in checkpoints.SUFFIXES:
        raise ValueError(
            f"{filename!r} is neither a {SUFFIX} file nor a checkpoint "
            f"({', '.join(checkpoints.SUFFIXES)}). Give the name of the weights in {repo_id}."
        )
    if suffix == SUFFIX and (scale is not None or label):
        raise ValueError(f"scale and label are for checkpoints; {filename!r} says its own. Leave them out.")
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale:g}, wanted canvas units per model unit, above 0.")
    name = f"{repo_id}/{filename}" + (f"@{revision}" if revision else "")
    target = Target(name, local_name(repo_id, filename, revision, scale, label), source, revision=revision)
    path = in_folders(target.filename, folders)
    if path is not None:
        return check(target, path)
    return fetch(target, folders, on_progress, scale=scale, label=label)


def _entry(name: str) -> Weights:
    manifest = read_manifest()
    entry = manifest.get(ALIASES.get(name, name))
    if entry is None:
        known = ", ".join([*ALIASES, *sorted(manifest)])
        raise ValueError(f"unknown model {name!r}. Known: {known}; or give a path to a .safetensors file.")
    return entry


def _status(entry: Weights, folders: Sequence[str | Path]) -> Status:
    path = locate(entry, folders)
    if path is None:
        state = "missing" if entry.source is not None else "unpublished"
        return Status(entry.name, entry.purpose, state, None, entry.expected_bytes)
    state = "bundled" if isinstance(entry.source, Bundled) and path == bundled(entry.source) else "here"
    return Status(entry.name, entry.purpose, state, path, path.stat().st_size)


def _verified(name: str, path: Path, target: Target | None) -> Checked:
    found = ""
    try:
        found = sha256_of(path)
        ledger.remember_checked(path, found)
        wrong = problem(target, path, found) if target is not None else changed_since(path, found)
    except (OSError, ValueError) as error:  # this one; the others are still to be checked
        wrong = f"{path} cannot be read: {error}"
    return Checked(name, path, found, wrong)
