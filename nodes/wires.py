"""What runs through the wires, and the one place that knows how ComfyUI spells it.

`comfy_api.latest` moves between releases: fields of `io.Schema` come and go, and so does the home of `SVG`.
Works from ComfyUI 0.3.64 on.
"""

from __future__ import annotations

import dataclasses
import io as bytes_io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import ComfyExtension, io

__all__ = [
    "ComfyExtension",
    "Guide",
    "Latent",
    "LoadedModel",
    "Model",
    "Schedule",
    "Sketches",
    "SketchWire",
    "advanced",
    "io",
]

Model = io.Custom("SK_MODEL")  # LoadedModel
Schedule = io.Custom("SK_SCHEDULE")  # what `schedule=` of SketchModel.sample takes
Guide = io.Custom("SK_GUIDE")  # sketch_core.rectifier.Guide
Latent = io.Custom("SK_LATENT")  # sketch_core.strokes.StrokeLatent
SketchWire = io.Custom("SK_SKETCH")  # Sketches

_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


@dataclass(frozen=True)
class LoadedModel:
    """A `sketch_core` SketchModel and the ModelPatcher by which the host moves its network about."""

    sketch_model: Any
    patcher: Any


class Sketches(list):
    """A list of Sketch, and beside each one the settings that drew it ({} where nobody knows)."""

    def __init__(self, sketches: Iterable = (), records: Sequence[dict] | None = None) -> None:
        super().__init__(sketches)
        self.records = [{} for _ in self] if records is None else list(records)
        if len(self.records) != len(self):
            raise ValueError(f"got {len(self.records)} records for {len(self)} sketches. Give one each.")

    @classmethod
    def of(cls, sketches: Iterable) -> Sketches:
        """The batch itself, or a plain list from another pack as a batch without records."""
        return sketches if isinstance(sketches, cls) else cls(sketches)

    def take(self, indices: Iterable[int]) -> Sketches:
        indices = list(indices)
        return Sketches([self[i] for i in indices], [self.records[i] for i in indices])

    def __add__(self, other: Iterable) -> Sketches:
        other = Sketches.of(other)
        return Sketches([*self, *other], [*self.records, *other.records])


def schema(**fields: Any) -> io.Schema:
    """io.Schema of the fields that this ComfyUI knows; newer ones are only niceties."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _SCHEMA_FIELDS})


def advanced(widget: io.Input) -> io.Input:
    """Folded away by newer front ends; before ComfyUI 0.9.2 nobody reads it."""
    widget.advanced = True
    return widget


def svg_value(texts: Iterable[str]) -> Any:
    """Core's SVG value, which SaveSVGNode takes: one item a drawing."""
    SVG = io.SVG.Type
    if SVG is Any:  # before ComfyUI 0.6 the class lived with the core nodes
        from comfy_extras.nodes_images import SVG
    return SVG([bytes_io.BytesIO(text.encode("utf-8")) for text in texts])
