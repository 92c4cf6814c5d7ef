"""Which classes an evaluation draws, and the paper's folds of them."""

from __future__ import annotations

from collections.abc import Sequence

DEEP_CLASSES = (  # those of the project's training data with 880 drawings or more
    "airplane, alarm clock, ambulance, ant, apple, backpack, basket, butterfly, cactus, calculator, "
    "campfire, candle, car, coffee cup, crab, duck, eye, face, ice cream, monkey, mouth, pig, pineapple, "
    "power outlet, radio, shoe, suitcase, sun"
).split(", ")
PAPER_CLASSES = "moon airplane fish umbrella train spider shoe apple lion bus".split()  # SketchKnitter's ten

FOLDS = ("simple", "moderate", "complex")  # SketchKnitter: mean points below 40, 40 to 100, above 100


def fold_of(mean_points: float) -> str:
    """The fold of a class whose real drawings have so many points on average."""
    return FOLDS[0] if mean_points < 40 else FOLDS[1] if mean_points <= 100 else FOLDS[2]


def choose_classes(text: str, known: Sequence[str]) -> list[str]:
    """`deep`, `paper`, `all`, or names with commas between them, as the `known` ones are spelled."""
    if not known:
        raise ValueError("the data folder holds no .npz files. Give the folder of Quick, Draw! files.")
    if text == "all":
        return list(known)
    wanted: Sequence[str] = {"deep": DEEP_CLASSES, "paper": PAPER_CLASSES}.get(text) or text.split(",")
    spelled = {_folded(name): name for name in known}
    strangers = [name for name in wanted if _folded(name) not in spelled]
    if strangers:
        raise ValueError(
            f"no drawings of {', '.join(strangers[:5])} in the data folder. Give names of its files, "
            f"'deep', 'paper' or 'all'."
        )
    return [spelled[_folded(name)] for name in wanted]


def _folded(name: str) -> str:
    return name.strip().replace("_", " ").casefold()
