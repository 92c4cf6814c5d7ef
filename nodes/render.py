"""From strokes to what other nodes take: Sketch to SVG, Sketch to Image, Preview Sketch."""

from __future__ import annotations

import numpy as np

from . import host
from .wires import Sketches, SketchWire, io, schema, svg_value

PREVIEW_MAX = 64  # drawings shown in a node
PREVIEW_SIDE = 256  # pixels


def size_inputs(maximum: int) -> list[io.Input]:
    return [
        io.Int.Input("width", default=512, min=1, max=maximum, tooltip="Width of the result in pixels."),
        io.Int.Input("height", default=512, min=1, max=maximum, tooltip="Height of the result in pixels."),
    ]


def placement_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "placement",
            options=["fit", "keep"],
            default="fit",
            tooltip="fit: the drawing as large as it goes, centred. keep: where it is on its canvas, the "
            "canvas being fitted and centred.",
        ),
        io.Float.Input(
            "padding",
            default=0.05,
            min=0.0,
            max=0.45,
            step=0.01,
            tooltip="For placement fit: share of the shorter side left free at each edge.",
        ),
    ]


def line_input(name: str) -> io.Input:
    return io.Float.Input(
        name,
        default=0.0,
        min=0.0,
        max=512.0,
        step=0.1,
        tooltip="Thickness of the line in pixels of the result. 0: 1/85 of the shorter side.",
    )


def color_inputs(clear: str) -> list[io.Input]:
    return [
        io.String.Input("color", default="black", tooltip="Colour of the line: a CSS name or #rrggbb."),
        io.String.Input(
            "background", default="white", tooltip=f"Colour of the paper: a CSS name or #rrggbb{clear}."
        ),
    ]


class SketchToSVG(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_ToSVG",
            display_name="Sketch to SVG",
            category="sketch/output",
            description="Writes each drawing as SVG, one path a stroke, with seed, model and settings in "
            "its metadata. Next: Save SVG.",
            search_aliases=["vector", "svg"],
            inputs=[
                SketchWire.Input("sketch", tooltip="Drawings to write."),
                *size_inputs(16384),
                *placement_inputs(),
                line_input("stroke_width"),
                *color_inputs(". Empty or 'none': no paper"),
                io.Boolean.Input(
                    "smooth",
                    default=False,
                    tooltip="Bézier curves through the points instead of straight pieces.",
                ),
            ],
            outputs=[
                io.SVG.Output(display_name="svg", tooltip="One SVG a drawing, for Save SVG and other nodes.")
            ],
        )

    @classmethod
    def execute(
        cls, sketch, width, height, placement, padding, stroke_width, color, background, smooth
    ) -> io.NodeOutput:
        sketches = Sketches.of(sketch)
        paper = None if background.strip().lower() in ("", "none", "transparent") else background
        return io.NodeOutput(
            svg_value(
                drawing.to_svg(
                    size=(width, height),
                    padding=padding if placement == "fit" else None,
                    stroke_width=stroke_width or None,
                    color=color,
                    background=paper,
                    smooth=smooth,
                    metadata=record or None,
                )
                for drawing, record in zip(sketches, sketches.records, strict=True)
            )
        )


class SketchToImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_ToImage",
            display_name="Sketch to Image",
            category="sketch/output",
            description="Draws the strokes at exactly the size asked for, anti-aliased: an image, a mask, "
            "and white lines on black as scribble ControlNets want them.",
            search_aliases=["rasterize", "scribble", "controlnet"],
            inputs=[
                SketchWire.Input("sketch", tooltip="Drawings to rasterize."),
                *size_inputs(8192),
                *placement_inputs(),
                line_input("line_width"),
                *color_inputs(""),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The drawings in the colours chosen, one a batch item."
                ),
                io.Mask.Output(display_name="mask", tooltip="1 where there is ink, 0 where there is none."),
                io.Image.Output(
                    display_name="control_hint",
                    tooltip="White lines on black. For a scribble ControlNet, at the size of the latent.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, sketch, width, height, placement, padding, line_width, color, background
    ) -> io.NodeOutput:
        from ..sketch_core import raster

        place = {"padding": padding if placement == "fit" else None, "line_width": line_width or None}
        images, inks = [], []
        for drawing in sketch:
            host.stop_if_cancelled()
            image = raster.sketch_to_image(
                drawing, (width, height), color=color, background=background, **place
            )
            images.append(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)
            inks.append(raster.sketch_to_array(drawing, (width, height), **place))
        ink = np.stack(inks)
        hint = np.repeat(ink[..., None], 3, axis=-1)
        return io.NodeOutput(host.tensor(np.stack(images)), host.tensor(ink), host.tensor(hint))


class PreviewSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Preview",
            display_name="Preview Sketch",
            category="sketch/output",
            description=f"Shows the drawings in the node, black on white, the first {PREVIEW_MAX} of them.",
            inputs=[SketchWire.Input("sketch", tooltip="Drawings to show.")],
            outputs=[SketchWire.Output(display_name="sketch", tooltip="The same drawings, to go on with.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, sketch) -> io.NodeOutput:
        shown = [
            {
                "svg": drawing.to_svg(size=PREVIEW_SIDE, padding=0.06, stroke_width=3, background="white"),
                "title": f"{i}: {drawing.label}" if drawing.label else str(i),
            }
            for i, drawing in enumerate(sketch[:PREVIEW_MAX])
        ]
        return io.NodeOutput(sketch, ui={"sk_preview": shown, "sk_total": [len(sketch)]})


NODES = [SketchToSVG, SketchToImage, PreviewSketch]
