"""Training a denoiser: time or step budget, resumable, data-parallel, with validation and contact sheets as it goes.

`python -m sketch_core train --data FOLDER --out runs/name --minutes 30`; under `torchrun` every process takes its
rows of the same batch and the loss is divided by the *global* number of real points, so two processes follow one.
Batch k, its noise and its times are pure functions of (seed, k): a checkpoint holds weights, EMA, optimizers and k,
and a resumed float32 run on the same CPU and thread count is bit-identical to one that never stopped.

Optimizers: Muon (Jordan et al., 2024; torch.optim.Muon, update RMS matched to AdamW) for the blocks' matrices,
AdamW for everything else.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.augment import Augmentation
from ..data.batches import Balance, Batch, Batches
from ..data.dataset import StrokeDataset
from ..hub import load_weights, write_weights
from ..models import create_model
from ..models.stroke_transformer import Known
from ..schedules import ALPHA_BARS
from ..strokes import PenState
from .losses import Losses, masked_losses, noised, random_known, target


@dataclass(frozen=True)
class TrainConfig:
    """Every field is an option of the command line."""

    data: str = ""  # folder of sketch-rnn .npz files with train and valid splits
    out: str = "runs/denoiser"  # folder for checkpoint.pt, weights.safetensors, log.jsonl and sheets
    architecture: str = "stroke_transformer"  # stroke_transformer or stroke_unet
    model: str = "{}"  # JSON, fields of the architecture's config that differ from its defaults
    classes: str = ""  # comma list; empty for all in the folder
    extra: str = ""  # another folder of .npz files, added to the training split only
    init: str = ""  # .safetensors to start from, when there is no checkpoint in `out`
    minutes: float = 0.0  # stop after so many minutes of this run; 0 for no limit
    steps: int = 0  # stop at this step; 0 for no limit
    lr: float = 3e-3  # peak learning rate of Muon
    adam_lr: float = 1e-3  # peak learning rate of AdamW
    weight_decay: float = 0.01
    warmup: int = 200  # steps of linear warm-up
    decay: float = 0.25  # last share of the budget over which the learning rate falls to a twentieth
    tokens: int = 6144  # padded points a batch, all processes together
    accumulate: int = 1  # parts a process takes its rows in
    max_points: int = 128  # longer drawings are simplified to this
    cap: int = 2500  # class balance: see data.batches.Balance
    power: float = 1.5
    stretch: float = 0.1  # augmentation: see data.augment.Augmentation
    rotation: float = 6.0
    drop: float = 0.1
    class_dropout: float = 0.1  # share of drawings that lose their class, for classifier-free guidance
    known: float = 0.5  # share of drawings with some points given
    pen_weight: float = 0.1
    place_weight: float = 0.25
    ema: float = 0.999
    seed: int = 0
    precision: str = "bf16"  # autocast: bf16 or fp32
    compile: bool = False  # torch.compile, about twice as fast where a C++ compiler is found
    device: str = "cpu"
    checkpoint_minutes: float = 5.0
    sheet_minutes: float = 15.0

    def __post_init__(self) -> None:
        if not self.minutes and not self.steps:
            raise ValueError(
                "neither minutes nor steps is given: training would never end. Give one of them."
            )
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision is {self.precision!r}, wanted bf16 or fp32.")
        for name in ("class_dropout", "known", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted a share in 0..1.")


@dataclass
class Trainer:
    """Everything that changes during training, and how it changes in one step."""

    config: TrainConfig
    train: StrokeDataset
    valid: StrokeDataset | None
    step: int = 0
    seconds: float = 0.0  # spent in all runs so far
    rank: int = 0
    world: int = 1
    drawings: int = 0
    network: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        c = self.config
        torch.manual_seed(c.seed)
        self.train = self.train.at_most(c.max_points)
        self.valid = self.valid.at_most(c.max_points) if self.valid is not None and len(self.valid) else None
        model = {"num_classes": len(self.train.classes), "max_points": c.max_points} | json.loads(c.model)
        self.scale = self.train.scale()
        if c.init:
            stored = load_weights(c.init)
            if stored.metadata.classes != self.train.classes:
                raise ValueError(f"{c.init} knows other classes than {c.data}. Start without --init.")
            self.network, self.scale = stored.model.requires_grad_(True), stored.metadata.scale
        else:
            self.network = create_model(c.architecture, model)
        self.network.to(c.device).train()
        self.alpha_bar = ALPHA_BARS[self.network.config.schedule]
        self.average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.optimizers = optimizers(self.network, c)
        augmentation = Augmentation(c.stretch, c.rotation, c.drop)
        options = {"scale": self.scale, "tokens": c.tokens, "multiple": self.world * c.accumulate}
        balance = Balance(c.cap, c.power)
        self.batches = Batches(self.train, **options, balance=balance, augmentation=augmentation, seed=c.seed)
        self.valid_batches = self.valid and Batches(
            self.valid, **options, balance=Balance(10**9, 1.0), seed=1
        )
        self.forward = torch.compile(self.network, dynamic=True) if c.compile else self.network

    def one_step(self, lr_factor: float = 1.0) -> Losses:
        """One optimizer step; returns this process's share of the losses."""
        c = self.config
        batch = self.batches[self.step]
        B = len(batch.length)
        mine = slice(self.rank * B // self.world, (self.rank + 1) * B // self.world)
        losses = []
        for part in range(c.accumulate):
            size = (mine.stop - mine.start) // c.accumulate
            rows = slice(mine.start + part * size, mine.start + (part + 1) * size)
            loss = self.losses(batch, rows, torch.Generator().manual_seed(c.seed * 1_000_003 + self.step))
            (loss.points + c.pen_weight * loss.pen + c.place_weight * loss.place).backward()
            losses.append(loss)
        self.share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * lr_factor * min(1.0, (self.step + 1) / max(c.warmup, 1))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.drawings += B
        keep = min(c.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            parameters = dict(self.network.named_parameters())
            names = list(self.average)
            torch._foreach_lerp_([self.average[n] for n in names], [parameters[n] for n in names], 1 - keep)
        return Losses(*(sum(getattr(x, f).detach() for x in losses) for f in ("points", "pen", "place")))

    def losses(
        self, batch: Batch, rows: slice, generator: torch.Generator, *, clean_class: bool = False
    ) -> Losses:
        """Losses of some rows of a batch; noise, times and what is dropped are drawn for the whole batch."""
        c = self.config
        B, N, _ = batch.points.shape
        # times stratified over the batch: every noise level in every batch
        t = (torch.randperm(B, generator=generator) + torch.rand(B, generator=generator)) / B
        eps = torch.randn(B, N, 2, generator=generator)
        dropped = torch.rand(B, generator=generator) < (0 if clean_class else c.class_dropout)
        given = torch.rand(B, 1, generator=generator) < (0 if clean_class else c.known)
        known = random_known(batch.length, N, generator) & given
        label = torch.where(dropped, self.network.config.num_classes, batch.label)
        real = torch.arange(N) < batch.length[:, None]
        free = real & ~known
        count = float(real.sum())
        level = self.alpha_bar(t)

        device = c.device
        x0, eps, level, t = (v[rows].to(device) for v in (batch.points, eps, level, t.float()))
        known, free, real = (v[rows].to(device) for v in (known, free, real))
        label, length, pen = (v[rows].to(device) for v in (label, batch.length, batch.pen))
        x_t = noised(x0, eps, level) * real[..., None]
        wanted = target(self.network.config.prediction, x0, eps, level)
        told = Known(known[..., None].float(), x0, nn.functional.one_hot(pen, len(PenState)).float())
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=c.precision == "bf16"):
            points, pen_logits = self.forward(x_t, t, label, length, told)
        return masked_losses(points.float(), pen_logits.float(), wanted, pen, free, real, count)

    def share_gradients(self) -> None:
        """Sums gradients over the processes; they were divided by the global count already."""
        if self.world == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(part.view_as(g))

    @torch.no_grad()
    def validate(self, batches: int = 24) -> dict[str, float]:
        """Losses of the averaged weights on fixed validation batches with fixed noise."""
        if self.valid_batches is None:
            return {}
        with self.averaged():
            found = []
            for k in range(batches):
                batch = self.valid_batches[k]
                generator = torch.Generator().manual_seed(k)
                found.append(self.losses(batch, slice(None), generator, clean_class=True))
        mean = {f: float(sum(getattr(x, f) for x in found)) / batches for f in ("points", "pen", "place")}
        return {f"valid_{name}": round(value, 5) for name, value in mean.items()}

    def averaged(self):
        """A context in which the network holds the averaged weights."""
        return _Swapped(dict(self.network.named_parameters()), self.average)

    def save(self, folder: Path) -> None:
        """checkpoint.pt, from which training goes on, and weights.safetensors, from which drawings are made."""
        state = {
            "config": dataclasses.asdict(self.config),
            "network_config": dataclasses.asdict(self.network.config),
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": {
                "step": self.step,
                "seconds": self.seconds,
                "drawings": self.drawings,
                "scale": self.scale,
            },
        }
        path = folder / "checkpoint.pt"
        torch.save(state, path.with_suffix(".partial"))
        os.replace(path.with_suffix(".partial"), path)
        with self.averaged():
            write_weights(folder / "weights.safetensors", self.network, self.metadata())

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location=self.config.device)
        if state["network_config"] != json.loads(json.dumps(dataclasses.asdict(self.network.config))):
            raise ValueError(
                f"{path} holds another network than asked for. Use another --out, or the same options."
            )
        self.network.load_state_dict(state["network"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            peaks = [group["peak"] for group in optimizer.param_groups]
            optimizer.load_state_dict(stored)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["peak"] = peak
        progress = state["progress"]
        self.step, self.seconds, self.drawings = progress["step"], progress["seconds"], progress["drawings"]

    def metadata(self) -> dict:
        c = self.config
        command = " ".join(
            f"--{f.name.replace('_', '-')} {getattr(c, f.name)}"
            for f in dataclasses.fields(c)
            if getattr(c, f.name) != f.default and f.name not in ("data", "out", "extra", "init")
        )
        return {
            "scale": self.scale,
            "classes": list(self.train.classes),
            "lengths": self.train.length_histograms(c.max_points).tolist(),
            "trained_on": f"{len(self.train):,} Quick, Draw! drawings, {len(self.train.classes)} classes, train split",
            "license": "CC-BY-4.0",
            "attribution": "Quick, Draw! drawings, Google, CC BY 4.0",
            "command": f"python -m sketch_core train --data quickdraw {command}",
            "training": {"steps": self.step, "drawings_seen": self.drawings, "seconds": round(self.seconds)},
        }


class _Swapped:
    """Puts other values into parameters for a while."""

    def __init__(self, parameters: dict[str, Tensor], values: dict[str, Tensor]) -> None:
        self.parameters, self.values = parameters, values

    def _swap(self) -> None:
        with torch.no_grad():
            for name, value in self.values.items():
                kept = self.parameters[name].detach().clone()
                self.parameters[name].copy_(value)
                value.copy_(kept)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error) -> None:
        self._swap()


def optimizers(network: nn.Module, c: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks (not those that modulate), AdamW for the rest."""
    matrices, others = [], []
    for name, p in network.named_parameters():
        inside = name.startswith("blocks.") and "modulate" not in name and p.ndim == 2
        (matrices if inside else others).append(p)
    made = [torch.optim.AdamW(others, lr=c.adam_lr, betas=(0.9, 0.98), weight_decay=c.weight_decay)]
    if matrices:
        made.append(
            torch.optim.Muon(matrices, lr=c.lr, weight_decay=c.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def lr_factor(c: TrainConfig, done: float) -> float:
    """1, falling to 0.05 over the last `decay` share of the budget; `done` is the share of the budget spent."""
    if c.decay == 0 or done < 1 - c.decay:
        return 1.0
    return 0.05 + 0.95 * max(0.0, (1 - done) / c.decay)


def train(
    c: TrainConfig,
    *,
    on_step: Callable[[Trainer, dict[str, float]], None] | None = None,
    draw_sheet: Callable[[Path, Path], None] | None = None,
) -> Trainer:
    """Trains until the budget is spent. `on_step` hears of every step; `draw_sheet(weights, png)` draws samples."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("gloo" if c.device == "cpu" else "nccl")
    classes = [name.strip() for name in c.classes.split(",") if name.strip()] or None
    data = StrokeDataset.from_folder(c.data, "train", classes)
    if c.extra:
        data = data.joined(StrokeDataset.from_folder(c.extra, "train"))
    trainer = Trainer(c, data, StrokeDataset.from_folder(c.data, "valid", classes), rank=rank, world=world)
    folder = Path(c.out)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "checkpoint.pt").exists():
        trainer.resume(folder / "checkpoint.pt")
    begun, begun_at = time.monotonic(), trainer.seconds
    saved = sheeted = begun
    first_step = trainer.step
    recent: list[Tensor] = []
    while True:
        now = time.monotonic()
        trainer.seconds = begun_at + now - begun
        done = _share(c, trainer.step, first_step, now - begun, world)
        if done >= 1:
            break
        loss = trainer.one_step(lr_factor(c, done))
        recent.append(torch.stack([loss.points, loss.pen, loss.place]))
        report: dict[str, float] = {}
        if trainer.step % 100 == 0:
            mean = torch.stack(recent).mean(0) * world
            recent.clear()
            report = dict(zip(("points", "pen", "place"), (round(float(v), 5) for v in mean), strict=True))
            rate = trainer.drawings / max(trainer.seconds, 1e-9)
            report |= {"step": trainer.step, "seconds": round(trainer.seconds), "drawings": trainer.drawings}
            report |= {"drawings_per_second": round(rate, 1), "lr_factor": round(lr_factor(c, done), 4)}
            if rank == 0 and trainer.step % 1000 == 0:
                report |= trainer.validate()
            if rank == 0:
                with open(folder / "log.jsonl", "a") as log:
                    log.write(json.dumps(report) + "\n")
        if on_step is not None and rank == 0:
            on_step(trainer, report | {"done": done})
        if rank == 0 and time.monotonic() - saved > 60 * c.checkpoint_minutes:
            trainer.save(folder)
            saved = time.monotonic()
            if draw_sheet is not None and saved - sheeted > 60 * c.sheet_minutes:
                draw_sheet(folder / "weights.safetensors", folder / f"sheet-{trainer.step:07d}.png")
                sheeted = saved
    if rank == 0:
        trainer.save(folder)
    return trainer


def _share(c: TrainConfig, step: int, first_step: int, seconds: float, world: int) -> float:
    """How much of the budget is spent, 0..1; all processes agree on the first one's clock."""
    by_time = seconds / (60 * c.minutes) if c.minutes else 0.0
    by_step = step / c.steps if c.steps else 0.0
    share = torch.tensor([max(by_time, by_step)], dtype=torch.float64)
    if world > 1 and c.minutes:
        dist.broadcast(share, 0)
    return float(share)
