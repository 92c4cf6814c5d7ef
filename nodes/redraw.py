"""From a drawing of one's own: Complete, Heal, Vary and Interpolate Sketch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import host
from .draw import ANY_CLASS, MAX_GUIDED, TICKS, embedded_classes, follow, open_ended, taken_for
from .sampling import (
    detail_input,
    guidance_input,
    preview_input,
    sampler_input,
    seed_input,
    start_input,
    steps_input,
)
from .wires import LoadedModel, Model, Schedule, Sketches, SketchWire, advanced, io, schema

AS_DRAWN = "(as drawn)"
MAX_DRAWINGS = MAX_GUIDED


def class_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "class_name",
            options=[AS_DRAWN, ANY_CLASS, *embedded_classes()],
            default=AS_DRAWN,
            tooltip="What it shows. '(as drawn)': what it was drawn or saved as, or else the recognizer's "
            "guess, which the node then shows. '(any)' leaves it to the model.",
        ),
    ]


def other_class() -> io.Input:
    return advanced(
        io.String.Input(
            "other_class",
            default="",
            optional=True,
            placeholder="a class of another model",
            tooltip="If given, replaces the class above: a name that only the connected model knows.",
        )
    )


def sampling_inputs() -> list[io.Input]:
    return [
        io.Int.Input("count", default=4, min=1, max=256, tooltip="Results for each drawing."),
        seed_input("Result i of a seed is always the same, made alone or with others."),
        steps_input("Steps from noise to drawing; a small change takes only the last of them."),
        guidance_input("How strongly to insist on the class. 1: not at all, and nearly twice as fast."),
        sampler_input("As in Sketch Sampler. ddpm: more varied. The others draw no noise on the way."),
        start_input("Number of the first result of this seed."),
        other_class(),
        preview_input(),
    ]


def drawing_inputs(what: str) -> list[io.Input]:
    return [
        Model.Input("model", tooltip="From Load Sketch Model."),
        SketchWire.Input("sketch", tooltip=what),
        Schedule.Input(
            "schedule", optional=True, tooltip="From Sketch Schedule; uniform if nothing is connected."
        ),
    ]


def result(tooltip: str) -> list[io.Output]:
    return [SketchWire.Output(display_name="sketch", tooltip=tooltip)]


class CompleteSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Complete",
            display_name="Complete Sketch",
            category="sketch/redraw",
            description="Draws on where you stopped: your strokes stay exactly as they are, new ones follow.",
            search_aliases=["continue", "autocomplete", "finish drawing"],
            inputs=[
                *drawing_inputs("Drawings to finish."),
                *class_inputs(),
                io.Float.Input(
                    "share",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How large your part is: its longer side, of the finished drawing's. 0: the "
                    "canvas is the sheet that the finished drawing fills.",
                ),
                detail_input("Points of the whole drawing. 0: as many as people use for the class."),
                *sampling_inputs(),
            ],
            outputs=result("Finished drawings, `count` for each; the label says what each became."),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, class_name: str) -> bool | str:
        return chosen(class_name)

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        sketch,
        share: float,
        detail: int,
        class_name: str,
        count: int,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        start: int,
        schedule: Any = "uniform",
        other_class: str = "",
        preview: bool = True,
    ) -> io.NodeOutput:
        run = Run(class_name, count, seed, steps, guidance, sampler, start, schedule, other_class, preview)
        return run.of(cls, "complete", model, sketch, {"share": share or None, "detail": detail or None})


class HealSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Heal",
            display_name="Heal Sketch",
            category="sketch/redraw",
            description="Mends drawings: closes gaps in lines, draws anew what lies under a mask, and "
            "steadies shaky lines. Everything else stays to the coordinate.",
            search_aliases=["repair", "inpaint", "erase", "fix lines"],
            inputs=[
                *drawing_inputs("Drawings to mend."),
                *class_inputs(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What to draw anew, painted over the image of the drawing; one for all, or one "
                    "each. Without a mask, gaps are looked for.",
                ),
                io.Combo.Input(
                    "placement",
                    options=["fit", "keep"],
                    default="fit",
                    tooltip="How the drawing lies under the mask: as Sketch to Image drew it for painting.",
                ),
                io.Float.Input(
                    "padding",
                    default=0.05,
                    min=0.0,
                    max=0.45,
                    step=0.01,
                    tooltip="For placement fit: padding as in that Sketch to Image.",
                ),
                io.Float.Input(
                    "gap",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Without a mask: ends of lines that face each other are joined up to this "
                    "distance, of the drawing's longer side. 0: none.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.0,
                    min=0.0,
                    max=0.95,
                    step=0.05,
                    tooltip="How far lines may move between their ends, which stay: 0 not at all, 0.1 a "
                    "little, 0.4 a lot.",
                ),
                *sampling_inputs(),
            ],
            outputs=result("Mended drawings, `count` for each."),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, class_name: str) -> bool | str:
        return chosen(class_name)

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        sketch,
        placement: str,
        padding: float,
        gap: float,
        strength: float,
        class_name: str,
        count: int,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        start: int,
        schedule: Any = "uniform",
        other_class: str = "",
        preview: bool = True,
        mask=None,
    ) -> io.NodeOutput:
        from ..sketch_core import lost, strokes
        from ..sketch_core.given import check_strokes

        sketches = Sketches.of(sketch)
        if mask is not None:
            masks = spread(mask.detach().float().cpu().numpy(), len(sketches), "masks")
            room = padding if placement == "fit" else None
            marked = [lost.eraser(one, area, padding=room) for one, area in zip(sketches, masks, strict=True)]
        else:
            for one in sketches:
                check_strokes(one, model.sketch_model.longest)  # before each end is compared with all others
            sides = [max(np.subtract(b[2:], b[:2])) for b in map(strokes.bounds, sketches)]
            marked = [lost.gaps(one, gap * float(side)) for one, side in zip(sketches, sides, strict=True)]
        marks = [masks for _, masks in marked]
        if not any(area.any() for masks in marks for area in masks):
            marks = None
            if strength == 0:
                where = "under the mask" if mask is not None else "in a gap"
                host.say(f"nothing to heal {where}", cls.hidden.unique_id)
                return io.NodeOutput(sketches.take([i for i in range(len(sketches)) for _ in range(count)]))
        drawn = Sketches([one for one, _ in marked], sketches.records)
        run = Run(class_name, count, seed, steps, guidance, sampler, start, schedule, other_class, preview)
        return run.of(cls, "heal", model, drawn, {"lost": marks, "strength": strength})


class VarySketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Vary",
            display_name="Vary Sketch",
            category="sketch/redraw",
            description="Draws a drawing again, as it might have come out on another day.",
            search_aliases=["variation", "sketch to sketch", "img2img", "denoise"],
            inputs=[
                *drawing_inputs("Drawings to vary."),
                *class_inputs(),
                io.Float.Input(
                    "amount",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0: the drawing itself. 0.2: a steadier or looser hand. 0.5: lines of its own in "
                    "the same layout. 1: only the number of points is kept.",
                ),
                *sampling_inputs(),
            ],
            outputs=result("Variations, `count` for each."),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, class_name: str) -> bool | str:
        return chosen(class_name)

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        sketch,
        amount: float,
        class_name: str,
        count: int,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        start: int,
        schedule: Any = "uniform",
        other_class: str = "",
        preview: bool = True,
    ) -> io.NodeOutput:
        run = Run(class_name, count, seed, steps, guidance, sampler, start, schedule, other_class, preview)
        return run.of(cls, "vary", model, sketch, {"amount": amount})


class InterpolateSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Interpolate",
            display_name="Interpolate Sketch",
            category="sketch/redraw",
            description="Draws what lies between two drawings, in order, as frames of a change from one to "
            "the other.",
            search_aliases=["morph", "tween", "in-between", "animation"],
            inputs=[
                Model.Input("model", tooltip="From Load Sketch Model."),
                SketchWire.Input("sketch", tooltip="Where to begin; the canvas of the results is its own."),
                SketchWire.Input(
                    "other",
                    tooltip="Where to end. Of two batches the first go with the first; one goes with all.",
                ),
                *class_inputs(),
                io.Int.Input("count", default=8, min=1, max=256, tooltip="Drawings between the two."),
                io.Int.Input(
                    "steps",
                    default=24,
                    min=2,
                    max=1000,
                    tooltip="Steps each way: both drawings to noise, and from there back.",
                ),
                io.Boolean.Input(
                    "ends", default=True, tooltip="Put the two drawings themselves first and last."
                ),
                other_class(),
                preview_input(),
            ],
            outputs=result("The way in order."),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, class_name: str) -> bool | str:
        return chosen(class_name)

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        sketch,
        other,
        class_name: str,
        count: int,
        steps: int,
        ends: bool,
        other_class: str = "",
        preview: bool = True,
    ) -> io.NodeOutput:
        from ..sketch_core import inbetween

        sketches, others = Sketches.of(sketch), Sketches.of(other)
        most = max(len(sketches), len(others))
        pairs = list(zip(spread(sketches, most, "drawings"), spread(others, most, "drawings"), strict=True))
        if len(pairs) * (count + 2) > MAX_DRAWINGS:
            raise ValueError(
                f"{len(pairs)} pairs of drawings, {count} between each, are more than {MAX_DRAWINGS}. "
                f"Lower count, or select fewer drawings."
            )
        sketch_model = model.sketch_model
        looks = steps * (2 * inbetween.ROUNDS + 1)
        settings = {"verb": "interpolate", "model": sketch_model.name, "steps": steps}
        made, records = [], []
        with host.running(model, total=looks) as tick:
            on_step = follow(tick, sketch_model, looks, count * len(pairs), preview=preview)
            for a, b in pairs:
                between = inbetween.interpolate(
                    sketch_model,
                    a,
                    b,
                    count=count,
                    class_name=named(class_name, other_class),
                    steps=steps,
                    on_step=on_step,
                )
                made += [a, *between, b] if ends else between
                told = [{**settings, "index": k, "class": one.label} for k, one in enumerate(between)]
                records += [{}, *told, {}] if ends else told
        if named(class_name, other_class) is None:
            say_guess(cls, sketch_model, sketches + others, made)
        return io.NodeOutput(Sketches(made, records))


@dataclass(frozen=True)
class Run:
    """The widgets that complete, heal and vary share."""

    class_name: str
    count: int
    seed: int
    steps: int
    guidance: float
    sampler: str
    start: int
    schedule: Any
    other_class: str
    preview: bool

    def of(self, node: type, verb: str, model: LoadedModel, sketch, options: dict[str, Any]) -> io.NodeOutput:
        """Runs a verb of sketch_core.redraw on a batch, with progress, preview and cancel."""
        from ..sketch_core import naming, redraw

        sketches, sketch_model, count = Sketches.of(sketch), model.sketch_model, self.count
        if len(sketches) * count > MAX_DRAWINGS:
            raise ValueError(
                f"{len(sketches)} drawings, {count} of each, are more than {MAX_DRAWINGS}. "
                f"Lower count, or select fewer drawings."
            )
        name = named(self.class_name, self.other_class)
        settings = {name: getattr(self, name) for name in ("steps", "sampler", "schedule", "guidance")}
        total = len(sketches) * count
        if verb != "vary":  # those without a name are mended first
            lost = None if verb == "complete" else options.get("lost") or ()
            hard = redraw.hard_to_name(sketch_model, sketches, name, lost)
            total += naming.made_to_name(sketch_model, hard)
        with host.running(model, total=TICKS) as tick:
            made = getattr(redraw, verb)(
                sketch_model,
                list(sketches),
                class_name=name,
                count=count,
                start=self.start,
                seed=self.seed,
                on_step=follow(tick, sketch_model, None, total, preview=self.preview),
                **options,
                **settings,
            )
        if open_ended(self.schedule):
            settings |= {"steps": None, "schedule": str(self.schedule)}
        told = {name: value for name, value in options.items() if name != "lost"}
        told = {"verb": verb, "model": sketch_model.name, **told, **settings, "seed": self.seed}
        records = [
            {**told, "class": one.label, "index": self.start + i % count, "source": i // count}
            for i, one in enumerate(made)
        ]
        if name is None:
            say_guess(node, sketch_model, sketches, made[::count])
        return io.NodeOutput(Sketches(made, records))


def say_guess(node: type, sketch_model, sources: Sketches, made: list) -> None:
    """Shows on the node what drawings without a class of the model's were taken for."""
    if guess := taken_for(sketch_model, sources, [one.label for one in made]):
        host.say(guess, node.hidden.unique_id)


def named(class_name: str, other_class: str) -> str | None:
    """`class_name` of the library's verbs."""
    from ..sketch_core.naming import ANY_CLASS as ANY

    if other_class.strip():
        return other_class.strip()
    return {AS_DRAWN: None, ANY_CLASS: ANY}.get(class_name, class_name)


def chosen(class_name: str) -> bool | str:
    # Whether the class exists is for the connected model to say; the list is that of the embedded one.
    return True if class_name.strip() else f"class_name is empty. Choose a class, or '{AS_DRAWN}'."


def spread(batch, size: int, what: str) -> list:
    """A batch of `size`, or one item as often."""
    if len(batch) not in (1, size):
        raise ValueError(f"got {len(batch)} {what} for {size}, wanted one, or as many.")
    return list(batch) if len(batch) == size else [batch[0]] * size


NODES = [CompleteSketch, HealSketch, VarySketch, InterpolateSketch]
