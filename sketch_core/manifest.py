"""The weight files that the pack knows: `weights_manifest.json`, typed; a typo in it is an error at once.

The manifest lies at the root of the repository, where people look for it, and in an installed wheel beside
this file. `weights_manifest.schema.json` beside it is the same rule for editors.

Limits: an entry says where its bytes are and what they must be; it does not say that they are here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

FILE = "weights_manifest.json"
ALIASES = {
    "default": "stroke_transformer.quickdraw345_fast",
    "base": "stroke_transformer.quickdraw345",
    "recognizer": "sketch_classifier.quickdraw345",
    "stroke_recognizer": "stroke_classifier.quickdraw345",
    "judge": "sketch_classifier.judge345",
}
PURPOSES = {  # what an entry is for -> the same for a reader
    "draw": "draws sketches",
    "recognize": "names what a sketch shows",
    "judge": "measures models; trains, guides and chooses nothing",
    "shortcut": "tells how recognizable an unfinished sketch is",
    "rectify": "tells how alike two pictures look, for the rectifier",
    "photo": "turns a sketch into a photo",
    "choose": "picks the photo that fits its class best",
}
NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")  # architecture.training
COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"[\w.+-]+(/[\w.+-]+)*", re.ASCII)
REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


@dataclass(frozen=True)
class Bundled:
    """A file that comes with the pack; `path` from the root of the repository."""

    path: str

    @property
    def filename(self) -> str:
        return PurePosixPath(self.path).name

    def __post_init__(self) -> None:
        check_filename(self.path)


@dataclass(frozen=True)
class Hub:
    """A file of a repository on the Hugging Face Hub.

    revision  a commit, 40 hex digits. None: nobody of the project has seen one; the commit that a user's
              first download meets is written down on their side and used from then on.
    """

    repo_id: str
    filename: str
    revision: str | None = None

    def __post_init__(self) -> None:
        check_repository(self.repo_id)
        check_filename(self.filename)
        if self.revision is not None and not COMMIT.fullmatch(self.revision):
            raise ValueError(f"revision is {self.revision!r}, wanted a commit of 40 hex digits, or null.")


@dataclass(frozen=True)
class Url:
    """A file at an address."""

    url: str

    @property
    def filename(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or not PurePosixPath(parts.path).name:
            raise ValueError(f"url is {self.url!r}, wanted the https address of a file.")


@dataclass(frozen=True)
class Stated:
    """What the page of a source says of a file that nobody of the project has had in hands.

    by  the address of that page.
    """

    by: str
    sha256: str | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if urlsplit(self.by).scheme != "https":
            raise ValueError(f"stated by {self.by!r}, wanted the https address of a page.")
        _check_facts(self.sha256, self.bytes)


Source = Bundled | Hub | Url
SOURCES = {"bundled": Bundled, "hub": Hub, "url": Url}


@dataclass(frozen=True)
class Weights:
    """One entry: a weight file, where it is from and what is known of it.

    architecture  the first part of its name, what the tensors are for.
    purpose       one of PURPOSES; "for" in the file.
    source        None: no file yet anywhere that people can reach.
    bytes         size of the source's file; None when nobody of the project has seen it.
    sha256        of the source's file, or None when `verified` is False: then what the first download has is
                  written down on the user's side and checked from then on.
    published     whether the file can be had from the Hub or another public place.
    command       what made it, for our own models.
    pair          the entry that it works with, and with no other.
    stated        what the source's page says, for a file that is not verified: checked like what we know.
    """

    name: str
    architecture: str
    purpose: str
    source: Source | None
    bytes: int | None
    sha256: str | None
    verified: bool
    published: bool
    license: str
    attribution: str
    trained_on: str
    command: str | None = None
    pair: str | None = None
    stated: Stated | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name.split(".")[0] != self.architecture:
            raise ValueError(f"its name must be {self.architecture!r}, a point and what it was trained on.")
        if self.purpose not in PURPOSES:
            raise ValueError(f"for is {self.purpose!r}. Known: {', '.join(PURPOSES)}.")
        if self.verified != (self.sha256 is not None) or self.verified and self.bytes is None:
            raise ValueError("verified means that sha256 and bytes are known, and sha256 means verified.")
        _check_facts(self.sha256, self.bytes)
        if self.published != isinstance(self.source, Hub | Url):
            raise ValueError("published means that the source is on the Hub or at an address.")
        for field in ("license", "attribution", "trained_on"):
            if not isinstance(getattr(self, field), str) or not getattr(self, field):
                raise ValueError(f"{field} is {getattr(self, field)!r}, wanted a text.")

    @property
    def expected_bytes(self) -> int | None:
        """Size of the source's file, as verified or as stated."""
        return self.bytes or (self.stated.bytes if self.stated is not None else None)

    @property
    def filename(self) -> str:
        """What its file is called in a folder of the user: always safetensors, whatever the source has."""
        return f"{self.name}.safetensors"


