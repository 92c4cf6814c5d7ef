"""Training a denoiser: a budget of time or steps, resumable, data-parallel, validated and drawn as it goes.

`python -m sketch_core train --data FOLDER --out runs/name --minutes 30`; under `torchrun` every process takes
its rows of the same batch and the loss is divided by the *global* number of real points, so two processes
follow one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from ..data.dataset import StrokeDataset
from .config import TrainConfig
from .trainer import Trainer


def lr_factor(c: TrainConfig, done: float) -> float:
    """1, falling to 0.05 over the last `decay` of the budget; `done` is the share of the budget spent."""
    if c.decay == 0 or done < 1 - c.decay:
        return 1.0
    return 0.05 + 0.95 * max(0.0, (1 - done) / c.decay)


def train(
    c: TrainConfig,
    Kind: type[Trainer] = Trainer,
    *,
    on_step: Callable[[Trainer, dict[str, float]], None] | None = None,
    draw_sheet: Callable[[Path, Path], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Trainer:
    """Trains until the budget is spent, and saves.

    Kind        of trainer: what its losses are.
    on_step     hears of every step: the trainer, and a report that every hundredth step fills.
    draw_sheet  (weights, png) draws samples, every `sheet_minutes`.
    stop        asked before every step: True ends the training there, as a spent budget does.
    clock       seconds that `minutes` are counted in; time.process_time counts those of the processor.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    begins = world > 1 and not dist.is_initialized()
    if begins:
        if c.device == "cuda":
            c = dataclasses.replace(c, device=f"cuda:{os.environ.get('LOCAL_RANK', rank)}")
        dist.init_process_group("gloo" if c.device == "cpu" else "cpu:gloo,cuda:nccl")
    try:
        classes = [name.strip() for name in c.classes.split(",") if name.strip()] or None
        data = StrokeDataset.from_folder(c.data, "train", classes)
        valid = StrokeDataset.from_folder(c.data, "valid", classes)
        extra = StrokeDataset.from_folder(c.extra, "train").first(c.extra_cap) if c.extra else None
        trainer = Kind(c, data, valid, extra, rank=rank, world=world)
        folder = Path(c.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.jsonl").open("a").close()  # a folder that cannot be written shows now
        if (folder / "checkpoint.pt").exists():
            trainer.resume(folder / "checkpoint.pt")
        _loop(trainer, folder, on_step, draw_sheet, stop, clock)
    finally:
        if begins:
            dist.destroy_process_group()
    return trainer


def _loop(
    trainer: Trainer,
    folder: Path,
    on_step: Callable[[Trainer, dict[str, float]], None] | None,
    draw_sheet: Callable[[Path, Path], None] | None,
    stop: Callable[[], bool],
    clock: Callable[[], float],
) -> None:
    c, first = trainer.config, trainer.rank == 0
    begun, begun_at = clock(), trainer.seconds
    saved = sheeted = time.monotonic()
    recent: list[Tensor] = []
    while (done := _spent(trainer, clock() - begun, stop())) < 1:
        loss = trainer.one_step(lr_factor(c, done))
        trainer.seconds = begun_at + clock() - begun
        recent.append(torch.stack([loss.points, loss.pen, loss.place]))
        report: dict[str, float] = {}
        if trainer.step % 100 == 0:
            mean = torch.stack(recent).mean(0)
            recent.clear()
            if trainer.world > 1:
                dist.all_reduce(mean)  # every process has the losses of its rows
            report = dict(zip(("points", "pen", "place"), (round(float(v), 5) for v in mean), strict=True))
            rate = trainer.drawings / max(trainer.seconds, 1e-9)
            report |= {"step": trainer.step, "seconds": round(trainer.seconds), "drawings": trainer.drawings}
            report |= {"drawings_per_second": round(rate, 1), "lr_factor": round(lr_factor(c, done), 4)}
            if first and trainer.step % 1000 == 0:
                report |= trainer.validate()
            if first:
                with open(folder / "log.jsonl", "a") as log:
                    log.write(json.dumps(report) + "\n")
        if on_step is not None and first:
            on_step(trainer, report | {"done": done})
        if first and time.monotonic() - saved > 60 * c.checkpoint_minutes:
            trainer.save(folder)
            saved = time.monotonic()
            if draw_sheet is not None and saved - sheeted > 60 * c.sheet_minutes:
                draw_sheet(folder / "weights.safetensors", folder / f"sheet-{trainer.step:07d}.png")
                sheeted = saved
    if first:
        trainer.save(folder)


def _spent(trainer: Trainer, seconds: float, stopped: bool) -> float:
    """The share of the budget that is spent, 1 when stopped; all processes agree on the largest."""
    c = trainer.config
    by_time = seconds / (60 * c.minutes) if c.minutes else 0.0
    by_step = trainer.step / c.steps if c.steps else 0.0
    share = 1.0 if stopped else max(by_time, by_step)
    if trainer.world == 1:
        return share
    agreed = torch.tensor([share], dtype=torch.float64)
    dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
    return float(agreed)
