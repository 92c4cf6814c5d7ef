"""Progressive distillation (Salimans & Ho, 2022, arXiv:2202.00512): a student that draws in a few calls.

`python -m sketch_core train distil --data DIR --teacher base --student-steps 8 --minutes 40 --out DIR`.
The student begins as its teacher. One DDIM step of its own shall lead where several of the teacher's lead,
classifier-free guidance included (Meng et al., 2023, arXiv:2210.03142, stage one), so that a step costs one
network call. In place of the paper's many halvings it goes to the wanted number at once: between two of its
times the teacher takes `teacher_steps`.

With `--student-steps 0` the guidance alone is distilled, at all times: the student draws as the guided
teacher does, by any sampler in any number of steps, for half the calls.

Its pens are the teacher's, as those of the teacher's last step say. The weight file says how the student
wants to be sampled, and `SketchModel` keeps to it unless told otherwise. Without a class the student is the
teacher without a class: from the two, any other guidance can be had for a second call (`SketchModel.bound`).

Limits: a student of some steps knows its own times alone. With more steps or another sampler it draws, but
not better; it draws by DDIM, so that a seed's first noise decides everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..denoisers import Condition, clean
from ..hub import find_weights
from ..knitter import DEFAULTS, GUIDED
from ..samplers import noise_part, towards
from ..weight_file import load_file
from .command import options_of, run
from .config import TrainConfig
from .losses import target
from .trainer import Trainer


@dataclass(frozen=True)
class DistilConfig(TrainConfig):
    """The comment behind a field is its help on the command line."""

    VERB: ClassVar[str] = "train distil"

    teacher: str = "base"  # name or .safetensors file of the model that is distilled
    student_steps: int = 8  # network calls a drawing; 0: any number, only the guidance is distilled
    teacher_steps: int = 2  # of the teacher, in place of one of the student's
    guidance: float = DEFAULTS["guidance"]  # of the teacher; the student needs none

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("student_steps", 0), ("teacher_steps", 1)):
            if not least <= getattr(self, name) <= 1000:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, wanted a whole number from {least} to 1000."
                )
        if not 0 < self.guidance <= 100:
            raise ValueError(f"guidance is {self.guidance:g}, wanted above 0, 100 at most. 1 is none.")


class Distiller(Trainer):
    """A trainer whose targets are where a teacher would go.

    guidance  beyond what the teacher has in it, as in `SketchModel.bound`.
    """

    config: DistilConfig

    def __post_init__(self) -> None:
        path = find_weights(self.config.teacher)
        if not self.config.init:  # a checkpoint in `out` goes before this
            self.config = replace(self.config, init=str(path))
        super().__post_init__()
        teacher = load_file(path)
        if type(teacher.model) is not type(self.network) or teacher.model.config != self.network.config:
            raise ValueError(f"{path.name} is another network than the student's. Leave --init out.")
        if teacher.metadata.classes != self.train.classes:
            raise ValueError(
                f"{path.name} knows other classes than {self.config.data}. "
                f"Give the folder that it was trained on."
            )
        self.guidance = self.config.guidance / teacher.metadata.sampling.get("guided", 1.0)
        self.teacher: nn.Module = teacher.model.to(self.config.device)
        self.guide = torch.compile(self.teacher, dynamic=True) if self.config.compile else self.teacher

    def times(self, u: Tensor, *, shift: float) -> Tensor:
        """The student's own times, 1 / steps to 1, whatever the `shift`; all times if it has none."""
        steps = self.config.student_steps
        if not steps:
            return super().times(u, shift=shift)
        return ((u * steps).floor() + 1).clamp(max=steps) / steps

    @torch.no_grad()
    def wanted(
        self, x_t: Tensor, t: Tensor, told: Condition, x0: Tensor, eps: Tensor, pen: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The prediction at x_t whose DDIM step leads where the teacher's steps lead, and its last pens."""
        c, prediction = self.config, self.network.config.prediction
        if not c.student_steps:
            output, logits = self.teach(x_t, t, told)
            return output, logits.softmax(-1)
        end = (t.double() - 1 / c.student_steps).clamp(min=0)
        x, here = x_t, t.double()
        for k in range(1, c.teacher_steps + 1):
            there = t.double() + (end - t.double()) * k / c.teacher_steps
            output, logits = self.teach(x, here, told)
            seen = clean(prediction, output, x, self.alpha_bar(here))
            seen = torch.where(known[..., None], x0, seen)  # a sampler puts what is known right
            _, x = towards(x, seen, self.alpha_bar(here), self.alpha_bar(there))
            here = there
        a, b = self.alpha_bar(t), self.alpha_bar(end)
        gain, without = towards(x_t, torch.zeros_like(x_t), a, b)
        goal = (x - without) / gain
        noise = noise_part(x_t, goal, a)
        return target(prediction, goal, noise, a.to(x.device)), logits.softmax(-1)

    def teach(self, x: Tensor, t: Tensor, told: Condition) -> tuple[Tensor, Tensor]:
        """What the guided teacher says of x (B, N, 2) at t (B,): its prediction (B, N, 2), pen logits."""
        null = self.network.config.num_classes
        guided = (t >= GUIDED[0]) & (t <= GUIDED[1]) & (told.label != null)
        which = guided.nonzero()[:, 0] if self.guidance != 1 else guided.nonzero()[:0, 0]
        with self.autocast():
            points, pen = self.run(self.guide, x, t.to(x), told)
            if len(which):
                free = told.rows(which).without_class(null)
                free, _ = self.run(self.guide, x[which], t[which].to(x), free)
                free = free.float() + self.guidance * (points[which].float() - free.float())
                points = points.float().index_put((which,), free)
        return points.float(), pen.float()

    def metadata(self) -> dict:
        found, c = super().metadata(), self.config
        found["trained_on"] += f"; distilled from {Path(c.teacher).name}"
        sampling = {"guidance": c.guidance, "guided": c.guidance}
        if c.student_steps:
            sampling |= {"sampler": "ddim", "schedule": "uniform", "steps": c.student_steps}
        return found | {"sampling": sampling}


def main(argv: Sequence[str]) -> int:
    """`python -m sketch_core train distil`: as `train`, with a teacher."""
    about = "Distil a denoiser: a student that draws in a few network calls, guidance included."
    options = options_of(DistilConfig, about).parse_args(list(argv))
    return run(DistilConfig(**vars(options)), Distiller)
