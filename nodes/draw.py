"""From a class name to strokes: Sketch Schedule and Shortcut, Sketch Sampler, Pen-State Decoder."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from . import host
from .load import EMBEDDED
from .sampling import (
    MAX_SEED,
    detail_input,
    guidance_input,
    preview_input,
    sampler_input,
    seed_input,
    start_input,
    steps_input,
)
from .wires import Guide, Latent, LoadedModel, Model, Schedule, Sketches, SketchWire, advanced, io, schema

if TYPE_CHECKING:
    from PIL.Image import Image

ANY_CLASS = "(any)"
FIRST_CLASS = "eye"  # what a new node draws: one of the classes with the most training drawings
PREVIEWED = 16  # sketches in a live preview, at most
MAX_GUIDED = 4096  # drawings of one run that follow others
TICKS = 1000  # of a progress bar, where nobody knows how many steps there will be


class SketchSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Schedule",
            display_name="Sketch Schedule",
            category="sketch/draw",
            description="How the steps of Sketch Sampler are spread between noise and the finished drawing.",
            inputs=[
                io.Combo.Input(
                    "schedule",
                    options=["uniform", "quadratic", "logsnr"],
                    default="uniform",
                    tooltip="uniform: steps of equal size. quadratic: large ones in the noise, small ones "
                    "near the end, where details are drawn. logsnr: equal steps of the ratio of drawing to "
                    "noise; made for dpmpp_2m.",
                ),
            ],
            outputs=[
                Schedule.Output(
                    display_name="schedule", tooltip="The spacing of the steps, for Sketch Sampler."
                )
            ],
        )

    @classmethod
    def execute(cls, schedule: str) -> io.NodeOutput:
        return io.NodeOutput(schedule)


class RecognizabilityShortcut(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_Shortcut",
            display_name="Recognizability Shortcut",
            category="sketch/draw",
            description="Places the steps of Sketch Sampler by how recognizable the drawing is on its way.",
            search_aliases=["r-shortcut", "fast", "schedule", "few steps"],
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=["budget", "threshold"],
                    default="budget",
                    tooltip="budget: exactly the sampler's steps, placed where drawings become recognizable; "
                    "costs nothing. threshold: each drawing jumps until it is recognizable, then goes in "
                    "single steps; the sampler's steps do not count.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For mode threshold: recognizability from which single steps begin. Lower: "
                    "earlier, slower. 1: jumps only.",
                ),
                io.Int.Input(
                    "jump",
                    default=50,
                    min=1,
                    max=1000,
                    tooltip="For mode threshold: single steps that a jump skips over. The whole way is 1000.",
                ),
            ],
            outputs=[
                Schedule.Output(
                    display_name="schedule",
                    tooltip="For Sketch Sampler, which says on itself how many calls the drawings took.",
                )
            ],
        )

    @classmethod
    def execute(cls, mode: str, threshold: float, jump: int) -> io.NodeOutput:
        from ..sketch_core.knitter import SHORTCUT
        from ..sketch_core.shortcut import Shortcut

        return io.NodeOutput(SHORTCUT if mode == "budget" else Shortcut(threshold, jump))


class SketchSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        classes = embedded_classes()
        return schema(
            node_id="SK_Sampler",
            display_name="Sketch Sampler",
            category="sketch/draw",
            description="Draws vector sketches: a cloud of stroke points is denoised step by step. The "
            "same seed gives the same drawings, whatever `count` is.",
            search_aliases=["generate sketch", "draw", "doodle", "quickdraw"],
            inputs=[
                Model.Input("model", tooltip="From Load Sketch Model."),
                Schedule.Input(
                    "schedule",
                    optional=True,
                    tooltip="From Sketch Schedule or Recognizability Shortcut; uniform if nothing is "
                    "connected.",
                ),
                io.Combo.Input(
                    "class_name",
                    options=[ANY_CLASS, *classes],
                    default=FIRST_CLASS if FIRST_CLASS in classes else ANY_CLASS,
                    tooltip="What to draw. '(any)' lets the model choose.",
                ),
                io.Int.Input("count", default=4, min=1, max=1024, tooltip="Drawings per class."),
                seed_input("Drawing i of a seed is always the same, drawn alone or with others."),
                steps_input(
                    "Steps from noise to drawing, a call of the network each (heun: two). More is slower and "
                    "a little cleaner."
                ),
                guidance_input(
                    "How strongly to insist on the class (classifier-free guidance). 1: not at all. Higher: "
                    "clearer and more alike. 2.1 is built into the default model; any other value takes it "
                    "nearly twice as long."
                ),
                sampler_input(
                    "ddpm: fresh noise at each step; mends its own mistakes. ddim: no noise on the way, so "
                    "that a small change of settings is a small change of the drawing. dpmpp_2m: as ddim, "
                    "and learns from its last step. heun: as ddim, and tries each step before taking it."
                ),
                detail_input(
                    "Points per drawing: about 20 is sparse, 80 elaborate. 0: as many as people use for the "
                    "class."
                ),
                start_input("Number of the first drawing of this seed: 4 goes on where a run of 4 ended."),
                advanced(
                    io.String.Input(
                        "classes",
                        default="",
                        optional=True,
                        placeholder="cat, dog, ...",
                        tooltip="If given, replaces the class above: names separated by commas, `count` "
                        "drawings each. Also the way to name a class that only another model knows.",
                    )
                ),
                preview_input(),
                Guide.Input(
                    "guide",
                    optional=True,
                    tooltip="From Guided Rectifier: drawings that are followed, `count` for each. Class and "
                    "number of points are then the guide's (points are this node's for a guide by picture). "
                    "Rough drawings are followed closest with ddim.",
                ),
            ],
            outputs=[
                Latent.Output(
                    display_name="latent",
                    tooltip="Stroke points and pen logits, not yet cut into strokes: for Pen-State Decoder.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, class_name: str) -> bool | str:
        # Whether the class exists is for the connected model to say; the list is that of the embedded one.
        return True if class_name.strip() else "class_name is empty. Choose a class, or '(any)'."

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        class_name: str,
        count: int,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        detail: int,
        start: int,
        schedule: str = "uniform",
        classes: str = "",
        preview: bool = True,
        guide=None,
    ) -> io.NodeOutput:
        from ..sketch_core import rectifier, samplers

        names = [name.strip() for name in classes.split(",") if name.strip()] or [class_name]
        wanted = [None if name == ANY_CLASS else name for name in names]
        settings = {
            "steps": steps,
            "sampler": sampler,
            "schedule": schedule,
            "guidance": guidance,
            "detail": detail or None,
        }
        sketch_model = model.sketch_model
        if guide is None:
            draw, told = functools.partial(sketch_model.sample, wanted), {}
            looks = None if open_ended(schedule) else samplers.looks(sampler, steps)
            total = count * len(wanted)
        else:
            draw = functools.partial(rectifier.sample_guided, sketch_model, guide)
            told = {"verb": "rectify", "strength": guide.strength, "follow": guide.follow}
            looks, total = None, guided_drawings(sketch_model, guide, count)
        with host.running(model, total=looks or TICKS) as tick:
            on_step = follow(tick, sketch_model, looks, total, preview=preview)
            latent = draw(count=count, start=start, seed=seed, on_step=on_step, **settings)
        said = spent(latent.calls)
        if guide is not None and guide.class_name is None:
            guess = taken_for(sketch_model, guide.sketches, latent.labels)
            said = f"{guess}\n{said}" if guess else said
        host.say(said, cls.hidden.unique_id)
        if open_ended(schedule):
            settings = {**settings, "steps": None, "schedule": str(schedule)}
        settings |= told
        return io.NodeOutput(dataclasses.replace(latent, settings={"model": sketch_model.name, **settings}))


def guided_drawings(sketch_model, guide, count: int) -> int:
    """How many drawings are made of a guide, those from which others are named with them."""
    from ..sketch_core import naming, rectifier

    if len(guide.sketches) * count > MAX_GUIDED:
        raise ValueError(
            f"{len(guide.sketches)} drawings, {count} of each, are more than {MAX_GUIDED}. "
            f"Lower count, or select fewer drawings."
        )
    hard = rectifier.hard_to_name(sketch_model, guide)
    return len(guide.sketches) * count + naming.made_to_name(sketch_model, hard)


def taken_for(sketch_model, sources: Sequence, labels: Sequence[str | None]) -> str:
    """What drawings without a class of the model's were taken for, for a person; '' where all have one."""
    from ..sketch_core.naming import has_class

    if all(has_class(sketch_model, source) for source in sources):
        return ""
    names = list(dict.fromkeys(str(label) for label in labels if label))
    return f"taken for: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"


