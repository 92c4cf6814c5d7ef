"""From a name to a verified weight file to a model: the only file that knows where weights come from.

Weights are `.safetensors` whose metadata says everything a model needs (`Metadata`); nothing is unpickled.
Names come from `weights_manifest.json`, which lies at the root of the repository and, in an installed wheel,
beside this file. Reading a file's metadata costs neither torch nor reading its weights.

Limits: bundled and local files; fetching from the Hub is not built yet.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data.records import replacing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FORMAT_VERSION = "1"
MAX_HEADER = 16 << 20  # bytes of a safetensors header that we are willing to read
ALIASES = {"default": "stroke_transformer.quickdraw345", "recognizer": "sketch_classifier.quickdraw345"}


@dataclass(frozen=True)
class Metadata:
    """What a weight file says of itself; texts unless said otherwise.

    config     the fields of the architecture's config.
    scale      canvas units per model unit, or None where that means nothing.
    classes    class names in label order.
    lengths    per class, how many training drawings had 0, 1, 2 ... points; empty where that means nothing.
    training   steps, drawings seen, seconds.
    figures    what was measured of these weights.
    """

    format_version: str
    architecture: str
    config: Mapping[str, Any]
    scale: float | None = None
    classes: tuple[str, ...] = ()
    lengths: tuple[tuple[int, ...], ...] = ()
    trained_on: str = ""
    license: str = ""
    attribution: str = ""
    command: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


JSON_FIELDS = ("config", "scale", "classes", "lengths", "training", "figures")


@dataclass(frozen=True)
class Weights:
    """A model ready to use, in eval mode, and what its file says."""

    name: str
    model: nn.Module
    metadata: Metadata


# ---- the manifest ---------------------------------------------------------------------------------


def read_manifest() -> dict[str, dict]:
    """The entries of weights_manifest.json by name."""
    here = Path(__file__).resolve().parent
    for path in (here.parent / "weights_manifest.json", here / "weights_manifest.json"):
        if path.is_file():
            return json.loads(path.read_text("utf-8"))
    raise ValueError(
        f"weights_manifest.json lies neither in {here.parent} nor in {here}. Install the pack again."
    )


def find_weights(name: str | Path) -> Path:
    """The file of a manifest name, of "default" or "recognizer", or of a path to a .safetensors file."""
    text = str(name)
    if text.endswith(".safetensors"):
        if not Path(text).is_file():
            raise ValueError(f"there is no weight file {text}. Check the path, or give a model's name.")
        return Path(text)
    manifest = read_manifest()
    entry = manifest.get(ALIASES.get(text, text))
    if entry is None:
        known = ", ".join([*ALIASES, *sorted(manifest)])
        raise ValueError(f"unknown model {text!r}. Known: {known}; or give a path to a .safetensors file.")
    path = Path(__file__).resolve().parent / Path(entry["source"]["path"]).relative_to("sketch_core")
    if not path.is_file():
        raise ValueError(f"{path.name} is missing from {path.parent}. Install the pack again.")
    return path


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _sha256(file)
        )


def _sha256(file) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


# ---- reading --------------------------------------------------------------------------------------


def read_metadata(name: str | Path = "default") -> Metadata:
    """What the file of a model says of itself; reads its header only, without torch."""
    return _metadata(find_weights(name))


def load_weights(name: str | Path = "default") -> Weights:
    """The model of a name or path, on the CPU, float32, in eval mode; every mismatch is a ValueError.

    Under `torch.inference_mode` the weights are made outside it, so that gradients can pass them later.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .models import create_model

    path = find_weights(name)
    metadata = _metadata(path)
    with torch.inference_mode(False):
        try:
            model = create_model(metadata.architecture, dict(metadata.config))
            stored = load_file(path)
        except ValueError as error:  # the config's own words
            raise ValueError(f"{path.name}: {error}") from None
        except (SafetensorError, TypeError) as error:
            raise ValueError(f"{path.name} cannot be loaded ({error}). Get it again.") from None
        _check_fit(path, model.state_dict(), stored)
        model.load_state_dict(stored)
    own_name = path.stem if str(name).endswith(".safetensors") else ALIASES.get(str(name), str(name))
    return Weights(own_name, model.eval().requires_grad_(False), metadata)


