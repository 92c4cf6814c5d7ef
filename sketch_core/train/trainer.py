"""`Trainer`: what changes during training, and how it changes in one step; saving it and going on from there.

Batch k, its noise and its times are pure functions of (seed, k): a checkpoint holds weights, EMA, optimizers
and k, and a resumed float32 run on the same CPU and thread count is bit-identical to one that never stopped.

Optimizers: Muon (Jordan et al., 2024; torch.optim.Muon, update RMS matched to AdamW) for the matrices of a
transformer's blocks, AdamW for everything else.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.augment import Augmentation
from ..data.batches import Balance, Batch, Batches
from ..data.dataset import StrokeDataset
from ..data.records import replacing
from ..denoisers import NETWORKS, Condition, takes_known
from ..models.stroke_transformer import Known, coloured, noise_points, spread_of_places
from ..schedules import ALPHA_BARS
from ..strokes import PenState
from ..weight_file import write_weights
from .config import TrainConfig, command_line
from .losses import Losses, masked_losses, noised, random_known, target
from .networks import describes, fresh_network, stored_network


@dataclass
class Trainer:
    """Everything that changes during training, and how it changes in one step."""

    config: TrainConfig
    train: StrokeDataset
    valid: StrokeDataset | None
    extra: StrokeDataset | None = None  # added to `train`
    step: int = 0
    seconds: float = 0.0  # spent in all runs so far
    rank: int = 0
    world: int = 1
    drawings: int = 0
    network: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        c = self.config
        torch.manual_seed(c.seed)
        data = self.train if self.extra is None else self.train.joined(self.extra)
        data = data.at_most(c.max_points)
        self.trained_on = _trained_on(c, self.train, self.extra)
        self.train = data
        self.valid = self.valid.at_most(c.max_points) if self.valid is not None and len(self.valid) else None
        self.network, self.scale = (
            stored_network(c, data) if c.init else (fresh_network(c, data), data.scale())
        )
        self.network.to(c.device).train()
        self.alpha_bar = ALPHA_BARS[self.network.config.schedule]
        self.run, self.completes = NETWORKS[type(self.network)], takes_known(self.network)
        self.average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.optimizers = optimizers(self.network, c)
        augmentation = Augmentation(c.stretch, c.rotation, c.drop)
        options = {"scale": self.scale, "tokens": c.tokens}
        balance = Balance(c.cap, c.power)
        self.batches = Batches(self.train, **options, balance=balance, augmentation=augmentation, seed=c.seed)
        self.valid_batches = self.valid and Batches(
            self.valid, **options, balance=Balance(10**9, 1.0), seed=1
        )
        parts, smallest = self.world * c.accumulate, min(size for _, size, _, _ in self.batches.buckets)
        if smallest < parts:
            raise ValueError(
                f"tokens is {c.tokens}: a batch holds {smallest} of the longest drawings, too few for "
                f"{parts} parts (processes times accumulate). Raise tokens, or lower accumulate."
            )
        self.forward = torch.compile(self.network, dynamic=True) if c.compile else self.network

    def one_step(self, lr_factor: float = 1.0) -> Losses:
        """One optimizer step; returns this process's share of the losses."""
        c = self.config
        batch = self.batches[self.step]
        B, parts = len(batch.length), self.world * c.accumulate
        losses = []
        for part in range(self.rank * c.accumulate, (self.rank + 1) * c.accumulate):
            rows = slice(part * B // parts, (part + 1) * B // parts)  # of nearly the same size, none empty
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
        t = self.times(t, shift=1.0 if clean_class else c.time_shift)
        config = self.network.config
        eps = coloured(torch.randn(B, noise_points(config, N), 2, generator=generator), config)
        dropped = torch.rand(B, generator=generator) < (0 if clean_class else c.class_dropout)
        share = c.known if self.completes and not clean_class else 0
        some = torch.rand(B, 1, generator=generator) < share
        known, pens = (given & some for given in random_known(batch.length, N, generator))
        label = torch.where(dropped, self.network.config.num_classes, batch.label)
        real = torch.arange(N) < batch.length[:, None]
        free = real & ~known
        count = float(real.sum())
        level = self.alpha_bar(t)

        device = c.device
        x0, eps, level, t = (v[rows].to(device) for v in (batch.points, eps, level, t.float()))
        known, pens, free, real = (v[rows].to(device) for v in (known, pens, free, real))
        label, length, pen = (v[rows].to(device) for v in (label, batch.length, batch.pen))
        x_t = noised(x0, eps, level) * real[..., None]
        one_hot = nn.functional.one_hot(pen, len(PenState)) * pens[..., None]
        given = Known(known[..., None].float(), x0, one_hot.float())
        told = Condition(label, length, given if self.completes else None)
        wanted, pen = self.wanted(x_t, t, told, x0, eps, pen, known)
        with self.autocast():
            points, pen_logits = self.run(self.forward, x_t, t, told)
        spread = spread_of_places(config)
        return masked_losses(points.float(), pen_logits.float(), wanted, pen, free, real, count, spread)

    def times(self, u: Tensor, *, shift: float) -> Tensor:
        """Times (B,) from numbers uniform in [0, 1]: Esser et al. (2024, arXiv:2403.03206), Eq. 23."""
        return shift * u / (1 + (shift - 1) * u)

    def wanted(
        self, x_t: Tensor, t: Tensor, told: Condition, x0: Tensor, eps: Tensor, pen: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the network should say of x_t: points (B, N, 2), in the terms of its own prediction, and pen
        states (B, N) or their probabilities (B, N, 3).

        known  (B, N) bool, points that were given.
        """
        level = self.alpha_bar(t).to(t.device)
        return target(self.network.config.prediction, x0, eps, level), pen

    def autocast(self) -> torch.autocast:
        kind = torch.device(self.config.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.config.precision == "bf16")

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
        """checkpoint.pt, from which training goes on, and weights.safetensors, which draws."""
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
            "classes": list(self.train.classes),
        }
        contents = io.BytesIO()
        torch.save(state, contents)
        with replacing(folder / "checkpoint.pt") as file:
            file.write(contents.getbuffer())
        with self.averaged():
            write_weights(folder / "weights.safetensors", self.network, self.metadata())

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint: its weights, progress and scale, with the options of this run."""
        try:
            state = torch.load(path, weights_only=True, map_location=self.config.device)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}). "
                f"Delete it to start anew, or use another --out."
            ) from error
        stored = state.get("classes", list(self.train.classes))
        if not describes(state["network_config"], self.network) or stored != list(self.train.classes):
            raise ValueError(
                f"{path} holds another network or other classes than asked for. "
                f"Use another --out, or the same options."
            )
        self.network.load_state_dict(state["network"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(kept)
            for group, option in zip(optimizer.param_groups, options, strict=True):
                group.update(option)
        progress = state["progress"]
        self.step, self.seconds, self.drawings = progress["step"], progress["seconds"], progress["drawings"]
        self.scale = self.batches.scale = progress["scale"]
        if self.valid_batches is not None:
            self.valid_batches.scale = self.scale

    def metadata(self) -> dict:
        """What weight_file.Metadata asks for, less what the network says of itself."""
        c = self.config
        return {
            "scale": self.scale,
            "classes": list(self.train.classes),
            "lengths": self.train.length_histograms(c.max_points).tolist(),
            "trained_on": self.trained_on,
            "license": "CC-BY-4.0",
            "attribution": "Quick, Draw! drawings, Google, CC BY 4.0",
            "command": command_line(c),
            "training": {"steps": self.step, "drawings_seen": self.drawings, "seconds": round(self.seconds)},
        }


def _trained_on(c: TrainConfig, data: StrokeDataset, extra: StrokeDataset | None) -> str:
    added = f" and {len(extra):,} of {Path(c.extra).name}" if extra is not None else ""
    return f"{len(data):,} Quick, Draw! drawings{added}, {len(data.classes)} classes, train split"


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
