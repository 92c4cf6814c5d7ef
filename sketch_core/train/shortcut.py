"""Makes a model's shortcut: `python -m sketch_core train shortcut --model NAME`.

The frozen denoiser draws; at every look the drawing it sees by then is decoded, rasterised and shown to a
classifier. The mean probability of the right class against t is the curve by which a budget of steps is
placed; h_phi learns the same of each sketch from its noisy points (SketchKnitter, ICLR 2023; its target is
the classifier's probability, as in the paper, not the hit rate of a batch, as in its code). Both go into one
file beside the model's, which names the weights it was made from. `--calibrate` measures the curve alone and
keeps h_phi: some minutes, for weights that were trained on.

No drawings are read: the denoiser makes them, of the classes that it saw most drawings of, where there is
something to recognize. One sketch in five is kept back to measure h_phi; no two share their noise.
`--calibrate` does not measure it: nothing tells which drawings it has learned from. Of 256 sketches h_phi
learned no more than the time tells; 1,024 took its squared error from 0.0815, by time alone, to 0.0675.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import Parser
from ..hub import find_weights, sha256_of
from ..knitter import Emerging, SketchModel, load, preview, recognizability_file
from ..models.recognizability import Recognizability, RecognizabilityConfig
from ..recognizer import Recognizer, load_recognizer
from ..shortcut import Curve
from ..weight_file import load_file, write_weights

log = logging.getLogger(__name__)

LR = 1e-3  # peak, of h_phi's training
KEPT_BACK = 5  # one sketch in so many
BATCH = 256  # looks a step of h_phi's training
BEST = 32  # classes that are drawn, unless told otherwise: those with the most training drawings


@dataclass(frozen=True)
class Looks:
    """What was seen at M looks of S sketches on their way.

    x (M, N, 2) and pen (M, N, 3) padded with zeros;  t, length, sketch (M,);  r (M,) the classifier's
    probability of the right class for the drawing that the denoiser saw.
    """

    x: Tensor
    pen: Tensor
    t: Tensor
    length: Tensor
    sketch: Tensor
    r: Tensor

    def rows(self, which: Tensor) -> Looks:
        N = int(self.length[which].max())
        parts = (self.t, self.length, self.sketch, self.r)
        return Looks(self.x[which, :N], self.pen[which, :N], *(part[which] for part in parts))


def collect(
    model: SketchModel,
    recognizer: Recognizer,
    *,
    classes: Sequence[str],
    count: int,
    steps: int,
    seed: int = 0,
) -> Looks:
    """Draws `count` sketches of each class in equal steps, and has every look judged.

    Sketch i of class c is drawing c * count + i of the seed: noise of its own, as what is kept back needs.
    """
    known = {name: i for i, name in enumerate(recognizer.classes)}
    if strangers := [name for name in classes if name not in known]:
        raise ValueError(
            f"the recognizer does not know {', '.join(strangers[:5])}. Leave them out with --classes."
        )
    x, pen, t, sketch, r = [], [], [], [], []
    first = size = 0

    def on_step(step: Emerging) -> None:
        nonlocal first, size
        if step.index == 0:
            first, size = first + size, len(step.active)
        scores = recognizer.scores(preview(step, model))
        r.append(torch.from_numpy(scores[np.arange(len(scores)), [known[name] for name in step.labels]]))
        for row, n in enumerate(step.length.tolist()):
            x.append(step.x[row, :n].float().cpu())
            pen.append(step.prediction.pen[row, :n].float().cpu())
        t.append(step.t)
        sketch.append(first + step.active)
        log.info(
            "t %.3f, %d sketches: mean recognizability %.3f", float(step.t.mean()), len(t[-1]), r[-1].mean()
        )

    for c, name in enumerate(classes):
        options = {"count": count, "start": c * count, "seed": seed, "steps": steps, "schedule": "uniform"}
        model.sample(name, **options, on_step=on_step)
    pad = torch.nn.utils.rnn.pad_sequence
    length = torch.tensor([len(row) for row in x])
    return Looks(pad(x, True), pad(pen, True), torch.cat(t), length, torch.cat(sketch), torch.cat(r))


def best_known(model: SketchModel) -> list[str]:
    """The BEST classes by how many training drawings the model's histograms of lengths count."""
    order = np.argsort(-model.lengths.sum(1), kind="stable")[:BEST]
    return [model.classes[i] for i in sorted(order)]


def curve_of(looks: Looks) -> Curve:
    """Mean recognizability at each time; the last look is what the drawing will be."""
    times = looks.t.unique().flip(0)
    means = [float(looks.r[looks.t == t].mean()) for t in times]
    return Curve((*times.tolist(), 0.0), (*means, means[-1]))


def loss_of(network: Recognizability, looks: Looks) -> Tensor:
    """Cross-entropy with the classifier's probability, per look."""
    said = network(looks.x, looks.pen, looks.t.float(), looks.length)
    return F.binary_cross_entropy_with_logits(said, looks.r)


def mirrored(looks: Looks, generator: torch.Generator) -> Looks:
    """Left and right changed in half of them: a mirrored drawing is as recognizable."""
    side = 1 - 2 * torch.randint(0, 2, (len(looks.x), 1, 1), generator=generator)
    return replace(looks, x=looks.x * torch.cat([side, torch.ones_like(side)], -1))


