"""What the trainings of both recognizers share: a run with averaged weights, its loop, figures and command.

A run ends after so many seconds or at a step, whichever is asked for, and goes on from its checkpoint after
an interruption. Everything random is a function of (seed, step).

Limits: one process, CPU threads as torch has them. Two runs of the same seconds differ, because machines do;
two of the same steps do not, as long as no limit of seconds stands beside: what learns, and which weights are
checked and kept, then hang on steps alone.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import Parser
from ..data.records import replacing
from ..hub import load_weights
from ..weight_file import write_weights

log = logging.getLogger(__name__)

DEEP = 792  # train drawings of a class with 880 or more: nine tenths of them


@dataclass(frozen=True)
class ClassifierTraining:
    """How a classifier is trained, whatever it reads; ends at `seconds` or `steps`, one of them above 0."""

    seconds: float = 0.0  # of training, checkpoints and validation included
    steps: int = 0
    batch: int = 128
    lr: float = 2e-3  # peak
    weight_decay: float = 0.05
    warmup: float = 0.03  # fraction of the budget
    label_smoothing: float = 0.1
    balance: float = (
        0.5  # a class of n drawings is seen in proportion to n ** balance: 1 as it is, 0 all alike
    )
    ema: float = 0.999
    validate_every: float = 240.0  # seconds, where `steps` is 0
    validate_steps: int = 2000  # or steps, where there is a budget of them
    seed: int = 0
    init: str = ""  # weights to start from, a name or a file

    def __post_init__(self) -> None:
        if not (self.seconds >= 0 and self.steps >= 0 and self.seconds + self.steps > 0):
            raise ValueError(
                f"seconds {self.seconds} and steps {self.steps}: the training would never end. "
                f"Give one of them, above 0."
            )
        if not (self.validate_every >= 0 and self.validate_steps >= 1):
            raise ValueError(
                f"validate_every is {self.validate_every:g}, validate_steps {self.validate_steps}: wanted "
                f"seconds of 0 or more, and steps of 1 or more."
            )
        if not (self.batch >= 2 and self.lr > 0):
            raise ValueError(
                f"batch {self.batch} or lr {self.lr} is out of range. "
                f"Give a batch of 2 or more and a rate above 0."
            )


class Run:
    """One training: its network, averaged weights, optimizers, and how far it is."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        training: ClassifierTraining,
        optimizers: Callable[[nn.Module, ClassifierTraining], list[torch.optim.Optimizer]],
    ) -> None:
        torch.manual_seed(training.seed)
        self.training = training
        self.network, self.average = make(), make().eval()
        self.average.load_state_dict(self.network.state_dict())
        self.optimizers = optimizers(self.network, training)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["peak"] = group["lr"]
        self.step, self.elapsed = 0, 0.0
        self.best: dict = {"top1": -1.0}
        self.history: list[dict] = []

    @property
    def config(self) -> str:
        return json.dumps(asdict(self.network.config))

    @property
    def progress(self) -> float:
        """The share of the budget that is spent."""
        t = self.training
        return min(
            max(self.elapsed / t.seconds if t.seconds else 0, self.step / t.steps if t.steps else 0), 1.0
        )

    def learn(self, inputs: tuple[Tensor, ...], labels: Tensor) -> float:
        """One step of the optimizers and of the average; returns the loss."""
        t = self.training
        rate = (
            self.progress / t.warmup
            if self.progress < t.warmup
            else 0.5 * (1 + math.cos(math.pi * self.progress))
        )
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(*inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=t.label_smoothing)
        loss.backward()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * max(rate, 1e-3)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
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
            "config": self.config,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "elapsed": self.elapsed,
            "best": self.best,
            "history": self.history,
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        contents = io.BytesIO()
        torch.save(self.state(), contents)
        with replacing(path) as file:
            file.write(contents.getbuffer())

    def begin(self, checkpoint: Path | None, classes: Sequence[str]) -> None:
        """From the checkpoint if there is one, else from the weights of `init` if that is given."""
        if checkpoint is not None and checkpoint.exists():
            self.resume(checkpoint)
            log.info("going on from step %d, %.0f s", self.step, self.elapsed)
        elif self.training.init:
            weights = load_weights(self.training.init)
            known = list(weights.metadata.classes)
            if weights.model.config != self.network.config or known != list(classes):
                raise ValueError(
                    f"{self.training.init} is another network than is to be trained, or knows other classes. "
                    f"Give its own --config and --data, or leave --init out."
                )
            for network in (self.network, self.average):
                network.load_state_dict(weights.model.state_dict())

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state["config"] != self.config:
            raise ValueError(
                f"{path} is the checkpoint of another network: {state['config']}. "
                f"Give the same options, or remove it."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.best, self.history = state["best"], state["history"]


def fit(
    run: Run,
    batch: Callable[[int], tuple[tuple[Tensor, ...], Tensor]],
    check: Callable[[nn.Module], dict[str, float]],
    checkpoint: Path | None,
) -> dict:
    """Trains until the budget is spent; the averaged weights that checked best are in `run.average` then.

    batch    step -> (inputs of the network, labels (B,)).
    check    averaged network -> figures, "top1" among them.
    returns  the figures of the best weights.
    """
    began, spent = time.monotonic(), run.elapsed
    checked, losses = run.elapsed, []
    while run.progress < 1:
        losses.append(run.learn(*batch(run.step)))
        run.elapsed = spent + time.monotonic() - began
        t = run.training
        due = run.step % t.validate_steps == 0 if t.steps else run.elapsed - checked >= t.validate_every
        if due or run.progress >= 1:
            checked = run.elapsed
            figures = check(run.average)
            figures |= {"loss": float(np.mean(losses)), "step": run.step, "seconds": round(run.elapsed)}
            run.history.append(figures)
            log.info(
                "%5.0f s  step %d  %.0f drawings/s  loss %.3f  valid %s",
                run.elapsed,
                run.step,
                run.step * run.training.batch / run.elapsed,
                figures["loss"],
                "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if "top1" in name),
            )
            losses = []
            if score(figures) > score(run.best):
                weights = {name: value.clone() for name, value in run.average.state_dict().items()}
                run.best = figures | {"weights": weights}
            if checkpoint is not None:
                run.save(checkpoint)
            run.elapsed = spent + time.monotonic() - began
    run.average.load_state_dict(run.best["weights"])
    figures = {name: value for name, value in run.best.items() if name != "weights"}
    return figures | {"drawings_seen": figures["step"] * run.training.batch}


def score(figures: dict) -> float:
    """What the best weights have most of: right answers, those of damaged drawings counting as much."""
    return figures["top1"] + figures.get("damaged_top1", 0.0)


def chances(labels: np.ndarray, balance: float) -> np.ndarray:
    """(S,) cumulative probability with which each drawing is picked, from S labels."""
    of_drawing = np.bincount(labels)[labels] ** (balance - 1.0)
    return np.cumsum(of_drawing / of_drawing.sum())


def pick(edges: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) numbers of drawings, by the cumulative probabilities `edges`."""
    return np.minimum(np.searchsorted(edges, rng.random(count)), len(edges) - 1)


def validation_figures(found: np.ndarray, labels: np.ndarray, deep: np.ndarray) -> dict[str, float]:
    """Share of right answers over all drawings, its mean over classes, and that over the `deep` classes."""
    right = found == labels
    by_class = {c: float(right[labels == c].mean()) for c in np.unique(labels)}
    deep_scores = [score for c, score in by_class.items() if c in set(deep.tolist())]
    figures = {"top1": float(right.mean()), "macro_top1": float(np.mean(list(by_class.values())))}
    return figures | ({"deep_macro_top1": float(np.mean(deep_scores))} if deep_scores else {})


def deep_classes(labels: np.ndarray) -> np.ndarray:
    """The classes with DEEP drawings or more among `labels`."""
    return np.flatnonzero(np.bincount(labels) >= DEEP)


# ---- the command line -----------------------------------------------------------------------------


def command(
    argv: Sequence[str] | None,
    prog: str,
    description: str,
    Config: type,
    Training: type[ClassifierTraining],
    train: Callable[..., tuple[nn.Module, dict, list[str]]],
    *,
    dtype: torch.dtype,
) -> int:
    """`train PROG`: trains a network of `Config` as `Training` says, and writes it, stored as `dtype`."""
    args = parser(prog, description, Config.__name__, Training.__name__).parse_args(argv)
    prepare(args)
    config = Config(**json.loads(args.config))
    asked = {name: getattr(args, name) for name in ("seconds", "steps", "seed", "init")}
    training = Training(**asked, **json.loads(args.training))
    network, figures, classes = train(args.data, config, training, checkpoint=args.checkpoint)
    write(args, prog, network, figures, classes, dtype=dtype)
    return 0


def parser(prog: str, description: str, config: str, training: str) -> Parser:
    p = Parser(prog=f"python -m sketch_core train {prog}", description=description)
    p.add_argument("--data", type=Path, required=True, help="folder of Quick, Draw! files, one a class")
    p.add_argument("--seconds", type=float, default=0.0, help="time to train for, reading not counted")
    p.add_argument("--steps", type=int, default=0, help="or batches to train for")
    p.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    p.add_argument("--init", default="", help="weights to start from, a name or a file")
    p.add_argument("--checkpoint", type=Path, help="file to go on from and to save to, every few minutes")
    p.add_argument("--force", action="store_true", help="overwrite the file if there is one")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=0, help="CPU threads, 0 = as torch likes")
    p.add_argument("--config", default="{}", help=f"JSON, fields of {config} that differ")
    p.add_argument("--training", default="{}", help=f"JSON, fields of {training} that differ")
    return p


def prepare(args: argparse.Namespace) -> None:
    """What stands in the way is said before the training; the log goes to standard error."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists already. Add --force to overwrite it, or choose another name.")
    if args.threads:
        torch.set_num_threads(args.threads)


def write(
    args: argparse.Namespace,
    prog: str,
    network: nn.Module,
    figures: dict,
    classes: list[str],
    *,
    dtype: torch.dtype,
) -> None:
    """The trained weights, stored as `dtype`, with all that tells where they come from."""
    options = "".join(
        f" --{name} {value:g}" for name in ("seconds", "steps") if (value := getattr(args, name))
    )
    options += f" --seed {args.seed}" + (f" --init {args.init}" if args.init else "")
    options += "".join(f" --{k} '{v}'" for k in ("config", "training") if (v := getattr(args, k)) != "{}")
    seen = {name: figures.pop(name) for name in ("step", "seconds", "drawings_seen")}
    metadata = {
        "classes": classes,
        "trained_on": f"Quick, Draw!, {len(classes)} classes, train split",
        "license": "CC-BY-4.0",
        "attribution": "Quick, Draw! drawings, Google, CC BY 4.0",
        "command": f"python -m sketch_core train {prog} --data DIR{options} --out FILE",
        "training": seen,
        "figures": {"split": "valid"} | {name: round(value, 5) for name, value in figures.items()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(args.out, network, metadata, dtype=dtype)
    log.info("wrote %s: %s", args.out, metadata["figures"])
