"""The public verbs over one diffusion model: load a model, draw with it.

Sketch i of a seed is the same drawing alone, in any batch, and after others finish: its length and every
noise it sees come from a generator of its own, seeded by (seed, i), on the CPU.

Limits: from a class to drawings; what starts from a drawing of the user's is in redraw.py and inbetween.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import samplers
from .denoisers import Condition, Denoise, Prediction, bind
from .hub import find_weights, load_weights, sha256_of
from .models.stroke_transformer import coloured, noise_points
from .pen import decode_pen
from .samplers import SAMPLERS, Step
from .schedules import ALPHA_BARS, SCHEDULES, Stride
from .shortcut import Curve, Recognize, Shortcut
from .strokes import Sketch, StrokeLatent
from .weight_file import Loaded, Metadata, load_file

# Of models that do not ask for something else. Chosen with the embedded recognizer, on validation drawings:
# of 8 to 18 steps and of guidance 1.7, 2.1 and 2.3 the fewest steps at which nothing is lost, and the least
# guidance at which 85 % as many drawings are named right as real ones; ddpm did better than ddim and
# dpmpp_2m.
DEFAULTS = {"sampler": "ddpm", "schedule": "uniform", "steps": 12, "guidance": 2.1}
GUIDED = (0.1, 0.7)  # guidance acts between these times; elsewhere it costs calls and variety
MAX_COUNT = 100_000
BATCH = 64  # sketches at a time, unless told otherwise
SHORTCUT = "shortcut"  # the schedule that places its steps by the model's own recognizability curve


@dataclass(frozen=True)
class Emerging(Step):
    """A step of a drawing run, with what it takes to show it. Raise from `on_step` to stop the run.

    length  (b,) points of each active sketch;  labels  b class names or None.
    """

    length: Tensor
    labels: tuple[str | None, ...]


class SketchModel:
    """A trained denoiser and its verbs.

    source    the name or the file that its weights came from, beside which the shortcut's are looked for.
    sampling  how it draws unless told otherwise: DEFAULTS, or what its weight file asks for instead.
    guided    the classifier-free guidance scale that was distilled into it, at one call a step; 1: none.
    """

    def __init__(
        self, name: str, network: nn.Module, metadata: Metadata, source: str | Path | None = None
    ) -> None:
        if metadata.scale is None or not metadata.classes or not metadata.lengths:
            raise ValueError(
                f"{name} is a {metadata.architecture}, wanted a model that draws. "
                f"Use 'default', or another one."
            )
        self.name, self.network, self.metadata, self.source = name, network, metadata, source
        wishes = dict(metadata.sampling)
        self.guided = wishes.pop("guided", 1.0)
        if unknown := sorted(set(wishes) - set(DEFAULTS)):
            raise ValueError(
                f"{name} asks for {', '.join(unknown)} in sampling, which this release does not know. "
                f"Use the release that it was written by."
            )
        self.sampling = DEFAULTS | wishes
        for wish, fits in _sound(self.sampling, self.guided).items():
            if not fits:
                value = (self.sampling | {"guided": self.guided})[wish]
                raise ValueError(f"{name} asks to be sampled with {wish} {value!r}. Get the weights again.")
        self.lengths = np.asarray(metadata.lengths, dtype=np.float64)  # (classes, max points + 1) counts
        known = getattr(network.config, "num_classes", None) or len(metadata.classes)
        if not known == len(metadata.classes) == len(self.lengths) or not self.lengths[:, 1:].any(1).all():
            raise ValueError(
                f"{name} has {known} classes, {len(metadata.classes)} class names and {len(self.lengths)} "
                f"histograms of lengths, wanted as many of each, none of them empty. Get the weights again."
            )

    @property
    def classes(self) -> list[str]:
        return list(self.metadata.classes)

    @property
    def scale(self) -> float:
        """Canvas units per model unit."""
        return float(self.metadata.scale)

    @property
    def longest(self) -> int:
        """Points of the longest drawings that the model was trained on."""
        return self.lengths.shape[1] - 1

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @functools.cached_property
    def recognizability(self) -> Loaded:
        """The network and the curve of the shortcut: a file beside the model's, made from these weights."""
        command = f"python -m sketch_core train shortcut --model {self.source or self.name}"
        own = None if self.source is None else find_weights(self.source)
        path = None if own is None else recognizability_file(own)
        if path is None or not path.is_file():
            raise ValueError(
                f"{self.name} has no recognizability curve, which the shortcut needs. Make it: `{command}`."
            )
        found = load_file(path)
        if found.metadata.training.get("denoiser") != sha256_of(own):
            raise ValueError(
                f"{path.name} was made from other weights than {own.name} holds now. "
                f"Calibrate it again: `{command} --calibrate --force`."
            )
        return found

    def placement(self, schedule: str | Stride, steps: int) -> Stride:
        """The stride policy of a name; policies pass through, a `Shortcut` is given the model's network."""
        if isinstance(schedule, Shortcut) and schedule.recognize is None:
            return dataclasses.replace(schedule, recognize=Recognize(self.recognizability.model))
        if callable(schedule):
            return schedule
        if schedule == SHORTCUT:
            figures = self.recognizability.metadata.figures
            return Curve(figures.get("t", ()), figures.get("r", ())).placed(steps)
        if schedule not in SCHEDULES:
            known = ", ".join([*SCHEDULES, SHORTCUT])
            raise ValueError(f"unknown schedule {schedule!r}. Known: {known}.")
        return SCHEDULES[schedule](steps, ALPHA_BARS[self.network.config.schedule])

    def draw(
        self,
        class_name: str | None | Sequence[str | None],
        *,
        pen: str = "threshold",
        min_stroke: float = 0.0,
        seed: int = 0,
        **sampling,
    ) -> list[Sketch]:
        """`count` sketches of each class, on the 255 canvas; options as in `sample` and `pen.decode_pen`."""
        latent = self.sample(class_name, seed=seed, **sampling)
        return decode_pen(latent, mode=pen, min_stroke=min_stroke, seed=seed)

    def sample(
        self,
        class_name: str | None | Sequence[str | None],
        *,
        count: int = 1,
        start: int = 0,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        schedule: str | Stride | None = None,
        guidance: float | None = None,
        detail: int | None = None,
        batch_size: int = BATCH,
        on_step: Callable[[Emerging], None] | None = None,
    ) -> StrokeLatent:
        """Offsets and pen logits of `count` sketches of each class, class after class.

        class_name  a name, a list of them, or None for whatever the model likes.
        start       index of the first sketch of each class; sketch i is the same whatever `start` and `count`
                    are.
        steps, sampler, schedule, guidance  None: those of `SketchModel.sampling`.
        schedule    a name from SCHEDULES, "shortcut" (the steps placed by the model's recognizability curve),
                    a `Shortcut` (as many steps as it takes), or a stride policy of your own.
        guidance    classifier-free guidance scale; 1 is none. `SketchModel.guided` costs one call a step, any
                    other scale two where guidance acts.
        detail      points a sketch; None draws them from what people use for the class.
        on_step     hears of every step of every batch of `batch_size` sketches.
        """
        names = [class_name] if class_name is None or isinstance(class_name, str) else list(class_name)
        if not names:
            raise ValueError("no class was given, wanted at least one name. Give None for any class.")
        labels = [self.label(name) for name in names]
        steps, sampler, schedule, guidance = self.settled(steps, sampler, schedule, guidance)
        self.check(count, start, seed, sampler, guidance, detail, batch_size)
        stride = self.placement(schedule, steps)
        wanted = [(label, index) for label in labels for index in range(start, start + count)]
        parts = []
        for first in range(0, len(wanted), batch_size):
            batch = wanted[first : first + batch_size]
            parts.append(self._sample(batch, seed, stride, sampler, guidance, detail, on_step))
        N = max(part[0].shape[1] for part in parts)
        grown = [[nn.functional.pad(v, (0, 0, 0, N - v.shape[1])) for v in part[:2]] for part in parts]
        return StrokeLatent(
            points=torch.cat([points for points, _ in grown]),
            pen=torch.cat([pen for _, pen in grown]),
            length=torch.cat([part[2] for part in parts]),
            scale=self.scale,
            labels=tuple(self.name_of(label) for label, _ in wanted),
            seeds=tuple((seed, index) for _, index in wanted),
            calls=tuple(torch.cat([part[3] for part in parts]).tolist()),
        )

    def _sample(
        self,
        wanted: list[tuple[int, int]],
        seed: int,
        stride: Stride,
        sampler: str,
        guidance: float,
        detail: int | None,
        on_step: Callable[[Emerging], None] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One batch of (label, index), on the CPU: points (B, N, 2), pen logits (B, N, 3), length, calls."""
        generators = [sketch_generator(seed, index) for _, index in wanted]
        drawn = [self.draw_length(label, g) for (label, _), g in zip(wanted, generators, strict=True)]
        length = torch.tensor([detail or n for n in drawn])  # with or without detail, the noise is the same
        told = Condition(torch.tensor([label for label, _ in wanted]), length)
        found = self.walk(told, generators, stride, sampler=sampler, guidance=guidance, on_step=on_step)
        return found.points, found.pen, length, found.calls

    def walk(
        self,
        told: Condition,
        generators: Sequence[torch.Generator],
        stride: Stride,
        *,
        sampler: str | None = None,
        guidance: float | None = None,
        points: Tensor | None = None,
        start: float | Tensor = 1.0,
        fresh: float | Tensor = 1.0,
        around: Callable[[Denoise], Denoise] | None = None,
        on_step: Callable[[Emerging], None] | None = None,
    ) -> Prediction:
        """One batch of B sketches, from noise to clean drawings: points (B, N, 2), pen logits (B, N, 3).

        told        what each sketch is told; this and the result are on the CPU.
        generators  one a sketch: all the noise that it sees.
        points      (B, N, 2) model units; the walk begins with these noised to t = `start`, not in noise.
        start       that time: of all, or (B,) of each.
        fresh       share of that noise that is added to `points`, which carry the rest: of all, or (B,).
        around      a denoiser in, a denoiser out: what is held, where it is pulled to.
        """
        _, sampler, _, guidance = self.settled(None, sampler, stride, guidance)
        length, device, config = told.length, self.device, self.network.config
        N = int(length.max())

        def noise(like: Tensor, active: Tensor) -> Tensor:
            out = torch.zeros(len(active), N, 2)
            for row, i in enumerate(active.tolist()):
                n = int(length[i])
                white = torch.randn(1, noise_points(config, n), 2, generator=generators[i])
                out[row, :n] = coloured(white, config)[0]
            return out.to(like)

        alpha_bar = ALPHA_BARS[self.network.config.schedule]
        x = noise(torch.zeros(1, device=device), torch.arange(len(length)))
        if points is not None:
            level = alpha_bar(torch.as_tensor(start, dtype=torch.float64))
            kept, added = (one.to(x)[..., None, None] for one in (level.sqrt(), (1 - level).sqrt() * fresh))
            x = kept * points.to(x) + added * x
        denoise = self.bound(told, guidance)
        if around is not None:
            denoise = around(denoise)

        def callback(step: Step) -> None:
            names = tuple(self.name_of(int(told.label[i])) for i in step.active)
            on_step(Emerging(**vars(step), length=length[step.active], labels=names))

        options = {"start": start, "callback": callback if on_step is not None else None}
        if sampler == "ddpm":
            found = samplers.sample_ddpm(denoise, x, alpha_bar, stride, noise, **options)
        else:
            found = SAMPLERS[sampler](denoise, x, alpha_bar, stride, **options)
        return Prediction(found.points.cpu(), found.pen.cpu(), found.calls)

    def bound(self, told: Condition, guidance: float) -> Denoise:
        """The denoiser of what each sketch is told, at a guidance scale.

        A network with guidance in it says c' = n + G (c - n) for c, where n is what it says without a class:
        n + g (c - n) = n + g / G (c' - n).
        """
        alpha_bar = ALPHA_BARS[self.network.config.schedule]
        scale = guidance / self.guided
        return bind(self.network, told.to(self.device), alpha_bar, guidance=scale, interval=GUIDED)

    def settled(
        self,
        steps: int | None,
        sampler: str | None,
        schedule: str | Stride | None,
        guidance: float | None,
    ) -> tuple[int, str, str | Stride, float]:
        """The same four, with the model's own settings in place of None."""
        given = {"steps": steps, "sampler": sampler, "schedule": schedule, "guidance": guidance}
        return tuple(self.sampling[name] if value is None else value for name, value in given.items())

    def draw_length(self, label: int, generator: torch.Generator) -> int:
        """A number of points, drawn from the class's own histogram; without a class, from that of all."""
        counts = self.lengths[label] if label < len(self.lengths) else self.lengths.sum(0)
        cumulative = np.cumsum(counts) / counts.sum()
        at = float(torch.rand((), generator=generator, dtype=torch.float64))
        return max(1, int(np.searchsorted(cumulative, at, side="right")))

    def label(self, name: str | None) -> int:
        """The index of a class, in any case and with `_` for a space; the null class for None."""
        if name is None:
            return len(self.classes)
        places = {known.lower(): i for i, known in enumerate(self.classes)}
        plain = str(name).strip().replace("_", " ").lower()
        if plain not in places:
            near = difflib.get_close_matches(plain, places, n=3)
            hint = f" Near: {', '.join(self.classes[places[n]] for n in near)}." if near else ""
            raise ValueError(f"unknown class {name!r}.{hint} See `python -m sketch_core classes`.")
        return places[plain]

    def name_of(self, label: int) -> str | None:
        return self.classes[label] if label < len(self.classes) else None

    def check(
        self,
        count: int,
        start: int,
        seed: int,
        sampler: str = DEFAULTS["sampler"],
        guidance: float = DEFAULTS["guidance"],
        detail: int | None = None,
        batch_size: int = BATCH,
    ) -> None:
        """Refuses settings of a run in one sentence."""
        whole = {
            "count": count,
            "start": start,
            "seed": seed,
            "detail": detail or 0,
            "batch_size": batch_size,
        }
        for name, value in whole.items():
            if not isinstance(value, Integral):
                raise ValueError(f"{name} is {value!r}, wanted a whole number.")
        if not 1 <= count <= MAX_COUNT:
            raise ValueError(f"count is {count}, wanted 1 to {MAX_COUNT}.")
        if not 0 <= start < 2**31:
            raise ValueError(f"start is {start}, wanted 0 to {2**31 - 1}.")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}, wanted 0 to {2**64 - 1}.")
        if sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler {sampler!r}. Known: {', '.join(SAMPLERS)}.")
        if not 0 <= guidance <= 100:
            raise ValueError(f"guidance is {guidance}, wanted 0 to 100. 1 is none, 3 a good start.")
        if detail is not None and not 2 <= detail <= self.longest:
            raise ValueError(
                f"detail is {detail}, wanted 2 to {self.longest} points: the model saw no longer drawings."
            )
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, wanted at least 1.")


def _sound(sampling: dict, guided: object) -> dict[str, bool]:
    """Whether what a weight file asks for can be done."""
    steps, guidance = sampling["steps"], sampling["guidance"]
    return {
        "sampler": sampling["sampler"] in list(SAMPLERS),
        "schedule": sampling["schedule"] in [*SCHEDULES, SHORTCUT],
        "steps": type(steps) is int and 1 <= steps <= 1000,
        "guidance": type(guidance) in (int, float) and 0 <= guidance <= 100,
        "guided": type(guided) in (int, float) and 0 < guided <= 100,
    }


def recognizability_file(path: Path) -> Path:
    """Where the shortcut's weights of a model's weight file lie: beside it, `recognizability.` in front."""
    return path.with_name(f"recognizability.{path.stem.rsplit('.', 1)[-1]}{path.suffix}")


def sketch_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of sketch `index` of a seed: its length, then all of its noise."""
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


def preview(step: Emerging, model: SketchModel) -> list[Sketch]:
    """What the denoiser sees behind the noise at a step: the sketches of the active ones, in order."""
    points, pen = step.prediction.points.cpu(), step.prediction.pen.cpu()
    return decode_pen(StrokeLatent(points, pen, step.length, model.scale, step.labels))


def load(name: str | Path = "default") -> SketchModel:
    """A model by its name in weights_manifest.json, or from a `.safetensors` file."""
    weights = load_weights(name)
    if not hasattr(weights.model.config, "schedule"):
        raise ValueError(
            f"{name} is a {weights.metadata.architecture}, wanted a model that draws. "
            f"Use 'default', or another one."
        )
    return SketchModel(weights.name, weights.model, weights.metadata, name)
