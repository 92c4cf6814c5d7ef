"""`python -m sketch_core train`: the options of `TrainConfig`, a progress line, contact sheets, Ctrl-C.

Two processes on one machine: `torchrun --nproc-per-node 2 -m sketch_core train ...` with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import signal
import sys
import time
from pathlib import Path

from ..arguments import Parser
from .config import TrainConfig
from .loop import train
from .trainer import Trainer

INTERRUPTED = 130  # exit status


def main(argv: list[str]) -> int:
    """Trains, and returns the exit status: 0 when the budget is spent, 130 when stopped before and saved."""
    match argv[:1]:
        case ["recognizer"]:
            from .recognizer import main as other
        case ["stroke-recognizer"]:
            from .stroke_recognizer import main as other
        case ["shortcut"]:
            from .shortcut import main as other
        case ["distil"]:
            from .distil import main as other
        case ["ablations"]:
            from .ablations import main as other
        case _:
            other = None
    if other is not None:
        return other(argv[1:])
    config = TrainConfig(**vars(parser().parse_args(argv)))
    return run(config, Trainer)


def run(config: TrainConfig, Kind: type[Trainer]) -> int:
    """Trains with a progress line until the budget is spent or Ctrl-C; the exit status."""
    with Interrupt() as interrupt, Progress() as progress:
        trainer = train(config, Kind, on_step=progress, draw_sheet=draw_sheet, stop=interrupt)
    if trainer.rank == 0:
        weights = Path(config.out, "weights.safetensors")
        sys.stdout.write(f"step {trainer.step}, {trainer.drawings} drawings seen: {weights}\n")
    if interrupt.heard:
        sys.stderr.write("sketch_core: stopped and saved; the same command goes on from there.\n")
    return INTERRUPTED if interrupt.heard else 0


def parser() -> argparse.ArgumentParser:
    return options_of(
        TrainConfig,
        "Train a denoiser on stroke files, or go on with the checkpoint that --out holds. `train distil` "
        "makes one that draws in a few calls; `train recognizer`, `train stroke-recognizer` and "
        "`train shortcut` train the other networks; `train ablations` trains several to compare them.",
    )


def options_of(Config: type[TrainConfig], about: str) -> argparse.ArgumentParser:
    """An option for each field of `Config`; the comments beside them are the help."""
    made = Parser(prog=f"python -m sketch_core {Config.VERB}", description=about)
    source = "".join(map(inspect.getsource, Config.__mro__[-2::-1]))  # a config and those it builds on
    comments = dict(re.findall(r"^    (\w+): [^#\n]*# (.*)$", source, re.MULTILINE))
    for option in dataclasses.fields(Config):
        kind = type(option.default)
        about = comments[option.name]
        if kind is bool:
            choice = {"action": argparse.BooleanOptionalAction}
        else:
            choice = {"type": kind, "metavar": kind.__name__.upper()}
            about += f" (default {option.default})" if option.default != "" else ""
        made.add_argument(
            "--" + option.name.replace("_", "-"),
            default=option.default,
            required=option.name == "data",
            help=about.replace("%", "%%"),
            **choice,
        )
    return made


class Interrupt:
    """Ctrl-C, or a polite kill, ends training after the step that runs, saved; a second one, at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.heard = self.training = False

    def __enter__(self) -> Interrupt:
        self.before = [signal.signal(number, self._hear) for number in self.SIGNALS]
        return self

    def __exit__(self, *_) -> None:
        for number, handler in zip(self.SIGNALS, self.before, strict=True):
            signal.signal(number, handler)

    def _hear(self, *_) -> None:
        if self.heard or not self.training:  # nothing to save before the first step
            raise KeyboardInterrupt
        self.heard = True

    def __call__(self) -> bool:
        """Whether to stop; asked before every step."""
        self.training = True
        return self.heard


class Progress:
    """A line on a terminal's standard error, twice a second; silent in a pipe, where log.jsonl tells."""

    def __init__(self) -> None:
        self.live, self.shown, self.latest, self.width = sys.stderr.isatty(), 0.0, {}, 0

    def __enter__(self) -> Progress:
        return self

    def __call__(self, trainer: Trainer, report: dict[str, float]) -> None:
        self.latest |= report
        if not self.live or time.monotonic() - self.shown < 0.5:
            return
        self.shown = time.monotonic()
        losses = "  ".join(
            f"{k} {self.latest[k]:.3f}" for k in ("points", "pen", "valid_points") if k in self.latest
        )
        self._write(f"step {trainer.step}  {report['done']:4.0%}  {losses}")

    def __exit__(self, *_) -> None:
        if self.live:
            self._write("")
            sys.stderr.write("\r")

    def _write(self, line: str) -> None:
        sys.stderr.write("\r" + line.ljust(self.width))
        sys.stderr.flush()
        self.width = len(line)


SHEET = "cat,dog,sun,face,apple,duck,crab,campfire,airplane,butterfly,ice cream,pineapple,monkey,pig,car,shoe"


def draw_sheet(weights: Path, png: Path) -> None:
    """Four drawings each of up to 16 classes, as the weights draw them now."""
    from ..knitter import load
    from ..raster import contact_sheet

    model = load(weights)
    names = [name for name in SHEET.split(",") if name in model.classes] or model.classes[:16]
    sketches = model.draw(names, count=4)
    contact_sheet(sketches, columns=8, captions=[sketch.label for sketch in sketches]).save(png)