def read_manifest(path: str | Path | None = None) -> dict[str, Weights]:
    """The entries by name; what is wrong with one is a ValueError that names it."""
    path = Path(path) if path is not None else manifest_path()
    try:
        entries = json.loads(path.read_text("utf-8"))
        if not isinstance(entries, dict):
            raise TypeError("it is not an object of entries")
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}). Install the pack again.") from None
    return {name: _entry(name, entry) for name, entry in entries.items()}


def manifest_path() -> Path:
    here = Path(__file__).resolve().parent
    for folder in (here.parent, here):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ValueError(f"{FILE} lies neither in {here.parent} nor in {here}. Install the pack again.")


def _entry(name: str, entry: Mapping[str, Any]) -> Weights:
    try:
        fields = {("purpose" if key == "for" else key): value for key, value in dict(entry).items()}
        source = dict(fields["source"]) if fields["source"] is not None else None
        if source is not None:
            source = SOURCES[source.pop("kind")](**source)
        stated = Stated(**fields["stated"]) if fields.get("stated") is not None else None
        return Weights(name, **fields | {"source": source, "stated": stated})
    except (KeyError, TypeError, ValueError) as error:
        text = f"{error.args[0]!r} is missing or unknown" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"weights_manifest.json, {name}: {text}") from None


def _check_facts(sha256: str | None, size: int | None) -> None:
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"sha256 is {sha256!r}, wanted 64 hex digits, or null.")
    if size is not None and not (type(size) is int and size > 0):
        raise ValueError(f"bytes is {size!r}, wanted a size, or null.")


# ---- names that become paths and addresses ----------------------------------------------------------


def check_filename(name: str) -> str:
    """A file of a repository, with '/' between folders: nothing that could leave the folder it is put in."""
    parts = name.split("/") if isinstance(name, str) else [""]
    bad = any(p in ("", ".", "..") or not p.isprintable() or set(p) & set('\\:*?"<>|') for p in parts)
    if bad or len(name) > 200 or any(p.endswith((".", " ")) or p.startswith("~") for p in parts):
        raise ValueError(
            f"file name {name!r} cannot be used. Give one such as 'model.safetensors' or 'folder/model.pt'."
        )
    return name


def check_repository(repo_id: str) -> str:
    """A repository as the Hub spells it: owner/name."""
    good = isinstance(repo_id, str) and REPOSITORY.fullmatch(repo_id)
    if not good or ".." in repo_id or "--" in repo_id or any(p[0] in "-." for p in repo_id.split("/")):
        raise ValueError(f"repository {repo_id!r} cannot be used. Give one such as 'owner/name'.")
    return repo_id


def check_revision(revision: str) -> str:
    """A commit, branch or tag."""
    if not isinstance(revision, str) or not REVISION.fullmatch(revision) or ".." in revision:
        raise ValueError(f"revision {revision!r} cannot be used. Give a commit, a branch or a tag.")
    return revision
