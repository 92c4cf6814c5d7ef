"""One wanted weight file: its name here, the places it may lie, its address, and whether a file is it.

Together with `data/fetch.py` the only file that makes addresses. Touches no network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import ledger, weight_file
from .manifest import COMMIT, Bundled, Hub, Source, Url, Weights

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Target:
    """A file that is to be had: under which name people ask for it, what it is called here, where it is from.

    revision       what the user asked of a repository, where `source` does not say.
    bytes, sha256  of the file at its source, as known before the first download, or None.
    architecture   what its metadata must name, if it names one. None: any network that this release has, in
                   our format; a pickle is then a checkpoint of the published SketchKnitter code.
    """

    name: str
    filename: str
    source: Source
    architecture: str | None = None
    revision: str | None = None
    bytes: int | None = None
    sha256: str | None = None

    @property
    def source_suffix(self) -> str:
        return PurePosixPath(self.source.filename).suffix.lower()

    @property
    def pickled(self) -> bool:
        return self.source_suffix != SUFFIX


def target_of(entry: Weights) -> Target:
    """An entry that has a source."""
    return Target(
        entry.name,
        entry.filename,
        entry.source,
        entry.architecture,
        bytes=entry.expected_bytes,
        sha256=entry.sha256 or (entry.stated.sha256 if entry.stated else None),
    )


# ---- places ---------------------------------------------------------------------------------------


def locate(entry: Weights, folders: Sequence[str | Path]) -> Path | None:
    """Where the file of an entry is: folders, bundled, the user's cache, the Hub's cache; not checked."""
    if found := in_folders(entry.filename, folders, own=False):
        return found
    if isinstance(entry.source, Bundled):
        path = bundled(entry.source)
        return path if path.is_file() else None
    if found := in_folders(entry.filename, ()):
        return found
    if isinstance(entry.source, Hub) and not target_of(entry).pickled:
        return in_hub_cache(target_of(entry))
    return None


def in_folders(filename: str, folders: Sequence[str | Path], *, own: bool = True) -> Path | None:
    places = [*map(Path, folders), *([own_folder()] if own else [])]
    return next((place / filename for place in places if (place / filename).is_file()), None)


def own_folder() -> Path:
    """Where downloads go that nobody named a folder for."""
    return ledger.cache_folder() / "weights"


def bundled(source: Bundled) -> Path:
    return Path(__file__).resolve().parent / PurePosixPath(source.path).relative_to("sketch_core")


def file_at(text: str, folders: Sequence[str | Path]) -> Path:
    """A path to a weight file, or the name of one in the folders."""
    path = Path(text)
    if path.is_file():
        return path
    if path.name == text and (found := in_folders(text, folders)):
        return found
    raise ValueError(f"there is no weight file {text}. Check the path, or give a model's name.")


def in_hub_cache(target: Target) -> Path | None:
    """The file in the cache that all users of huggingface_hub share."""
    if not isinstance(target.source, Hub):
        return None
    from huggingface_hub import try_to_load_from_cache

    source = target.source
    try:
        found = try_to_load_from_cache(source.repo_id, source.filename, revision=revision_of(target))
    except (OSError, ValueError):
        return None
    return Path(found) if isinstance(found, str) and os.path.isfile(found) else None


def downloaded_by_hand(target: Target, folders: Sequence[str | Path]) -> Path | None:
    """What the user downloaded for a pickle that is to be converted."""
    if not target.pickled:
        return None
    return in_folders(target.filename.removesuffix(SUFFIX) + target.source_suffix, folders)


def local_name(
    repo_id: str, filename: str, revision: str | None, scale: float | None, label: str | None
) -> str:
    """A name in one folder for a file of a repository: owner--name--folder--file[@revision][@hash].

    What this spelling might share with another file, also where names ignore case, gets a hash of all of it.
    """
    stem = "--".join([*repo_id.split("/"), *filename.split("/")]).rpartition(".")[0]
    variant = [revision, f"scale{scale:g}" if scale is not None else None, label]
    plain = (
        filename.endswith(SUFFIX)
        and filename == filename.lower()
        and filename.isascii()
        and "@" not in filename
        and stem.count("--") == 2 + filename.count("/")
        and "---" not in stem
        and scale is None
        and not label
        and (revision is None or COMMIT.fullmatch(revision) is not None)
    )
    exact = [repo_id, filename, revision or "", "" if scale is None else repr(float(scale)), label or ""]
    tag = [] if plain else [hashlib.sha256("\0".join(exact).encode()).hexdigest()[:8]]
    return "@".join([stem, *(_plain(part) for part in variant if part), *tag]) + SUFFIX


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)[:80]


def revision_of(target: Target) -> str | None:
    """What to ask of a repository: the manifest's commit, the one met before, or what was asked for."""
    return target.source.revision or ledger.pinned(target.filename).get("revision") or target.revision


