"""Batches of drawings: Select Sketch."""

from __future__ import annotations

import re

from .wires import Sketches, SketchWire, io, schema

MAX_PICKED = 4096


class SelectSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Select",
            display_name="Select Sketch",
            category="sketch/edit",
            description="Picks drawings out of a batch, in any order, joins two batches, or repeats "
            "drawings.",
            search_aliases=["batch", "combine", "pick", "repeat"],
            inputs=[
                SketchWire.Input("sketch", tooltip="Drawings to choose from."),
                SketchWire.Input(
                    "more",
                    optional=True,
                    tooltip="More drawings, put behind the others before anything is picked.",
                ),
                io.String.Input(
                    "pick",
                    default="",
                    placeholder="0, 2-4, -1",
                    tooltip="Numbers and ranges in the order wanted, counted from 0; -1 is the last. '0, "
                    "2-4, -1' picks five. Empty: all.",
                ),
                io.Int.Input(
                    "repeat", default=1, min=1, max=256, tooltip="How often each picked drawing comes."
                ),
            ],
            outputs=[SketchWire.Output(display_name="sketch", tooltip="The drawings picked.")],
        )

    @classmethod
    def execute(cls, sketch, pick: str, repeat: int, more=None) -> io.NodeOutput:
        sketches = Sketches.of(sketch) + (more or [])
        picked = [i for i in indices(pick, len(sketches)) for _ in range(repeat)]
        if len(picked) > MAX_PICKED:
            raise ValueError(
                f"{len(picked)} drawings are picked, wanted at most {MAX_PICKED}. Lower repeat or pick fewer."
            )
        return io.NodeOutput(sketches.take(picked))


def indices(pick: str, size: int) -> list[int]:
    """'0, 2-4, -1' -> [0, 2, 3, 4, size - 1]; an empty text -> all."""
    if not pick.strip():
        return list(range(size))
    picked = []
    for part in filter(None, re.split(r"[,;\s]+", re.sub(r"\s*(?<=\d)\s*-\s*(?=\d)", "-", pick.strip()))):
        match = re.fullmatch(r"(\d{1,9})-(\d{1,9})|(-?\d{1,9})", part)
        if match is None:
            raise ValueError(
                f"pick holds {part!r}, wanted numbers and ranges such as '0, 2-4, -1'. Correct that part."
            )
        first, last, one = match.groups()
        chosen = [int(one)] if one is not None else [int(first), int(last)]
        for number in chosen:
            if not -size <= number < size:
                raise ValueError(
                    f"pick asks for drawing {number}, but there are 0 to {size - 1}. Pick one of those."
                )
        if one is not None:
            picked.append(chosen[0] % size)
        else:
            step = 1 if chosen[0] <= chosen[1] else -1
            picked += range(chosen[0], chosen[1] + step, step)
    return picked


NODES = [SelectSketch]
