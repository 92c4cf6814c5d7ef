"""The weight file: `.safetensors` whose metadata says everything a model needs; nothing is unpickled.

Reading a file's metadata costs neither torch nor reading its weights.

Limits: one file a model; what it is called and where it comes from is `hub.py`'s business.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Metadata:
    """What a weight file says of itself; texts unless said otherwise.

    config     the fields of the architecture's config.
    scale      canvas units per model unit, or None where that means nothing.
    classes    class names in label order.
    lengths    per class, how many training drawings had 0, 1, 2 ... points; empty where that means nothing.
    training   steps, drawings seen, seconds.
    sampling   how the model wants to be sampled, where that differs from others of its kind.
    figures    what was measured of these weights.
    source, source_sha256  the checkpoint that they were converted from.
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
    sampling: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    source_sha256: str = ""


JSON_FIELDS = ("config", "scale", "classes", "lengths", "training", "sampling", "figures")


@dataclass(frozen=True)
class Loaded:
    """A model ready to use, in eval mode, and what its file says."""

    name: str
    model: nn.Module
    metadata: Metadata


# ---- reading --------------------------------------------------------------------------------------


def load_file(path: Path, name: str | None = None) -> Loaded:
    """The model of a file, on the CPU, float32, in eval mode; every mismatch is a ValueError.

    Under `torch.inference_mode` the weights are made outside it, so that gradients can pass them later.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file as load_tensors

    from .models import create_model

    metadata = read_file_metadata(path)
    with torch.inference_mode(False):
        try:
            model = create_model(metadata.architecture, dict(metadata.config))
            stored = load_tensors(path)
        except ValueError as error:  # the config's own words
            raise ValueError(f"{path.name}: {error}") from None
        except (SafetensorError, TypeError) as error:
            raise ValueError(f"{path.name} cannot be loaded ({error}). Get it again.") from None
        _check_fit(path, model.state_dict(), stored)
        model.load_state_dict(stored)
    return Loaded(name or path.stem, model.eval().requires_grad_(False), metadata)


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


def check_usable(path: Path) -> Metadata:
    """The metadata of a file in our format whose architecture this release has; anything else is refused."""
    from .models import MODELS

    metadata = read_file_metadata(path)
    if metadata.architecture not in MODELS:
        raise ValueError(
            f"{path.name} is for a network that this release does not have: {metadata.architecture!r}. "
            f"Known: {', '.join(sorted(MODELS))}."
        )
    return metadata


def check_start(head: bytes) -> None:
    """Refuses the first 9 bytes of what is no safetensors file, or has a header larger than we read."""
    length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
    if not 2 <= length or head[8:9] not in (b"", b"{"):
        raise ValueError("is not a safetensors file")
    if length > MAX_HEADER:
        raise ValueError(f"has a safetensors header of {length} bytes, wanted at most {MAX_HEADER}")


def read_texts(path: Path) -> dict[str, str]:
    """The metadata of any safetensors file, as it is written."""
    return read_header(path)[0]


def read_header(path: Path) -> tuple[dict[str, str], dict[str, dict]]:
    """The metadata and the tensors' descriptions of any safetensors file, whose size must fit them.

    8 bytes of length, then JSON, then the tensors (github.com/huggingface/safetensors).
    """
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
    return texts, header


def read_file_metadata(path: Path) -> Metadata:
    """What a file in our format says of itself, checked."""
    texts, _ = read_header(path)
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
    texts = (m.architecture, m.trained_on, m.license, m.attribution, m.command, m.source, m.source_sha256)
    counts = [n for row in m.lengths for n in row]
    return {
        "a text": all(isinstance(text, str) for text in texts),
        "config": isinstance(m.config, dict),
        "scale": m.scale is None or (_number(m.scale) and m.scale > 0),
        "classes": all(isinstance(name, str) for name in m.classes),
        "lengths": len(set(map(len, m.lengths))) < 2 and all(_number(n) and n >= 0 for n in counts),
        "training": isinstance(m.training, dict),
        "sampling": isinstance(m.sampling, dict),
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
        raise ValueError(f"weight files have no metadata {', '.join(unknown)}. Known: those of Metadata.")
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
