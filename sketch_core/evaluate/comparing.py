"""Two runs of one protocol beside one another: what differs, and whether more than chance would have it."""

from __future__ import annotations

import numpy as np

from ..metrics import centred_interval
from .figures import MEANS, figures_of

LESS_IS_BETTER = {"fid", "kid", "inception_fid", "inception_kid", "geometry"}


def differences(ours: dict, theirs: dict) -> list[dict]:
    """How two reports differ, figure by figure: their values, ours minus theirs, a 95 % interval of that.

    The interval is of paired differences: half sample d holds the same real drawings, and the same seeds and
    indices of drawings, in both. It is None where a report has no half samples of that figure.
    `better` is True or False where the interval leaves out 0, else None; strokes, ink and points are neither.
    """
    check_comparable(ours["protocol"], theirs["protocol"])
    a, b = figures_of(ours), figures_of(theirs)
    rows = []
    for name in [n for n in a if n in b and not n.endswith(("_floor", "_real"))]:
        if a[name] is None or b[name] is None:
            continue
        row = {"figure": name, "ours": a[name], "theirs": b[name], "difference": a[name] - b[name]}
        pairs = [report.get("draws", {}).get(name, []) for report in (ours, theirs)]
        row["interval"] = row["better"] = None
        if pairs[0] and len(pairs[0]) == len(pairs[1]):
            low, high = centred_interval(row["difference"], np.subtract(*pairs))
            row["interval"] = (low, high)
            if name.removesuffix("_share") not in MEANS and (low > 0 or high < 0):
                row["better"] = (low > 0) != (name in LESS_IS_BETTER)
        rows.append(row)
    return rows


def check_comparable(ours: dict, theirs: dict) -> None:
    """ValueError where two protocols differ in more than the versions that ran them."""
    ours, theirs = (p | {"judge": p["judge"]["sha256"]} for p in (ours, theirs))  # a file may change its name
    for name in sorted((set(ours) | set(theirs)) - {"versions"}):
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"the two runs do not compare: {name} differs. Measure both by one protocol, "
                f"with the same judge and data."
            )
