"""What the shortcut's network costs beside a step of the denoiser: `python -m tests.shortcut_cost [RUNS]`.

The default model, one thread, sketches of 48 points; both are asked in turn, medians of RUNS (40).
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from sketch_core.denoisers import Condition
from sketch_core.knitter import load
from sketch_core.samplers import Step
from sketch_core.shortcut import Recognize

POINTS = 48


def measure(batch: int, runs: int) -> tuple[float, float]:
    """Median seconds of a step, and the median of the network's share of it."""
    model = load()
    recognize = Recognize(model.recognizability.model)
    label, length = torch.zeros(batch, dtype=torch.long), torch.full((batch,), POINTS)
    denoise = model.bound(Condition(label, length), model.guided)
    x, t = torch.randn(batch, POINTS, 2), torch.full((batch,), 0.5, dtype=torch.float64)
    active, steps, shares = torch.arange(batch), [], []
    for _ in range(runs + 1):  # the first one warms up
        begun = time.perf_counter()
        seen = denoise(x, t, active)
        between = time.perf_counter()
        recognize(Step(0, active, t, x, seen))
        steps.append(between - begun)
        shares.append((time.perf_counter() - between) / steps[-1])
    return statistics.median(steps[1:]), statistics.median(shares[1:])


def main() -> None:
    torch.set_num_threads(1)
    for batch in (16, 1):
        step, share = measure(batch, int(sys.argv[1]) if len(sys.argv) > 1 else 40)
        sys.stdout.write(
            f"batch {batch}: a step {1000 * step:.1f} ms, the shortcut's network {share:.1%} of it\n"
        )


if __name__ == "__main__":
    main()
