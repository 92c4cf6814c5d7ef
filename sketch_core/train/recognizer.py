"""Trains the recognizer: `python -m sketch_core.train.recognizer --data DIR --seconds S --out FILE`.

Train split only for training, valid split for choosing the weights, test split never read. Drawings are
rasterised once, in several versions that differ by stroke (aspect, rotation, dropped strokes, line width),
into a byte cache in memory; flips, shifts, small turns and zooms are applied to the pictures as they go into
a batch. Everything random is a function of (seed, step), so a run goes on after an interruption from its
checkpoint; the schedule follows the time spent, so a run ends when it said it would.

Limits: one process, CPU threads as torch has them. Two runs of the same seconds differ, because machines do.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.dataset import StrokeDataset
from ..models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from ..raster import rasterize
from ..strokes import Sketch
from ..weight_file import write_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecognizerTraining:
    seconds: float  # of training, checkpoints and validation included, the cache not
    batch: int = 128
    lr: float = 2e-3  # peak, AdamW
    weight_decay: float = 0.05
    warmup: float = 0.03  # fraction of the time
    label_smoothing: float = 0.1
    balance: float = (
        0.5  # a class of n drawings is seen in proportion to n ** balance: 1 as it is, 0 all alike
    )
    ema: float = 0.999
    versions: int = 4  # rasterised versions of a drawing, the first untouched
    validate_every: float = 240.0  # seconds
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.batch >= 2 and self.versions >= 1 and self.lr > 0):
            raise ValueError(
                f"seconds {self.seconds}, batch {self.batch}, versions {self.versions} or lr {self.lr} is "
                f"out of range. Give a time and a rate above 0, a batch of 2 or more and one version or more."
            )


def vary_sketch(sketch: Sketch, rng: np.random.Generator) -> Sketch:
    """The drawing squeezed, slanted and turned a little; one stroke in ten left out, never the longest."""
    strokes = sketch.strokes
    if len(strokes) > 2:
        longest = max(range(len(strokes)), key=lambda i: len(strokes[i]))
        kept = rng.random(len(strokes)) > 0.1
        kept[longest] = True
        strokes = tuple(stroke for stroke, keep in zip(strokes, kept, strict=True) if keep)
    angle = math.radians(rng.normal(0, 7))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slant = np.array([[rng.uniform(0.82, 1.2), rng.normal(0, 0.08)], [0, rng.uniform(0.82, 1.2)]])
    return replace(sketch, strokes=tuple(stroke @ (turn @ slant).T for stroke in strokes))


def ink_bytes(
    sketches: list[Sketch], config: SketchClassifierConfig, *, line_width: float | None = None
) -> np.ndarray:
    """(B, H, W) uint8, 255 = ink, as the network of `config` sees the drawings."""
    ink = rasterize(sketches, config.size, line_width=line_width or config.line_width, padding=config.padding)
    return (ink * 255).round().astype(np.uint8)


def build_cache(
    dataset: StrokeDataset, config: SketchClassifierConfig, *, versions: int, seed: int
) -> np.ndarray:
    """(versions, len(dataset), H, W) uint8."""
    cache = np.empty((versions, len(dataset), config.size, config.size), dtype=np.uint8)
    chunk = 256
    for version in range(versions):
        began = time.monotonic()
        for start in range(0, len(dataset), chunk):
            rng = np.random.default_rng([seed, version, start])
            sketches = [dataset.sketch(i) for i in range(start, min(start + chunk, len(dataset)))]
            width = config.line_width
            if version:
                sketches = [vary_sketch(sketch, rng) for sketch in sketches]
                width *= rng.uniform(0.7, 1.5)
            cache[version, start : start + chunk] = ink_bytes(sketches, config, line_width=width)
        log.info(
            "rasterised version %d of %d drawings in %.0f s", version, len(dataset), time.monotonic() - began
        )
    return cache


def jitter_pictures(ink: Tensor, rng: np.random.Generator) -> Tensor:
    """(B, 1, H, W) -> the same: half of them mirrored, all shifted, turned and zoomed a little."""
    B = len(ink)
    angle = np.radians(rng.normal(0, 6, B))
    zoom = rng.uniform(0.94, 1.2, B)  # above 1 the drawing gets smaller
    mirror = rng.choice([-1.0, 1.0], B)
    shift = rng.normal(0, 0.05, (2, B))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    theta = np.stack(
        [np.stack([cos * mirror, -sin, shift[0]], 1), np.stack([sin * mirror, cos, shift[1]], 1)], 1
    )
    grid = F.affine_grid(torch.from_numpy(theta).float(), list(ink.shape), align_corners=False)
    return F.grid_sample(ink, grid, align_corners=False)


class Run:
    """One training: its network, averaged weights, optimizer, and how far it is."""

    def __init__(self, config: SketchClassifierConfig, training: RecognizerTraining) -> None:
        torch.manual_seed(training.seed)
        self.config, self.training = config, training
        self.network = SketchClassifier(config).to(memory_format=torch.channels_last)
        self.average = SketchClassifier(config).to(memory_format=torch.channels_last).eval()
        self.average.load_state_dict(self.network.state_dict())
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim == 1]
        groups = [
            {"params": matrices, "weight_decay": training.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=training.lr, betas=(0.9, 0.98))
        self.step, self.elapsed = 0, 0.0
        self.best: dict = {"top1": -1.0}
        self.history: list[dict] = []

    def learn(self, ink: Tensor, labels: Tensor) -> float:
        """One step of AdamW and of the average; returns the loss."""
        t = self.training
        progress = min(self.elapsed / t.seconds, 1.0)
        rate = progress / t.warmup if progress < t.warmup else 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = t.lr * max(rate, 1e-3)
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(ink)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=t.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        decay = min(t.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averages, values = self.average.state_dict(), self.network.state_dict()
            for name, value in values.items():
                if value.is_floating_point():
                    averages[name].lerp_(value, 1 - decay)
                else:
                    averages[name].copy_(value)
        return float(loss.detach())

    def state(self) -> dict:
        return {
            "config": json.dumps(asdict(self.config)),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "best": self.best,
            "history": self.history,
        }

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state["config"] != json.dumps(asdict(self.config)):
            raise ValueError(
                f"{path} is the checkpoint of another network: {state['config']}. "
                f"Give the same options, or remove it."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.best, self.history = state["best"], state["history"]


def predict(network: SketchClassifier, ink: np.ndarray) -> np.ndarray:
    """(n,) most likely class of each of `ink` (n, H, W) uint8."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(ink), 256):
            pictures = torch.from_numpy(ink[start : start + 256]).float().div_(255)[:, None]
            with torch.autocast("cpu", torch.bfloat16):
                found.append(
                    network(pictures.contiguous(memory_format=torch.channels_last)).argmax(1).numpy()
                )
    return np.concatenate(found)


