"""Drawings of other programs: Load SVG as Sketch."""

from __future__ import annotations

import dataclasses

from . import host
from .wires import Sketches, SketchWire, io, schema

SUFFIXES = (".svg", ".svgz")
NO_FILE = "none"


class LoadSVG(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_LoadSVG",
            display_name="Load SVG as Sketch",
            category="sketch/files",
            description="Reads the lines of an SVG as strokes: a file of any drawing program, or what "
            "another node made. Filled shapes become their outlines; pen lines keep their order.",
            search_aliases=["vector", "import", "svg to strokes"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.sketch_files(SUFFIXES) or [NO_FILE],
                    tooltip="SVG files in the input and output folders and in their subfolder 'sketch'. "
                    "Press R to read the folders again.",
                ),
                io.String.Input(
                    "class_name",
                    default="",
                    tooltip="What is drawn, such as 'cat', for nodes that want to know. Empty: as the file "
                    "says, if it was saved by this pack.",
                ),
                io.Float.Input(
                    "simplify",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Leaves out points nearer to the line than this, in pixels of the SVG. 0: every "
                    "curve as it is. Quick, Draw! has 2 on a canvas of 255.",
                ),
                io.SVG.Input(
                    "svg", optional=True, tooltip="SVG from another node, read instead of the file."
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    optional=True,
                    placeholder="<svg ...>, pasted",
                    tooltip="SVG as text, as drawing programs copy it; read instead of the file.",
                ),
            ],
            outputs=[SketchWire.Output(display_name="sketch", tooltip="One drawing for each SVG.")],
        )

    @classmethod
    def validate_inputs(cls, file: str, text: str | None = "") -> bool | str:
        # text is None where it comes through a wire: `execute` says whether there is any, as of an SVG's wire
        if file == NO_FILE or text is None or text.strip():
            return True
        return host.check_file(file)

    @classmethod
    def fingerprint_inputs(
        cls, file: str, class_name: str = "", simplify: float = 0.0, svg=None, text: str = ""
    ) -> str:
        return "" if file == NO_FILE or (text or "").strip() else host.file_state(file)

    @classmethod
    def execute(cls, file: str, class_name: str, simplify: float, svg=None, text: str = "") -> io.NodeOutput:
        from ..sketch_core.strokes import simplify as simplified
        from ..sketch_core.svg import read_svg

        if svg is not None:
            sources = {f"SVG {i}": item.getvalue() for i, item in enumerate(svg.data)}
        elif text.strip():
            sources = {"text": text.strip()}
        elif file == NO_FILE:
            raise ValueError("there is no SVG to read. Put a file into the input folder and press R.")
        else:
            path = host.sketch_file(file)
            sources = {path.name: path}
        sketches = []
        for name, source in sources.items():
            host.stop_if_cancelled()
            try:
                sketch = read_svg(source)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if not sketch.strokes:
                raise ValueError(
                    f"{name} holds no lines, only text or pictures. Turn text into paths in your drawing "
                    f"program; for a picture use Image to Sketch."
                )
            label = class_name.strip() or sketch.label
            sketches.append(dataclasses.replace(simplified(sketch, simplify), label=label))
        return io.NodeOutput(Sketches(sketches))


NODES = [LoadSVG]
