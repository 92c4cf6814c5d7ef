"""From a rough drawing to what a Sketch Sampler follows: Guided Rectifier."""

from __future__ import annotations

from .redraw import chosen, class_inputs, named, other_class
from .wires import Guide, Sketches, SketchWire, io, schema


class GuidedRectifier(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Rectifier",
            display_name="Guided Rectifier",
            category="sketch/redraw",
            description="Rough drawing in, good drawing out: Sketch Sampler, connected to its guide, draws "
            "your drawing again as it was meant.",
            search_aliases=["rectify", "clean up", "scribble", "beautify", "auto draw", "correct"],
            inputs=[
                SketchWire.Input(
                    "sketch", tooltip="Rough drawings: from Load SVG as Sketch, Image to Sketch, Load Sketch."
                ),
                io.Float.Input(
                    "strength",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0: the drawing as it is. 0.5: points move about as far as it looks rough, "
                    "hardly at all if it looks clean. 0.8: four times as far. 1: free.",
                ),
                io.Combo.Input(
                    "follow",
                    options=["strokes", "picture"],
                    default="strokes",
                    tooltip="strokes: your strokes point by point, in their order. picture: only what it "
                    "looks like; the model draws strokes of its own. For traced pictures try both.",
                ),
                *class_inputs(),
                other_class(),
            ],
            outputs=[
                Guide.Output(
                    display_name="guide",
                    tooltip="For Sketch Sampler, whose results lie on the canvas of the drawing.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, class_name: str) -> bool | str:
        return chosen(class_name)

    @classmethod
    def execute(
        cls, sketch, strength: float, follow: str, class_name: str, other_class: str = ""
    ) -> io.NodeOutput:
        from ..sketch_core import rectifier

        sketches = tuple(Sketches.of(sketch))
        return io.NodeOutput(rectifier.Guide(sketches, strength, follow, named(class_name, other_class)))


NODES = [GuidedRectifier]
