"""Pickled checkpoints (.pt, .pth, .ckpt, .bin) turned into safetensors: tensors only, nothing is executed.

`torch.load(weights_only=True)` reads them; whatever else a pickle asks for is refused.

Limits: a whole checkpoint goes through memory; tensors that share memory are written twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data.records import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from .models.stroke_unet import StrokeUNet

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
NESTED = ("state_dict", "model_state_dict", "model", "module")  # where training codes keep the weights
# The published code divides offsets by np.std over dx, dy and pen of all its drawings of at most 96 points,
# and never saves that number. This is it for the paper's ten classes of Quick, Draw!, 150 to 6,750 drawings
# each; single classes have 17 to 29.
OFFICIAL_SCALE = 26.2
OFFICIAL_LABEL = "sketch"


def check_start(head: bytes) -> None:
    """Refuses the first bytes of what is no checkpoint: torch's are a zip archive or a pickle."""
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        raise ValueError("is not a checkpoint of torch")


def _unpickled(path: Path) -> object:
    """What a pickle of tensors and plain values holds; any other is refused, and a damaged one."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damage has many names, AssertionError and struct.error among them
        raise ValueError(
            f"{path.name} is not a checkpoint of tensors only ({type(error).__name__}). "
            f"Nothing else in a pickle is loaded."
        ) from error


def read_pickled(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, from wherever its training code put them."""
    import torch

    path = Path(path)
    found = _unpickled(path)
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    named = found.items() if isinstance(found, Mapping) else ()
    tensors = {k: v for k, v in named if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{path.name} holds no tensors by name. Give the weights of a model.")
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def convert(source: str | Path, target: str | Path, *, notes: Mapping[str, str]) -> None:
    """A checkpoint's tensors as safetensors, whole or not at all; `notes` become its metadata."""
    from safetensors.torch import save

    read = read_pickled(source)
    try:
        tensors = {key: value.detach().clone().contiguous() for key, value in read.items()}
        contents = save(tensors, metadata={key: str(value) for key, value in notes.items()})
    except (OSError, MemoryError):
        raise
    except Exception as error:  # sparse, quantized, complex32, meta: each has its own
        raise ValueError(
            f"{Path(source).name} holds tensors that safetensors does not have ({type(error).__name__}). "
            f"Give weights that are dense numbers."
        ) from error
    with replacing(target) as file:
        file.write(contents)


def read_official_checkpoint(path: str | Path, *, heads: int = 4, timesteps: int = 1000) -> StrokeUNet:
    """The network of a checkpoint of the published code (`model*.pt`, or better its `ema_*.pt`).

    heads, timesteps  --num_heads and --diffusion_steps of its training, which it does not say.
    """
    from .models.stroke_unet import from_official_state

    return from_official_state(_unpickled(Path(path)), heads=heads, timesteps=timesteps)


def convert_official(
    source: str | Path,
    target: str | Path,
    *,
    scale: float | None = None,
    label: str | None = None,
    lengths: Sequence[int] | None = None,
    heads: int = 4,
    timesteps: int = 1000,
    notes: Mapping[str, str] | None = None,
) -> None:
    """A checkpoint of the published SketchKnitter code (model*.pt, better ema_*.pt) in our own format.

    It says neither what its offsets were divided by nor what it draws, so these may be given:
    scale      canvas units per model unit; the number that its training divided by, where you know it.
               None: 26.2, with which drawings are about as large as people's.
    label      the name of its one class. None: "sketch".
    lengths    how many drawings had 0, 1, 2 ... points. None: all have as many as the network, as in the
               published sampler; it has no end of sketch.
    heads, timesteps  --num_heads and --diffusion_steps of its training.
    """
    from .weight_file import write_weights

    network = read_official_checkpoint(source, heads=heads, timesteps=timesteps)
    points = network.config.points
    histogram = list(lengths) if lengths is not None else [0] * points + [1]
    count = network.config.num_classes or 1
    name = label or OFFICIAL_LABEL
    names = [name] if count == 1 else [f"{name} {i}" for i in range(count)]
    facts: dict[str, Any] = {
        "scale": OFFICIAL_SCALE if scale is None else float(scale),
        "classes": names,
        "lengths": [histogram] * count,
        "trained_on": "unknown: converted from a checkpoint of the published SketchKnitter code",
    }
    write_weights(target, network, facts | dict(notes or {}))
