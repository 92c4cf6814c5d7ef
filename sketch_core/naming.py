"""What a drawing of the user's shows: the given class, its own label, or else the recognizers' guess.

Damaged drawings are hard to name, and under a wrong name they are mended wrong. So such a drawing is first
mended a few times without a class, and what comes out is named. Of 112 rough validation drawings (off by 9 %
of their side) both recognizers name 23 % right, by four redrawings 63 %; of 54 with every third point lost
33 % and 78 %; of 54 halves 33 % and 43 %.

Limits: one class a drawing; a guess is always made, of nothing at all too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from .knitter import SketchModel
from .recognizer import BY, Recognizer, load_recognizer
from .strokes import Sketch

ANY_CLASS = "any"  # as a class name: whatever the model likes
LOOKS = 4  # drawings by which a damaged one is named
DOUBT = 1e-3  # added to every score: no single look rules a class out

Mend = Callable[[list[int]], list[Sketch]]  # which sketches -> LOOKS drawings of each, made without a class


def classes_of(
    model: SketchModel,
    sketches: Sequence[Sketch],
    class_name: str | None,
    recognizer: Recognizer | None = None,
    *,
    mend: Mend | None = None,
    damaged: Callable[[int], bool] = lambda i: True,
) -> list[int]:
    """The label of each sketch.

    recognizer  names those whose class nobody says; None: both embedded ones, by pictures and by strokes.
    mend        draws what sketches are named by that are `damaged`; None: all are named as they are.
    """
    if class_name is not None:
        return [model.label(None if class_name == ANY_CLASS else class_name)] * len(sketches)
    unknown = unnamed(model, sketches, class_name)
    looks = {i: [sketches[i]] for i in unknown}
    hard = [] if mend is None else [i for i in unknown if damaged(i)]
    if hard:
        mended = mend(hard)
        looks |= {i: mended[k * LOOKS : (k + 1) * LOOKS] for k, i in enumerate(hard)}
    guesses = dict(zip(unknown, guessed(model, list(looks.values()), recognizer), strict=True))
    return [guesses[i] if i in guesses else model.label(one.label) for i, one in enumerate(sketches)]


def unnamed(model: SketchModel, sketches: Sequence[Sketch], class_name: str | None) -> list[int]:
    """Which sketches nobody says the class of."""
    return [i for i, one in enumerate(sketches) if class_name is None and not has_class(model, one)]


def has_class(model: SketchModel, sketch: Sketch) -> bool:
    """Whether a sketch is labelled with a class that the model knows; else the recognizer has to guess."""
    if sketch.label is None:
        return False
    return sketch.label.strip().replace("_", " ").lower() in {name.lower() for name in model.classes}


def guessed(
    model: SketchModel, looks: Sequence[Sequence[Sketch]], recognizer: Recognizer | None = None
) -> list[int]:
    """For each group of drawings of one thing the label of the model's class that they show likeliest: the
    product of all scores."""
    if not looks:
        return []
    found = np.zeros((len(looks), len(model.classes)))
    ends = np.cumsum([len(group) for group in looks])[:-1]
    for one in embedded_recognizers() if recognizer is None else (recognizer,):
        labels, columns = shared_classes(model, one)
        scores = np.log(one.scores([sketch for group in looks for sketch in group])[:, columns] + DOUBT)
        sums = np.full_like(found, -np.inf)
        sums[:, labels] = [group.sum(0) for group in np.split(scores, ends)]
        found += sums
    return found.argmax(1).tolist()


def shared_classes(model: SketchModel, recognizer: Recognizer) -> tuple[list[int], list[int]]:
    """The labels of the model's classes that the recognizer knows, and their columns in its scores."""
    places = {name: i for i, name in enumerate(recognizer.classes)}
    labels = [i for i, name in enumerate(model.classes) if name in places]
    if not labels:
        raise ValueError(
            f"the recognizer knows none of the classes of {model.name}, so it cannot guess what is drawn. "
            f"Give class_name."
        )
    return labels, [places[model.classes[i]] for i in labels]


@functools.lru_cache(maxsize=1)
def embedded_recognizers() -> tuple[Recognizer, ...]:
    return tuple(map(load_recognizer, BY["both"]))
