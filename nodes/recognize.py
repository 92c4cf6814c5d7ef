"""What do drawings show? Recognize Sketch, Pick Best."""

from __future__ import annotations

from collections.abc import Sequence

from . import host
from .wires import Sketches, SketchWire, io, schema

BY = ["pictures", "strokes", "both"]  # ways of the library to recognize
BY_TOOLTIP = (
    "pictures: by how it looks. strokes: by how it is drawn, stroke after stroke. both: the mean of the two."
)
MAX_SHOWN = 12  # lines on the node


class RecognizeSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Recognize",
            display_name="Recognize Sketch",
            category="sketch/edit",
            description="Names what drawings show, with one of the 345 classes of Quick, Draw!.",
            search_aliases=["classify", "label", "quickdraw", "score"],
            inputs=[
                SketchWire.Input("sketch", tooltip="Drawings to name."),
                io.Combo.Input("by", options=BY, default="pictures", tooltip=BY_TOOLTIP),
                io.Int.Input(
                    "top_k",
                    default=3,
                    min=1,
                    max=345,
                    tooltip="Guesses a drawing in the text, likeliest first.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="label", tooltip="The likeliest class of each drawing.", is_output_list=True
                ),
                io.Float.Output(
                    display_name="score", tooltip="How sure that is, 0 to 1, of each.", is_output_list=True
                ),
                io.String.Output(
                    display_name="text", tooltip="All guesses, a line a drawing, for Preview Any or a file."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, sketch, by: str, top_k: int) -> io.NodeOutput:
        guesses = recognizer(by).recognize(sketch, top_k=top_k)
        text = "\n".join(", ".join(f"{name} {score:.2f}" for name, score in best) for best in guesses)
        host.say("\n".join(text.splitlines()[:MAX_SHOWN]), cls.hidden.unique_id)
        labels, scores = [best[0][0] for best in guesses], [best[0][1] for best in guesses]
        return io.NodeOutput(labels, scores, text)


class PickBest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_PickBest",
            display_name="Pick Best",
            category="sketch/edit",
            description="Keeps the drawings that are recognized most surely as what they should show. Draw "
            "more than you need and keep the best.",
            search_aliases=["best of", "filter", "rank", "sort", "recognizable"],
            inputs=[
                SketchWire.Input("sketch", tooltip="Drawings to choose from."),
                io.Int.Input("keep", default=4, min=1, max=4096, tooltip="How many to keep, best first."),
                io.String.Input(
                    "class_name",
                    default="",
                    placeholder="what they were drawn as",
                    tooltip="What they should show. Empty: what each was drawn as; one that was drawn as "
                    "nothing in particular is judged by what it resembles most.",
                ),
                io.Combo.Input("by", options=BY, default="pictures", tooltip=BY_TOOLTIP),
            ],
            outputs=[
                SketchWire.Output(display_name="sketch", tooltip="The best drawings, best first."),
                io.Float.Output(
                    display_name="score",
                    tooltip="How surely each is recognized, 0 to 1.",
                    is_output_list=True,
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, sketch, keep: int, class_name: str, by: str) -> io.NodeOutput:
        sketches = Sketches.of(sketch)
        judge = recognizer(by)
        wanted = [class_name.strip() or drawing.label for drawing in sketches]
        scores = scores_for(wanted, judge.scores(sketches), judge.classes)
        best = sorted(range(len(sketches)), key=lambda i: -scores[i])[:keep]
        kept = [scores[i] for i in best]
        if kept:
            host.say(
                f"{len(kept)} of {len(sketches)}, recognized {kept[0]:.0%} to {kept[-1]:.0%}",
                cls.hidden.unique_id,
            )
        return io.NodeOutput(sketches.take(best), kept)


def scores_for(wanted: Sequence[str | None], scores, classes: Sequence[str]) -> list[float]:
    """Of each row of scores (B, classes) that of the class wanted, or its largest where none is."""
    places = {name.casefold(): i for i, name in enumerate(classes)}
    found = []
    for name, row in zip(wanted, scores, strict=True):
        if name is None:
            found.append(float(row.max()))
            continue
        place = places.get(name.replace("_", " ").casefold())
        if place is None:
            raise ValueError(
                f"the recognizer does not know {name!r}. Give class_name one of Sketch Sampler's classes."
            )
        found.append(float(row[place]))
    return found


def recognizer(by: str):
    from ..sketch_core.recognizer import recognizer_by

    return recognizer_by(by)


NODES = [RecognizeSketch, PickBest]
