"""Drawings to disk and back: Save Sketch (Quick, Draw! ndjson), Load Sketch (that, sketch-rnn npz, bin)."""

from __future__ import annotations

import itertools

from . import host
from .wires import Sketches, SketchWire, io, schema

SUFFIX = ".ndjson"
READABLE = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".npz", ".bin")


class SaveSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Save",
            display_name="Save Sketch",
            category="sketch/files",
            description="Saves drawings as strokes, Quick, Draw! ndjson, one drawing a line, in ComfyUI's "
            "output folder.",
            inputs=[
                SketchWire.Input("sketch", tooltip="Drawings to save; together they make one file."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{host.SKETCHES}/drawings",
                    tooltip="Beginning of the file's name, with subfolders of the output folder if you "
                    "like; a number is added. Load Sketch lists what lies in the subfolder 'sketch'.",
                ),
            ],
            outputs=[SketchWire.Output(display_name="sketch", tooltip="The same drawings, to go on with.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, sketch, filename_prefix: str) -> io.NodeOutput:
        from ..sketch_core.data import write_ndjson

        path = host.new_output_file(filename_prefix, SUFFIX)
        write_ndjson(path, sketch)
        host.say(f"{len(sketch)} in {path.name}", cls.hidden.unique_id)
        return io.NodeOutput(sketch)


class LoadSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Load",
            display_name="Load Sketch",
            category="sketch/files",
            description="Loads drawings from a Quick, Draw! ndjson or bin file or a sketch-rnn npz in "
            "ComfyUI's input or output folder.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.sketch_files(READABLE),
                    tooltip="Files in the input and output folders and in their subfolder 'sketch'. Press "
                    "R to read the folders again.",
                ),
                io.Int.Input(
                    "start", default=0, min=0, max=2**31 - 1, tooltip="Drawings to skip at the beginning."
                ),
                io.Int.Input(
                    "count",
                    default=64,
                    min=0,
                    max=4096,
                    tooltip="Drawings to load at most. 0: as many as there are.",
                ),
            ],
            outputs=[SketchWire.Output(display_name="sketch", tooltip="The drawings of the file.")],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        return host.check_file(file)

    @classmethod
    def fingerprint_inputs(cls, file: str, start: int, count: int) -> str:
        return host.file_state(file)

    @classmethod
    def execute(cls, file: str, start: int, count: int) -> io.NodeOutput:
        from ..sketch_core.data import read_sketches

        path = host.sketch_file(file)
        sketches = []
        for sketch in itertools.islice(read_sketches(path), start, start + count if count else None):
            host.stop_if_cancelled()
            sketches.append(sketch)
        if not sketches:
            raise ValueError(
                f"{path.name} holds no drawing from number {start} on. Lower start, or choose another file."
            )
        return io.NodeOutput(Sketches(sketches))


NODES = [SaveSketch, LoadSketch]