def _check_fit(path: Path, wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    for key in sorted(set(wanted) | set(stored)):
        ours, theirs = wanted.get(key), stored.get(key)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            there = "nothing" if theirs is None else f"shape {tuple(theirs.shape)}"
            here = "nothing" if ours is None else f"shape {tuple(ours.shape)}"
            raise ValueError(
                f"{path.name} does not fit the network it names: {key} has {there} in the file, "
                f"wanted {here}. Use the file with the release it was written by."
            )


def _metadata(path: Path) -> Metadata:
    """Reads and checks the header: 8 bytes of length, then JSON (github.com/huggingface/safetensors)."""
    with open(path, "rb") as file:
        start = file.read(8)
        size = path.stat().st_size
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, max(size - 8, 0)):
            raise ValueError(f"{path.name} is not a safetensors file, or is cut off. Get it again.")
        try:
            header = json.loads(file.read(length))
            texts = dict(header.pop("__metadata__", {}))
            end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise ValueError(f"{path.name} has a damaged safetensors header. Get it again.") from None
    if 8 + length + end != size:
        raise ValueError(f"{path.name} has {size} bytes, its header says {8 + length + end}. Get it again.")
    if texts.get("format_version") != FORMAT_VERSION or "architecture" not in texts:
        raise ValueError(
            f"{path.name} is not one of our weight files: its metadata has format version "
            f"{texts.get('format_version')!r}, wanted {FORMAT_VERSION!r} and an architecture. "
            f"Convert it first."
        )
    known = {k: v for k, v in texts.items() if k in Metadata.__dataclass_fields__}
    try:
        known |= {k: json.loads(known[k]) for k in JSON_FIELDS if k in known}
        for name in ("classes", "lengths"):
            if not isinstance(known.get(name, []), list):
                raise TypeError(f"{name} is no list")
        known["classes"] = tuple(known.get("classes", ()))
        known["lengths"] = tuple(map(tuple, known.get("lengths", ())))
        metadata = Metadata(**known)
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} has metadata that cannot be read ({error}). Get it again.") from None
    for name, fits in _sound(metadata).items():
        if not fits:
            raise ValueError(f"{path.name} has metadata in which {name} makes no sense. Get it again.")
    return metadata


def _sound(m: Metadata) -> dict[str, bool]:
    """Whether fields of metadata are what `Metadata` says."""
    texts = (m.architecture, m.trained_on, m.license, m.attribution, m.command)
    counts = [n for row in m.lengths for n in row]
    return {
        "a text": all(isinstance(text, str) for text in texts),
        "config": isinstance(m.config, dict),
        "scale": m.scale is None or (_number(m.scale) and m.scale > 0),
        "classes": all(isinstance(name, str) for name in m.classes),
        "lengths": len(set(map(len, m.lengths))) < 2 and all(_number(n) and n >= 0 for n in counts),
        "training": isinstance(m.training, dict),
        "figures": isinstance(m.figures, dict),
    }


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# ---- writing --------------------------------------------------------------------------------------


def write_weights(
    path: str | Path, network: nn.Module, metadata: Mapping[str, Any], *, dtype: torch.dtype | None = None
) -> None:
    """Writes a network with its config and `metadata` (fields of `Metadata`), whole or not at all.

    dtype  what floating-point weights are stored as; None keeps theirs. bfloat16 halves the file.
    """
    import dataclasses

    from safetensors.torch import save

    from .models import architecture_of

    texts = {"format_version": FORMAT_VERSION, "architecture": architecture_of(network)}
    texts["config"] = dataclasses.asdict(network.config)
    texts |= metadata
    if unknown := sorted(set(texts) - set(Metadata.__dataclass_fields__)):
        raise ValueError(f"weight files have no metadata {', '.join(unknown)}. Known: see hub.Metadata.")
    texts = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in texts.items()}
    tensors = {
        key: value.detach()
        .cpu()
        .to(dtype if dtype is not None and value.is_floating_point() else value.dtype)
        for key, value in network.state_dict().items()
    }
    contents = save({k: v.contiguous() for k, v in tensors.items()}, metadata=texts)
    with replacing(Path(path)) as file:
        file.write(contents)
