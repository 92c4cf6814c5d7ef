"""Inception features of drawings, for figures in the manner of papers: by torch-fidelity, from a local file.

Drawings are rendered as SketchKnitter's evaluation did: 256 pixels, black lines of 6 pixels on white. The
network was made for photographs and says little of doodles; its figures are here to be reported beside the
judge's, never instead of them.

Limits: nothing is downloaded. The usual file is torch-fidelity's weights-inception-2015-12-05-6726825d.pth.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..raster import rasterize
from ..strokes import Sketch
from .measuring import Describe

SIZE, LINE = 256, 6.0  # pixels
BATCH = 32  # drawings at a time
LAYER = "2048"  # the last pool, as FID is defined


def load_inception(path: str | Path) -> Describe:
    """Drawings -> features (B, 2048) float32; ValueError where the file or torch-fidelity is not to be had.

    torch-fidelity unpickles its file; before it may, the file is read as what it must be, tensors and nothing
    else.
    """
    path = Path(path)
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}. Check the path.") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no file of tensors alone, so it is not opened. Get it again.") from error
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another torch
        raise ValueError(
            f"Inception features need torch-fidelity, which cannot be imported ({error}). "
            f"Get it with pip install torch-fidelity."
        ) from error
    try:
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", [LAYER], feature_extractor_weights_path=str(path)
        )
    except (RuntimeError, TypeError, AttributeError) as error:  # other tensors than the network's
        raise ValueError(
            f"{path} holds other tensors than Inception v3 as torch-fidelity has it. "
            f"Give weights-inception-2015-12-05-6726825d.pth."
        ) from error

    @torch.inference_mode()
    def describe(sketches: Sequence[Sketch]) -> np.ndarray:
        rows = [np.zeros((0, int(LAYER)), dtype=np.float32)]
        for start in range(0, len(sketches), BATCH):
            ink = rasterize(sketches[start : start + BATCH], SIZE, line_width=LINE, padding=0.05)
            paper = torch.from_numpy(np.rint(255 * (1 - ink)).astype(np.uint8))  # (b, H, W)
            (features,) = network(paper[:, None].expand(-1, 3, -1, -1))
            rows.append(features.float().numpy())
        return np.concatenate(rows)

    return describe
