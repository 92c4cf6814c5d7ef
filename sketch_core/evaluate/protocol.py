"""What a figure hangs on, written down: with it a run can be printed again, repeated and compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.records import DataError
from ..hub import find_weights, sha256_of
from .measuring import Real

FORMAT = 1  # of the JSON files
JUDGE = "judge"  # unless another one is named


@dataclass(frozen=True)
class Plan:
    """How much is drawn and measured.

    count      drawings of each class and seed, as the splits allow.
    seeds      of the drawings.
    resamples  half samples, for intervals.
    geometry   runs of the Geometry Score.
    """

    count: int
    seeds: tuple[int, ...]
    resamples: int
    geometry: int


PLANS = {
    "quick": Plan(count=40, seeds=(0,), resamples=0, geometry=0),
    "full": Plan(
        count=50, seeds=(0, 1, 2), resamples=200, geometry=1000
    ),  # 28 classes: 1,400 drawings a seed
}


def protocol(real: Real, *, seeds: Sequence[int], choice: int, judge: str, inception: Path | None) -> dict:
    """All that two runs must share to be compared, and the versions that ran this; no path, no machine."""
    return {
        "classes": list(real.classes),
        "counts": list(real.counts),
        "seeds": list(seeds),
        "choice": choice,
        "judge": judge_note(judge),
        "inception": None if inception is None else sha256_of(inception),
        "data": hashlib.sha256(json.dumps(real.data_sha256).encode()).hexdigest(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


def judge_note(judge: str) -> dict:
    """File name and sha256 of a judge's weights."""
    path = find_weights(judge)
    return {"file": path.name, "sha256": sha256_of(path)}


def read_runs(path: Path) -> list[dict]:
    """The reports of a file that `evaluate --out` wrote; a DataError where it is no such file."""
    try:
        found = json.loads(path.read_text("utf-8"))
        runs = found["runs"] if "runs" in found else [found]
        sound = bool(runs) and all({"format", "protocol", "settings", "top1"} <= set(run) for run in runs)
        sound = sound and all(run["format"] == FORMAT for run in runs)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Check the path.") from error
    except (ValueError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise DataError(f"{path} is no report of `evaluate --out`. Give a JSON file that it wrote.")
    return runs