def validation_figures(found: np.ndarray, labels: np.ndarray, deep: np.ndarray) -> dict[str, float]:
    """Share of right answers over all drawings, its mean over classes, and that over the `deep` classes."""
    right = found == labels
    by_class = {c: float(right[labels == c].mean()) for c in np.unique(labels)}
    deep_scores = [score for c, score in by_class.items() if c in set(deep.tolist())]
    figures = {"top1": float(right.mean()), "macro_top1": float(np.mean(list(by_class.values())))}
    return figures | ({"deep_macro_top1": float(np.mean(deep_scores))} if deep_scores else {})


DEEP = 792  # train drawings of a class with 880 or more: nine tenths of them


def train_recognizer(
    data: Path,
    config: SketchClassifierConfig,
    training: RecognizerTraining,
    *,
    checkpoint: Path | None = None,
) -> tuple[SketchClassifier, dict, list[str]]:
    """Trained network, its figures on the valid split, and the names of its classes."""
    dataset = StrokeDataset.from_folder(data, split="train")
    valid = StrokeDataset.from_folder(data, split="valid", classes=dataset.classes)
    classes, labels = list(dataset.classes), np.asarray(dataset.labels)
    config = replace(config, classes=len(classes))
    run = Run(config, training)
    if checkpoint is not None and checkpoint.exists():
        run.resume(checkpoint)
        log.info("going on from step %d, %.0f s", run.step, run.elapsed)
    counts = np.bincount(labels, minlength=len(classes))
    deep = np.flatnonzero(counts >= DEEP)
    chances = counts[labels] ** (training.balance - 1.0)
    edges = np.cumsum(chances / chances.sum())

    valid_ink = ink_bytes([valid.sketch(i) for i in range(len(valid))], config)
    cache = build_cache(dataset, config, versions=training.versions, seed=training.seed)
    log.info(
        "%.2f M parameters, %d classes, %d deep", _parameters(run.network) / 1e6, len(classes), len(deep)
    )

    began, spent = time.monotonic(), run.elapsed
    checked, losses = run.elapsed, []
    while run.elapsed < training.seconds:
        rng = np.random.default_rng([training.seed, 1, run.step])
        rows = np.minimum(np.searchsorted(edges, rng.random(training.batch)), len(labels) - 1)
        ink = torch.from_numpy(cache[rng.integers(training.versions, size=len(rows)), rows]).float().div_(255)
        ink = jitter_pictures(ink[:, None], rng).contiguous(memory_format=torch.channels_last)
        losses.append(run.learn(ink, torch.from_numpy(labels[rows].astype(np.int64))))
        run.elapsed = spent + time.monotonic() - began
        if run.elapsed - checked >= training.validate_every or run.elapsed >= training.seconds:
            checked = run.elapsed
            figures = validation_figures(predict(run.average, valid_ink), np.asarray(valid.labels), deep)
            figures |= {"loss": float(np.mean(losses)), "step": run.step, "seconds": round(run.elapsed)}
            run.history.append(figures)
            log.info(
                "%5.0f s  step %d  %.0f drawings/s  loss %.3f  valid %s",
                run.elapsed,
                run.step,
                run.step * training.batch / run.elapsed,
                figures["loss"],
                "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if "top1" in name),
            )
            losses = []
            if figures["top1"] > run.best["top1"]:
                weights = {name: value.clone() for name, value in run.average.state_dict().items()}
                run.best = figures | {"weights": weights}
            if checkpoint is not None:
                _save(run.state(), checkpoint)
            run.elapsed = spent + time.monotonic() - began
    run.average.load_state_dict(run.best["weights"])
    figures = {name: value for name, value in run.best.items() if name != "weights"}
    return run.average, figures | {"drawings_seen": figures["step"] * training.batch}, classes