def fit(network: Recognizability, looks: Looks, *, epochs: int, seed: int = 0) -> None:
    """Trains h_phi by AdamW on the looks of three sketches in five; a fourth one says which epoch was best.

    The last fifth is kept back for `figures_of`.
    """
    turn = looks.sketch % KEPT_BACK
    train, watch = (turn > 1).nonzero()[:, 0], (turn == 1).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.1)
    steps = epochs * -(-len(train) // BATCH)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    best, weights = math.inf, {}
    for epoch in range(epochs):
        network.train()
        order = train[torch.randperm(len(train), generator=generator)]
        for part in order.split(BATCH):
            loss = loss_of(network, mirrored(looks.rows(part), generator))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            decay.step()
        network.eval()
        with torch.no_grad():
            found = float(loss_of(network, looks.rows(watch)))
        log.info("epoch %d of %d, loss %.4f, watched %.4f", epoch + 1, epochs, float(loss.detach()), found)
        if found < best:
            best, weights = found, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)


@torch.no_grad()
def figures_of(network: Recognizability | None, looks: Looks, curve: Curve) -> dict:
    """The curve; of an h_phi trained on these looks, its mean squared error on the sketches that were
    kept back, beside that of a guess by t alone (the curve)."""
    figures = {
        "t": [round(v, 6) for v in curve.t],
        "r": [round(v, 5) for v in curve.r],
        "sketches": int(looks.sketch.max()) + 1,
    }
    if network is None:
        return figures
    part = looks.rows((looks.sketch % KEPT_BACK == 0).nonzero()[:, 0])
    said = network(part.x, part.pen, part.t.float(), part.length).sigmoid()
    by_time = torch.from_numpy(np.interp(part.t.numpy(), curve.t[::-1], curve.r[::-1])).float()
    return figures | {
        "mse": round(float(F.mse_loss(said, part.r)), 5),
        "mse_by_time_alone": round(float(F.mse_loss(by_time, part.r)), 5),
    }


def start_from(own: Path, seed: int, *, calibrate: bool) -> Recognizability:
    """The h_phi that is there already (the model's, or the embedded one's) or a fresh one."""
    if not calibrate:
        torch.manual_seed(seed)
        return Recognizability(RecognizabilityConfig())
    beside = recognizability_file(own)
    return load_file(beside if beside.is_file() else recognizability_file(find_weights("default"))).model


def main(argv: Sequence[str] | None = None) -> int:
    p = Parser(prog="python -m sketch_core train shortcut", description=__doc__.split("\n")[0])
    p.add_argument("--model", default="default", help="name or .safetensors file (default: the embedded one)")
    p.add_argument("--out", type=Path, help="file to write (default: beside the model's, where it is found)")
    p.add_argument("--calibrate", action="store_true", help="only the curve; h_phi stays as it is")
    p.add_argument("--classes", default="", help=f"comma list of classes to draw (default: the best {BEST})")
    p.add_argument("--count", type=int, default=32, help="sketches of each class (default 32)")
    p.add_argument("--steps", type=int, default=24, help="looks at each sketch (default 24)")
    p.add_argument("--epochs", type=int, default=12, help="of h_phi's training (default 12)")
    p.add_argument("--recognizer", default="recognizer", help="who judges: a name or .safetensors file")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=0, help="CPU threads, 0 = as torch likes")
    p.add_argument("--force", action="store_true", help="overwrite the file if there is one")
    args = p.parse_args(argv)
    level = logging.INFO if sys.stderr.isatty() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    own = find_weights(args.model)
    out = args.out or recognizability_file(own)
    if out.exists() and not args.force:
        raise ValueError(f"{out} exists already. Add --force to overwrite it, or choose another name.")
    for name in ("count", "epochs"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} is {getattr(args, name)}, wanted 1 or more.")
    if args.threads:
        torch.set_num_threads(args.threads)
    model, network = load(args.model), start_from(own, args.seed, calibrate=args.calibrate)
    names = [part for part in args.classes.split(",") if part.strip()]
    classes = [model.classes[model.label(name)] for name in names] or best_known(model)
    if not args.calibrate and len(classes) * args.count < KEPT_BACK:
        raise ValueError(
            f"{len(classes) * args.count} sketches are too few to learn from, wanted {KEPT_BACK} or more. "
            f"Raise --count, or --calibrate only."
        )
    options = {"classes": classes, "count": args.count, "steps": args.steps, "seed": args.seed}
    looks = collect(model, load_recognizer(args.recognizer), **options)
    curve = curve_of(looks)
    curve.times(1)  # a curve that says nothing shows now
    if not args.calibrate:
        fit(network, looks, epochs=args.epochs, seed=args.seed)
    figures = figures_of(None if args.calibrate else network, looks, curve)
    what = " --calibrate" if args.calibrate else f" --epochs {args.epochs}"
    metadata = {
        "trained_on": f"{figures['sketches']} drawings by {model.name}",
        "license": "CC-BY-4.0",
        "attribution": "Quick, Draw! drawings, Google, CC BY 4.0",
        "command": f"python -m sketch_core train shortcut --model {Path(args.model).name}{what} "
        f"--count {args.count} --steps {args.steps} --seed {args.seed}",
        "training": {"denoiser": sha256_of(own)},
        "figures": figures,
    }
    write_weights(out, network, metadata)
    rises = f"recognizability rises from {figures['r'][0]:.3f} to {figures['r'][-1]:.3f}"
    errors = "h_phi is as it was"
    if not args.calibrate:
        alone = figures["mse_by_time_alone"]
        errors = f"h_phi is off by {figures['mse']:.4f} (squared), time alone by {alone:.4f}"
    sys.stdout.write(f"{out}: {rises}; {errors}\n")
    return 0
