"""One's own weights on the Hugging Face Hub: a model card that says what they are, and one commit with all.

What a card says is read from the files' metadata; a file that does not say its licence, its data and the
command that makes it again is not published. Figures come from the metadata too, or from `figures.json` in
the folder: an object of names and numbers, in it the `command` that measures them.

Limits: files in our own format only; a card is written anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from . import ledger
from .manifest import NAME, check_repository
from .weight_file import Metadata, check_usable

NEEDED = ("license", "attribution", "trained_on", "command")
FIGURES = "figures.json"
SHOWN_CLASSES = 20  # of a model that knows more, the card says how many


@dataclass(frozen=True)
class Publishable:
    """A weight file that says all that a card needs."""

    path: Path
    metadata: Metadata
    sha256: str
    bytes: int
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """Where files are now. entries: what weights_manifest.json would say of them."""

    url: str
    commit: str
    entries: Mapping[str, Any]


def read_folder(folder: str | Path) -> list[Publishable]:
    """The weight files of a folder, each checked; what one does not say of itself is a ValueError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. Give one that holds .safetensors files.")
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} holds no .safetensors file. Give the folder that a training wrote.")
    found, figures = [], _read_figures(folder / FIGURES)
    for path in paths:
        metadata = check_usable(path)
        if silent := [field for field in NEEDED if not getattr(metadata, field)]:
            raise ValueError(
                f"{path.name} does not say its {', '.join(silent)}. Write them into its metadata first."
            )
        measured = metadata.figures or figures
        found.append(Publishable(path, metadata, ledger.sha256_of(path), path.stat().st_size, measured))
    return found


def _read_figures(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        figures = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}). Write figures as JSON, or remove it.") from None
    if not isinstance(figures, dict) or not isinstance(figures.get("command"), str):
        raise ValueError(f"{path} does not say its command. Add what measured the figures, or remove it.")
    return figures


def publish(files: Sequence[Publishable], repo_id: str, *, private: bool = False) -> Published:
    """Uploads the files and their card in one commit, into a repository that is made if need be.

    The user's own token is used; without one, or without the right to write, it is a ValueError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import HfHubHTTPError

    check_repository(repo_id)
    card = model_card(files, repo_id).encode()
    operations = [CommitOperationAdd("README.md", card)]
    operations += [CommitOperationAdd(file.path.name, file.path) for file in files]
    api = HfApi(library_name="sketchknitter")
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        names = ", ".join(file.path.stem for file in files)
        commit = api.create_commit(repo_id, operations, commit_message=f"Weights: {names}")
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        if status in (401, 403):
            raise ValueError(
                f"{repo_id} cannot be written with your token ({status}). Log in with `hf auth login`, "
                f"with a token that may write there."
            ) from error
        raise ValueError(f"the Hub refused {repo_id} ({status}). Try again later.") from error
    except Exception as error:  # no network, a cut connection: of two HTTP libraries
        raise ValueError(f"the upload to {repo_id} broke off ({error}). Run it again.") from error
    return Published(str(url), commit.oid, manifest_entries(files, repo_id, commit.oid))


def manifest_entries(files: Sequence[Publishable], repo_id: str, commit: str) -> dict[str, Any]:
    """The entries of published files for weights_manifest.json, by the names that fit its rules."""
    entries = {}
    for file in files:
        m = file.metadata
        entries[_entry_name(file, repo_id, entries)] = {
            "architecture": m.architecture,
            "for": "recognize" if m.scale is None else "draw",
            "source": {"kind": "hub", "repo_id": repo_id, "filename": file.path.name, "revision": commit},
            "sha256": file.sha256,
            "bytes": file.bytes,
            "verified": True,
            "published": True,
            "license": m.license,
            "attribution": m.attribution,
            "trained_on": m.trained_on,
            "command": m.command,
        }
    return entries


def _entry_name(file: Publishable, repo_id: str, taken: Mapping[str, Any]) -> str:
    """The file's own name where the manifest admits it, else one of its network and repository."""
    own, network = file.path.stem, file.metadata.architecture
    made = f"{network}.{_plain(repo_id)}"
    fits = NAME.fullmatch(own) and own.startswith(f"{network}.")
    names = [*([own] if fits else []), made, f"{made}_{_plain(own)}"]
    return next(name for name in chain(names, (f"{made}_{n}" for n in count(2))) if name not in taken)


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text.lower()).strip("_")


# ---- the card -------------------------------------------------------------------------------------


def model_card(files: Sequence[Publishable], repo_id: str) -> str:
    """README.md of the repository, in the form that the Hub reads (YAML, then Markdown)."""
    licenses = sorted({file.metadata.license.lower() for file in files})
    front = [
        "---",
        f"license: {licenses[0] if len(licenses) == 1 else 'other'}",
        "library_name: sketchknitter",
        "tags:",
        *(f"- {tag}" for tag in ("sketch", "vector-graphics", "svg", "comfyui")),
        "---",
        "",
        f"# {repo_id.split('/')[1]}",
        "",
        "Weights for ComfyUI-SketchKnitter, which draws vector sketches stroke by stroke. "
        "In ComfyUI: the node *Load from Hub*. On the command line:",
        "",
        "```sh",
        *(f"python -m sketch_core weights fetch {repo_id}/{file.path.name}" for file in files),
        "```",
        "",
        "",
    ]
    return "\n".join(front) + "\n".join(_section(file) for file in files)


def _section(file: Publishable) -> str:
    m = file.metadata
    lines = [f"## {file.path.name}", "", *_table(_facts(file)), ""]
    if file.figures:
        shown = {key: value for key, value in file.figures.items() if key != "command"}
        lines += ["Measured", "", *_table(_flat(shown)), ""]
        if "command" in file.figures:
            lines += ["by", "", "```sh", file.figures["command"], "```", ""]
    else:
        lines += ["Nothing was measured of these weights yet.", ""]
    lines += ["Made by", "", "```sh", m.command, "```", ""]
    return "\n".join(lines)


def _facts(file: Publishable) -> dict[str, Any]:
    m = file.metadata
    facts = {"network": m.architecture, "trained on": m.trained_on, "license": m.license}
    facts |= {"attribution": m.attribution}
    if m.classes:
        more = f" and {len(m.classes) - SHOWN_CLASSES} more" if len(m.classes) > SHOWN_CLASSES else ""
        facts["classes"] = f"{len(m.classes)}: {', '.join(m.classes[:SHOWN_CLASSES])}{more}"
    facts |= {f"training: {key}": value for key, value in _flat(m.training).items()}
    return facts | {"size": f"{file.bytes:,} bytes", "sha256": f"`{file.sha256}`"}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}, ")
        else:
            found[f"{before}{key}"] = value
    return found


def _table(facts: Mapping[str, Any]) -> list[str]:
    cells = [(_cell(key), _cell(value)) for key, value in facts.items()]
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in cells)]


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
    return " ".join(text.split()).replace("|", "\\|")
