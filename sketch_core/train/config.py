"""The options of a training run: one frozen dataclass, every field of it an option of the command line."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from ..denoisers import NETWORKS
from ..models import MODELS


@dataclass(frozen=True)
class TrainConfig:
    """The comment behind a field is its help on the command line."""

    VERB: ClassVar[str] = "train"

    data: str = ""  # folder of sketch-rnn .npz files with train and valid splits
    out: str = "runs/denoiser"  # folder for checkpoint.pt, weights.safetensors, log.jsonl and sheets
    architecture: str = "stroke_transformer"  # stroke_transformer, stroke_unet or stroke_birnn
    model: str = "{}"  # JSON, fields of the architecture's config that differ from its defaults
    classes: str = ""  # comma list; empty for all in the folder
    extra: str = ""  # another folder of .npz files, added to the training split only
    extra_cap: int = 1_000_000_000  # drawings of a class taken from `extra`, the first ones
    init: str = ""  # .safetensors to start from, when there is no checkpoint in `out`
    minutes: float = 0.0  # stop after so many minutes of this run; 0 for no limit
    steps: int = 0  # stop at this step; 0 for no limit
    lr: float = 3e-3  # peak learning rate of Muon (the matrices in a transformer's blocks)
    adam_lr: float = 1e-3  # peak learning rate of AdamW (everything else)
    weight_decay: float = 0.01  # of both
    warmup: int = 200  # steps of linear warm-up
    decay: float = 0.25  # last share of the budget over which the learning rate falls to a twentieth
    tokens: int = 6144  # padded points a batch, all processes together
    accumulate: int = 1  # parts a process takes its rows in
    max_points: int = 128  # longer drawings are simplified to this
    cap: int = 2500  # drawings of a class from which it is shown no more often
    power: float = 1.5  # class balance: 0 shows every class equally often, 1 every drawing
    stretch: float = 0.1  # augmentation: each axis is scaled by up to this share, either way
    rotation: float = 6.0  # augmentation: degrees at most, either way
    drop: float = 0.1  # augmentation: share of inner points left out, in half of the drawings
    class_dropout: float = 0.1  # share of drawings that lose their class, for classifier-free guidance
    known: float = 0.5  # share of drawings with some points given (stroke_transformer)
    pen_weight: float = 0.1  # of the pen's loss, beside the points' 1
    place_weight: float = 0.25  # of the loss of where the offsets lead
    time_shift: float = 1.0  # above 1, more of training at high noise: t = s u / (1 + (s - 1) u), u uniform
    ema: float = 0.999  # what a step keeps of the averaged weights
    seed: int = 0  # of the first weights, batches, noise and times
    precision: str = "bf16"  # autocast: bf16 or fp32
    compile: bool = False  # torch.compile, about twice as fast where a C++ compiler is found
    device: str = "cpu"  # cpu, cuda, or another of torch's
    checkpoint_minutes: float = 5.0  # between two checkpoints
    sheet_minutes: float = 15.0  # between two contact sheets

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:  # nan is outside, too
                raise ValueError(
                    f"{name} is {getattr(self, name)}, wanted a number from {low:g} to {high:g}."
                )
        if not self.minutes and not self.steps:
            raise ValueError(
                "neither minutes nor steps is given: training would never end. Give one of them."
            )
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision is {self.precision!r}, wanted bf16 or fp32.")
        if MODELS.get(self.architecture, (None,))[0] not in NETWORKS:
            known = ", ".join(name for name, (Model, _) in MODELS.items() if Model in NETWORKS)
            raise ValueError(f"unknown architecture {self.architecture!r}. Known: {known}.")
        self.settings()
        try:
            torch.empty(0, device=self.device)
        except (
            RuntimeError,
            AssertionError,
            NotImplementedError,
        ) as error:  # torch built without CUDA asserts
            reason = str(error).split("\n")[0].rstrip(".")
            raise ValueError(f"device {self.device!r} cannot be used here: {reason}. Try cpu.") from None

    def settings(self) -> dict:
        """`model` as a dictionary."""
        try:
            settings = json.loads(self.model)
        except ValueError:
            settings = None
        if not isinstance(settings, dict):
            raise ValueError(
                f'model is {self.model!r}, wanted JSON such as {{"width": 128}}. Put it in single quotes.'
            )
        return settings


RANGES = {
    "minutes": (0, 1e7),
    "steps": (0, 1e12),
    "lr": (0, 10),
    "adam_lr": (0, 10),
    "weight_decay": (0, 10),
    "warmup": (0, 1e9),
    "decay": (0, 1),
    "tokens": (1, 1e8),
    "accumulate": (1, 1e4),
    "max_points": (2, 1024),
    "extra_cap": (1, 1e12),
    "cap": (1, 1e12),
    "power": (0, 10),
    "stretch": (0, 0.9),
    "rotation": (0, 180),
    "drop": (0, 1),
    "class_dropout": (0, 1),
    "known": (0, 1),
    "pen_weight": (0, 1e3),
    "place_weight": (0, 1e3),
    "time_shift": (0.01, 100),
    "ema": (0, 1),
    "seed": (0, 2**31 - 1),
    "checkpoint_minutes": (0, math.inf),
    "sheet_minutes": (0, math.inf),
}


def command_line(c: TrainConfig) -> str:
    """The command line of these options, for a reader elsewhere: of paths, the last part only."""
    words = ["python", "-m", "sketch_core", *c.VERB.split(), "--data", "quickdraw"]
    for option in dataclasses.fields(c):
        value, name = getattr(c, option.name), "--" + option.name.replace("_", "-")
        if value == option.default or option.name in ("data", "out"):
            continue
        if option.name in ("extra", "init", "teacher"):
            value = Path(value).name
        words += [name] if value is True else [name, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