def address(target: Target) -> str:
    """Where the bytes are; on the user's mirror where HF_ENDPOINT names one."""
    if isinstance(target.source, Url):
        return target.source.url
    from huggingface_hub import hf_hub_url

    return hf_hub_url(target.source.repo_id, target.source.filename, revision=revision_of(target))


# ---- whether a file is it -------------------------------------------------------------------------


def check(target: Target, path: Path) -> Path:
    """The path, if its file is the one that is meant; hashes it only where that is not remembered."""
    found = ledger.checked_sha256(path)
    if wrong := problem(target, path, found):
        raise ValueError(wrong)
    if not isinstance(target.source, Bundled) and not ledger.pinned(target.filename):
        try:
            check_content(target, path)
        except ValueError as error:
            raise ValueError(f"{error} {path} is not {target.name}. Delete or rename it.") from error
        ledger.pin(target.filename, name=target.name, sha256=found)  # the first time this machine sees it
    return path


def check_content(target: Target, path: Path) -> None:
    """Refuses what is no safetensors file, or is for another network than the target's."""
    if target.architecture is None:
        weight_file.check_usable(path)
        return
    named = weight_file.read_texts(path).get("architecture", target.architecture)
    if named != target.architecture:
        raise ValueError(f"it is for a network {named!r}, wanted {target.architecture!r}.")


def check_fetched(path: Path) -> Path:
    """A path that was fetched from a repository is checked like an entry; files of one's own are not."""
    if "--" in path.name and (wrong := changed_since(path)):
        raise ValueError(wrong)
    return path


def changed_since(path: Path, found: str | None = None) -> str | None:
    """What is wrong with a file that was fetched once, or None."""
    pinned = ledger.pinned(path.name)
    if not pinned or (found or ledger.checked_sha256(path)) == pinned.get("sha256"):
        return None
    return _changed(path, pinned.get("name", path.stem))


def problem(target: Target, path: Path, found: str) -> str | None:
    """What is wrong with a file that has this sha256, or None."""
    pinned = ledger.pinned(target.filename)
    if target.pickled:  # our file is the converted one, which says what it was made from
        made_from = weight_file.read_texts(path).get("source_sha256")
        wanted = target.sha256 or pinned.get("source_sha256")
        if wanted is not None and made_from != wanted:
            return another_file(target, path, made_from or "none", wanted)
    elif target.sha256 is not None:
        return another_file(target, path, found, target.sha256) if found != target.sha256 else None
    return _changed(path, target.name) if pinned.get("sha256") not in (None, found) else None


# ---- sentences ------------------------------------------------------------------------------------


def another_file(target: Target, path: Path, found: str, wanted: str) -> str:
    return (
        f"{path.name} is not the file that {target.name} names: sha256 {found[:12]}…, wanted {wanted[:12]}…. "
        f"Delete or rename {path}, then fetch {target.name} again."
    )


def _changed(path: Path, name: str) -> str:
    return (
        f"{path.name} has changed since {name} was first fetched. Delete {path} and fetch it again, or keep "
        f"it: `{accepting(path.name)}`."
    )


def accepting(filename: str) -> str:
    """The command with which a user takes another file than the first download's."""
    return f"python -m sketch_core weights verify --accept {filename}"


def missing(entry: Weights, folders: Sequence[str | Path]) -> str:
    if isinstance(entry.source, Bundled):
        return f"{entry.filename} is missing from {bundled(entry.source).parent}. Install the pack again."
    if entry.source is None:
        made = f"Train it: {entry.command}" if entry.command else "Use another one."
        return f"{entry.name} is not published yet. {made}"
    folder = Path(folders[0]) if folders else own_folder()
    fetch = f"python -m sketch_core weights fetch {entry.name}"
    return f"{entry.name} is not on this machine. Fetch it: `{fetch}`. {by_hand(target_of(entry), folder)}"


def by_hand(target: Target, folder: Path) -> str:
    """How the user gets a file without us: address, size, folder."""
    size = readable_size(target.bytes) if target.bytes else "size unknown"
    filename = target.filename.removesuffix(SUFFIX) + target.source_suffix
    where = address(target)
    return f"Or download {where} ({size}) yourself and save it as {folder / filename}."


def readable_size(count: int | None) -> str:
    if count is None:
        return "?"
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.{1 if unit != 'GB' else 2}f} {unit}"
    return f"{count} bytes"
