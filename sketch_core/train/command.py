"""`python -m sketch_core train`: the options of `TrainConfig`, a progress line, contact sheets.

Two processes on one machine: `torchrun --nproc-per-node 2 -m sketch_core train ...` with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
import time
import tokenize
from pathlib import Path

from .loop import TrainConfig, Trainer, train


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m sketch_core train",
        description="Train a denoiser on stroke files, or go on with the checkpoint that --out holds.",
    )
    helps = _field_comments()
    for option in dataclasses.fields(TrainConfig):
        name = "--" + option.name.replace("_", "-")
        about = f"{helps.get(option.name, '')} (default: {option.default!r})"
        if isinstance(option.default, bool):
            made.add_argument(name, action="store_true", help=helps.get(option.name, ""))
        else:
            made.add_argument(
                name,
                type=type(option.default),
                default=option.default,
                help=about,
                required=option.name == "data",
            )
    return made


def _field_comments() -> dict[str, str]:
    """The comment behind each field of `TrainConfig`: written once, read here as its help."""
    import inspect

    helps, field = {}, None
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(TrainConfig)).readline):
        if token.type == tokenize.OP and token.string == ":":
            field = before
        elif token.type == tokenize.COMMENT and field:
            helps[field] = token.string.lstrip("# ").replace("%", "%%")
            field = None
        elif token.type == tokenize.NAME:
            before = token.string
    return helps


def main(argv: list[str] | None = None) -> int:
    """Runs the training; ends with exit status 0 when the budget is spent or on Ctrl-C, after saving."""
    config = TrainConfig(**vars(parser().parse_args(argv)))
    train(config, on_step=_Progress(config), draw_sheet=draw_sheet)
    return 0


class _Progress:
    """A line on a terminal's standard error, twice a second; silent in a pipe, where log.jsonl tells."""

    def __init__(self, config: TrainConfig) -> None:
        self.live, self.shown, self.latest = sys.stderr.isatty(), 0.0, {}

    def __call__(self, trainer: Trainer, report: dict[str, float]) -> None:
        self.latest |= report
        if not self.live or time.monotonic() - self.shown < 0.5:
            return
        self.shown = time.monotonic()
        losses = " ".join(
            f"{k} {self.latest[k]:.3f}" for k in ("points", "pen", "valid_points") if k in self.latest
        )
        sys.stderr.write(f"\rstep {trainer.step}  {report['done']:4.0%}  {losses}   ")
        sys.stderr.flush()


SHEET = "cat,dog,sun,face,apple,duck,crab,campfire,airplane,butterfly,ice cream,pineapple,monkey,pig,car,shoe"


def draw_sheet(weights: Path, png: Path) -> None:
    """Four drawings each of up to 16 classes, as the weights draw them now."""
    from ..knitter import load
    from ..raster import contact_sheet

    model = load(weights)
    names = [name for name in SHEET.split(",") if name in model.classes] or model.classes[:16]
    sketches = model.draw(names, count=4)
    contact_sheet(sketches, columns=8, captions=[sketch.label for sketch in sketches]).save(png)