def open_ended(schedule) -> bool:
    """Whether a schedule takes as many steps as it likes."""
    return not isinstance(schedule, str)


def spent(calls: Sequence[float]) -> str:
    """What drawings cost, for a person: '18 network calls a drawing', or from how many to how many."""
    if not calls:
        return ""
    low, high, mean = min(calls), max(calls), sum(calls) / len(calls)
    if low == high:
        return f"{low:g} network calls a drawing"
    return f"{low:g} to {high:g} network calls a drawing, {mean:.1f} on average"


def follow(tick: Callable, sketch_model, looks: int | None, total: int, *, preview: bool) -> Callable:
    """`on_step` for the library: how far a run of `total` sketches is, drawn in batches one after another.

    looks  steps that the sampler will be heard of; None: nobody knows, so time tells, in TICKS.
    """
    finished, batch = 0, 0

    def on_step(step) -> None:
        nonlocal finished, batch
        if step.index == 0:
            finished, batch = finished + batch, len(step.active)
        if looks is None:
            done = int((finished + batch - float(step.t.sum())) * TICKS) // total
        else:
            done = (finished * looks + batch * min(step.index + 1, looks)) // total
        tick(done, functools.partial(picture, sketch_model, step) if preview else None)

    return on_step


def picture(sketch_model, step) -> Image:
    """The emerging drawings of a step on one sheet."""
    from ..sketch_core import knitter, raster

    sketches = knitter.preview(step, sketch_model)[:PREVIEWED]
    columns = math.ceil(math.sqrt(len(sketches))) or 1
    return raster.contact_sheet(sketches, columns=columns, cell=host.PREVIEW_SIDE // columns)


class PenStateDecoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_PenDecoder",
            display_name="Pen-State Decoder",
            category="sketch/draw",
            description="Decides after which points the pen lifts and where a drawing ends, and makes "
            "sketches of it.",
            inputs=[
                Latent.Input("latent", tooltip="From Sketch Sampler."),
                io.Combo.Input(
                    "mode",
                    options=["argmax", "threshold", "temperature"],
                    default="threshold",
                    tooltip="threshold: lift where a lift is likelier than `threshold`. argmax: where it is "
                    "likelier than not. temperature: lift by chance, by `seed`.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For mode threshold: probability of a lift from which the pen is lifted. "
                    "Lower: more, shorter strokes.",
                ),
                io.Float.Input(
                    "temperature",
                    default=1.0,
                    min=0.01,
                    max=10.0,
                    step=0.05,
                    tooltip="For mode temperature: 1 follows the model's own probabilities, lower is "
                    "surer, higher wilder.",
                ),
                io.Float.Input(
                    "min_stroke",
                    default=0.0,
                    min=0.0,
                    max=255.0,
                    step=0.5,
                    tooltip="Drop strokes shorter than this, in units of the 255 x 255 canvas. 0 keeps "
                    "every dot.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=False,  # by its name alone the front end would randomize it
                    tooltip="For mode temperature: which of the possible lifts are taken.",
                ),
            ],
            outputs=[
                SketchWire.Output(
                    display_name="sketch", tooltip="The drawings as strokes, one for each in the latent."
                )
            ],
        )

    @classmethod
    def execute(
        cls, latent, mode: str, threshold: float, temperature: float, min_stroke: float, seed: int
    ) -> io.NodeOutput:
        from ..sketch_core.pen import decode_pen

        options = {"threshold": threshold} if mode == "threshold" else {}
        if mode == "temperature":
            options = {"temperature": temperature, "seed": seed}
        sketches = decode_pen(latent, mode=mode, min_stroke=min_stroke, **options)
        decoded = {
            "pen": mode,
            **{f"pen_{name}": value for name, value in options.items()},
            "min_stroke": min_stroke,
        }
        return io.NodeOutput(Sketches(sketches, [{**record, **decoded} for record in records(latent)]))


def records(latent) -> list[dict]:
    """For each drawing of a latent what made it, under the names the command line uses."""
    seeds, calls = latent.seeds or [None] * len(latent), latent.calls or [None] * len(latent)
    return [
        {
            **latent.settings,
            "class": label,
            **({} if made is None else {"seed": made[0], "index": made[1]}),
            **({} if cost is None else {"network_calls": cost}),
        }
        for label, made, cost in zip(latent.labels, seeds, calls, strict=True)
    ]


@functools.lru_cache(maxsize=1)
def embedded_classes() -> tuple[str, ...]:
    """Classes of the embedded model, from the header of its file; a pack without weights still loads."""
    from ..sketch_core.hub import read_metadata

    try:
        return tuple(read_metadata(EMBEDDED).classes)
    except (OSError, ValueError) as error:
        logging.warning(
            "SketchKnitter: the embedded model cannot be read, so no classes are listed: %s", error
        )
        return ()


NODES = [SketchSchedule, RecognizabilityShortcut, SketchSampler, PenStateDecoder]
