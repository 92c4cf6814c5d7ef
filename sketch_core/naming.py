"""What a drawing of the user's shows: the given class, its own label, or else the recognizers' guess.

Whole drawings are named as they are, by pictures and by strokes. Of damaged ones, rough, begun or broken, the
stroke recognizer, which learned from such drawings, says the likeliest few classes; the drawing is mended as
each of them, and the one that comes out most like itself is it. Under a wrong name it would be mended wrong.

Of 140 validation drawings off by 12 % of their side 73 % are named right so, by the stroke recognizer alone
66 %; with three points in ten lost 84 and 77 %; of 206 halves 62 and 48 %. Recognizers that never saw damage
named 13, 36 and 39 % of such drawings right.

Limits: one class a drawing; a guess is always made, of nothing at all too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .knitter import SketchModel
from .recognizer import BY, Recognizer, load_recognizer
from .strokes import Sketch

ANY_CLASS = "any"  # as a class name: whatever the model likes
TRIES = 5  # classes that a damaged drawing is mended as before it is named
FIRST = 0.5  # how much the damaged drawing itself counts beside what becomes of it
DOUBT = 1e-3  # added to every score: none rules a class out

Mend = Callable[[list[int], list[str]], list[Sketch]]  # which sketches, as what -> each of them mended


def classes_of(
    model: SketchModel,
    sketches: Sequence[Sketch],
    class_name: str | None,
    recognizer: Recognizer | None = None,
    *,
    mend: Mend | None = None,
    damaged: Callable[[int], bool] = lambda i: True,
    seen: Sequence[Sketch] | None = None,
) -> list[int]:
    """The label of each sketch.

    recognizer  names those whose class nobody says; None: the embedded ones, by pictures and by strokes.
    mend        mends sketches that are `damaged`; None: all are named as they are.
    seen        what is there to see of the sketches; None: they themselves.
    """
    if class_name is not None:
        return [model.label(None if class_name == ANY_CLASS else class_name)] * len(sketches)
    unknown, seen = unnamed(model, sketches, class_name), seen or sketches
    if not unknown:
        return [model.label(one.label) for one in sketches]
    hard = [] if mend is None else [i for i in unknown if damaged(i)]
    easy = [i for i in unknown if i not in set(hard)]
    both = embedded_recognizers() if recognizer is None else (recognizer,)
    guesses = dict(zip(easy, guessed(model, [seen[i] for i in easy], both), strict=True))
    if hard:
        strokes = both[-1]
        first = likelihoods(model, [seen[i] for i in hard], strokes)
        tried = np.argsort(-first, axis=1, kind="stable")[:, : tries(model, strokes)]  # (b, k) labels
        again, names = np.repeat(hard, tried.shape[1]), [model.classes[label] for label in tried.flat]
        mended = mend(again.tolist(), names)
        own = np.mean([np.exp(likelihoods(model, mended, one)) for one in both], 0)
        own = np.log(own[np.arange(len(mended)), tried.ravel()]).reshape(tried.shape)
        best = (own + FIRST * np.take_along_axis(first, tried, 1)).argmax(1)
        guesses |= dict(zip(hard, np.take_along_axis(tried, best[:, None], 1)[:, 0].tolist(), strict=True))
    return [guesses[i] if i in guesses else model.label(one.label) for i, one in enumerate(sketches)]


def tries(model: SketchModel, recognizer: Recognizer | None = None) -> int:
    """How often a damaged drawing is mended before it is named; recognizer None: the embedded one."""
    return min(TRIES, len(shared_classes(model, recognizer or embedded_recognizers()[-1])[0]))


def made_to_name(model: SketchModel, hard: Sequence[int]) -> int:
    """How many drawings are made before so many damaged ones are named."""
    return tries(model) * len(hard) if hard else 0


def unnamed(model: SketchModel, sketches: Sequence[Sketch], class_name: str | None) -> list[int]:
    """Which sketches nobody says the class of."""
    return [i for i, one in enumerate(sketches) if class_name is None and not has_class(model, one)]


def labelled(sketches: Sequence[Sketch], which: Sequence[int], names: Sequence[str]) -> list[Sketch]:
    """Some of the sketches, each said to show something."""
    return [replace(sketches[i], label=name) for i, name in zip(which, names, strict=True)]


def has_class(model: SketchModel, sketch: Sketch) -> bool:
    """Whether a sketch is labelled with a class that the model knows; else the recognizer has to guess."""
    if sketch.label is None:
        return False
    return sketch.label.strip().replace("_", " ").lower() in {name.lower() for name in model.classes}


def guessed(model: SketchModel, sketches: Sequence[Sketch], recognizers: Sequence[Recognizer]) -> list[int]:
    """For each drawing the label of the model's class that it shows likeliest: the product of all scores."""
    if not sketches:
        return []
    return sum(likelihoods(model, sketches, one) for one in recognizers).argmax(1).tolist()


def likelihoods(model: SketchModel, sketches: Sequence[Sketch], recognizer: Recognizer) -> np.ndarray:
    """(B, model's classes) logarithms of a recognizer's scores; -inf for classes that it does not know."""
    labels, columns = shared_classes(model, recognizer)
    found = np.full((len(sketches), len(model.classes)), -np.inf)
    found[:, labels] = np.log(recognizer.scores(sketches)[:, columns] + DOUBT)
    return found


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
    """By pictures, and by strokes."""
    return tuple(map(load_recognizer, BY["both"]))
