"""Whether guidance by pictures does what it is for: `python -m tests.guidance_energy [SEEDS]`.

Eight drawings of the embedded model are the pictures; each is followed from SEEDS / 8 seeds (64 in all unless
told otherwise), at five scales from 0 to the default of `rectify(follow="picture")`. Printed is the mean
energy of what comes out, its perceptual distance from the picture, with twice its standard error.
"""

from __future__ import annotations

import sys

import torch

import sketch_core
from sketch_core import rectifier
from sketch_core.denoisers import Prediction
from sketch_core.guidance import Likeness
from sketch_core.raster import rasterize
from sketch_core.rectifier import Guide, sample_guided

CLASSES = ("apple", "cactus", "car", "cat", "eye", "face", "ice cream", "umbrella")
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the default


def main(seeds: int) -> None:
    model = sketch_core.load("default")
    pictures = tuple(model.draw(list(CLASSES), count=1, seed=1000))
    each = seeds // len(pictures)
    for scale in SCALES:
        strength = 1 / (1 + scale)  # of which scale = PULL / looseness
        guide = Guide(pictures, strength, "picture")
        latent = sample_guided(model, guide, count=each, seed=0, guidance=model.guided)
        ink = torch.from_numpy(
            rasterize(pictures, rectifier.PICTURE, line_width=rectifier.LINE, padding=0.05)
        )
        energy = Likeness(
            rectifier._embedded_eye(),
            ink.repeat_interleave(each, 0),
            latent.length,
            line_width=rectifier.LINE,
        )
        seen = Prediction(latent.points, latent.pen, torch.zeros(len(latent.points)))
        rows = torch.arange(len(latent.points))
        values = torch.cat(
            [energy(_rows(seen, part), rows[part] * 0.0, rows[part]) for part in rows.split(4)]
        )
        error = 2 * values.std() / len(values) ** 0.5
        said = f"scale {scale * rectifier.PULL:4.2f}  energy {values.mean():.3f} +/- {error:.3f}\n"
        sys.stdout.write(said)


def _rows(seen: Prediction, which: torch.Tensor) -> Prediction:
    return Prediction(seen.points[which], seen.pen[which], seen.calls[which])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
