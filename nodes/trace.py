"""Pictures of drawings -> strokes: Image to Sketch."""

from __future__ import annotations

import numpy as np

from . import host
from .wires import Sketches, SketchWire, advanced, io, schema


class ImageToSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_ImageToSketch",
            display_name="Image to Sketch",
            category="sketch/files",
            description="Turns pictures of line drawings into strokes: photos of pencil drawings in uneven "
            "light, scans, edge maps, masks. Needs scikit-image.",
            search_aliases=["trace", "vectorize", "lineart", "skeleton", "scan"],
            inputs=[
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Pictures of drawings, one drawing each. Give this or mask.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Masks whose lines are traced; for line art on clear ground, the mask of Load "
                    "Image. Give this or image.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    tooltip="How much of the paper's light a line must take away, 0 to 1. Lower: fainter "
                    "lines. 0: found for every line by itself.",
                ),
                io.Combo.Input(
                    "polarity",
                    options=["auto", "dark", "light"],
                    default="auto",
                    tooltip="dark: dark lines on light paper. light: light lines on dark ground, as in edge "
                    "maps. auto: whichever covers less.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=0.0,
                    min=0.0,
                    max=64.0,
                    step=0.1,
                    tooltip="How far strokes may leave the line, in pixels: more means fewer points. 0: "
                    "1/800 of the longer side, at least half a pixel.",
                ),
                io.Float.Input(
                    "min_length",
                    default=0.0,
                    min=0.0,
                    max=4096.0,
                    step=1.0,
                    tooltip="Strokes shorter than this are left out, dots too, in pixels. 0: all are kept.",
                ),
                advanced(
                    io.Float.Input(
                        "bridge",
                        default=0.0,
                        min=0.0,
                        max=512.0,
                        step=1.0,
                        tooltip="Gaps up to this many pixels are closed where two ends face each other. 0: "
                        "three line widths; 0.1: none. No wider gap than a tenth of the picture is closed.",
                    )
                ),
                advanced(
                    io.String.Input(
                        "class_name",
                        default="",
                        tooltip="What the drawings show, if you know it: cat. Empty: unknown.",
                    )
                ),
            ],
            outputs=[
                SketchWire.Output(
                    display_name="sketch", tooltip="One drawing a picture, in pixels of the picture."
                ),
                io.Mask.Output(display_name="ink", tooltip="What was taken for lines."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, threshold, polarity, tolerance, min_length, bridge, class_name, image=None, mask=None
    ) -> io.NodeOutput:
        from ..sketch_core.trace import trace

        if (image is None) == (mask is None):
            raise ValueError(
                f"{'both image and mask are' if mask is not None else 'neither image nor mask is'} "
                f"connected, wanted one of them. Connect the one that shows the lines."
            )
        pictures = image if mask is None else mask.reshape(-1, *mask.shape[-2:])
        sketches, inks = [], []
        for picture in pictures:
            host.stop_if_cancelled()
            traced = trace(
                picture.float().cpu().numpy(),
                threshold=threshold or None,
                polarity=polarity,
                tolerance=tolerance or None,
                min_length=min_length or None,
                bridge=bridge or None,
                label=class_name.strip() or None,
            )
            sketches.append(traced.sketch)
            inks.append(traced.mask())
        empty = [i for i, sketch in enumerate(sketches) if not sketch.strokes]
        if len(empty) == len(sketches):
            raise ValueError(
                "there are no lines to be found here. Set threshold to a low number such as 0.05, or choose "
                "polarity; from a photo of a thing, make line art first."
            )
        if empty:  # a batch keeps its places
            host.say(f"no lines in {', '.join(map(str, empty))} of {len(sketches)}", cls.hidden.unique_id)
        return io.NodeOutput(Sketches(sketches), host.tensor(np.stack(inks)))


NODES = [ImageToSketch]