def _parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _save(state: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    torch.save(state, partial)
    os.replace(partial, path)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m sketch_core.train.recognizer", description=__doc__.split("\n")[0]
    )
    p.add_argument("--data", type=Path, required=True, help="folder of Quick, Draw! files, one a class")
    p.add_argument("--seconds", type=float, required=True, help="time to train for, rasterising not counted")
    p.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    p.add_argument("--checkpoint", type=Path, help="file to go on from and to save to, every few minutes")
    p.add_argument("--force", action="store_true", help="overwrite the file if there is one")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=0, help="CPU threads, 0 = as torch likes")
    p.add_argument("--config", default="{}", help="JSON, fields of SketchClassifierConfig that differ")
    p.add_argument("--training", default="{}", help="JSON, fields of RecognizerTraining that differ")
    args = p.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists already. Add --force to overwrite it, or choose another name.")
    if args.threads:
        torch.set_num_threads(args.threads)
    config = SketchClassifierConfig(**json.loads(args.config))
    training = RecognizerTraining(seconds=args.seconds, seed=args.seed, **json.loads(args.training))
    network, figures, classes = train_recognizer(args.data, config, training, checkpoint=args.checkpoint)
    options = "".join(f" --{k} '{v}'" for k in ("config", "training") if (v := getattr(args, k)) != "{}")
    seen = {name: figures.pop(name) for name in ("step", "seconds", "drawings_seen")}
    metadata = {
        "classes": classes,
        "trained_on": f"Quick, Draw!, {len(classes)} classes, train split",
        "license": "CC-BY-4.0",
        "attribution": "Quick, Draw! drawings, Google, CC BY 4.0",
        "command": "python -m sketch_core.train.recognizer "
        f"--data DIR --seconds {args.seconds:g} --seed {args.seed}{options} --out FILE",
        "training": seen,
        "figures": {"split": "valid"} | {name: round(value, 5) for name, value in figures.items()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(args.out, network, metadata, dtype=torch.float16)
    log.info("wrote %s: %s", args.out, metadata["figures"])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
