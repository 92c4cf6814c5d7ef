"""What a drawing shows: whole ones by every recognizer, damaged ones by what they become under each name."""

from __future__ import annotations

import numpy as np
import pytest

from sketch_core import naming
from sketch_core.knitter import SketchModel
from sketch_core.naming import classes_of, guessed, labelled, likelihoods, made_to_name, tries
from sketch_core.strokes import Sketch
from tests.test_knitter import CLASSES, METADATA
from tests.tiny import tiny_transformer

CAT, TOWER, CACTUS = range(3)


@pytest.fixture(scope="module")
def model() -> SketchModel:
    return SketchModel("tiny", tiny_transformer(), METADATA)


def sketch(i: int, label: str | None = None) -> Sketch:
    """The i-th drawing, whatever it is labelled."""
    return Sketch([[[0, 0], [i, 9]]], label=label)


def number(one: Sketch) -> int:
    return int(one.strokes[0][1, 0])


class Table:
    """Scores by the number of a drawing and its label; remembers what it was shown."""

    def __init__(self, classes, rows):
        self.classes, self.rows, self.seen = classes, rows, []

    def scores(self, sketches):
        self.seen.append([(number(one), one.label) for one in sketches])
        return np.array([self.rows[number(one), one.label] for one in sketches], np.float32)


def mending(asked: list):
    """Mended drawings say what they were mended as; they are numbered as those that they come from."""

    def mend(which: list[int], names: list[str]) -> list[Sketch]:
        asked.append(list(zip(which, names, strict=True)))
        return [sketch(i, name) for i, name in zip(which, names, strict=True)]

    return mend


# ---- whole drawings ----------------------------------------------------------------------------------


def test_a_score_s_logarithm_has_some_doubt_and_strangers_have_none(model):
    table = Table(("dog", "cactus", "cat"), {(1, None): [0.5, 0.0, 0.3], (2, None): [0.0, 0.9, 0.1]})
    found = likelihoods(model, [sketch(1), sketch(2)], table)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[:, CACTUS], np.log([naming.DOUBT, 0.9 + naming.DOUBT]), rtol=1e-5)
    np.testing.assert_allclose(found[:, CAT], np.log([0.3 + naming.DOUBT, 0.1 + naming.DOUBT]), rtol=1e-5)
    assert (found[:, TOWER] == -np.inf).all()


def test_whole_drawings_are_named_by_the_product_of_all_scores(model):
    pictures = Table(CLASSES, {(1, None): [0.6, 0.3, 0.1], (2, None): [0.5, 0.5, 0.0]})
    strokes = Table(("cactus", "cat", "The Eiffel Tower"), {(1, None): [0.2, 0.2, 0.6], (2, None): [1, 0, 0]})
    found = guessed(model, [sketch(1), sketch(2)], (pictures, strokes))
    assert found == [TOWER, CACTUS]  # 0.18 against 0.12; and where one rules a class out, the other counts
    assert guessed(model, [sketch(1)], (pictures,)) == [CAT]
    assert guessed(model, [], (pictures, strokes)) == []


def test_a_class_that_a_recognizer_does_not_know_is_not_guessed(model):
    pictures = Table(("cat", "cactus"), {(1, None): [0.1, 0.9]})
    strokes = Table(("cat", "The Eiffel Tower"), {(1, None): [0.01, 0.99]})
    assert guessed(model, [sketch(1)], (pictures, strokes)) == [CAT]


def test_the_embedded_recognizers_name_together_unless_one_is_given(model, monkeypatch):
    pictures = Table(("cat", "cactus"), {(1, None): [0.9, 0.1]})
    strokes = Table(("cactus", "cat"), {(1, None): [0.99, 0.01]})
    monkeypatch.setattr(naming, "embedded_recognizers", lambda: (pictures, strokes))
    assert classes_of(model, [sketch(1)], None) == [CACTUS]
    assert classes_of(model, [sketch(1)], None, pictures) == [CAT]


def test_labels_and_a_given_class_ask_nobody(model, monkeypatch):
    def nobody():
        raise AssertionError("weights were asked for")

    monkeypatch.setattr(naming, "embedded_recognizers", nobody)
    mend = mending(asked := [])
    own = [sketch(1, "cat"), sketch(2, " the_eiffel tower")]
    assert classes_of(model, [sketch(1)], "Cactus", mend=mend) == [CACTUS]
    assert classes_of(model, [sketch(1)] * 2, "any", mend=mend) == [3, 3]
    assert made_to_name(model, []) == 0
    assert classes_of(model, own, None, mend=mend) == [CAT, TOWER]
    assert not asked


# ---- damaged ones ------------------------------------------------------------------------------------


def test_the_class_is_that_whose_mended_drawing_looks_most_like_itself(model):
    """Written out: the logarithm of its own score, and half of the damaged drawing's."""
    table = Table(
        CLASSES,
        {
            (0, None): [0.5, 0.3, 0.2],  # likeliest a cat, but
            (0, "cat"): [0.3, 0.7, 0.0],  # 0.3 * sqrt(0.5) = 0.21
            (0, "The Eiffel Tower"): [0.1, 0.5, 0.4],  # 0.5 * sqrt(0.3) = 0.27
            (0, "cactus"): [0.0, 0.45, 0.55],  # 0.55 * sqrt(0.2) = 0.25
        },
    )
    asked: list = []
    assert classes_of(model, [sketch(0)], None, table, mend=mending(asked)) == [TOWER]
    assert asked == [[(0, "cat"), (0, "The Eiffel Tower"), (0, "cactus")]]  # likeliest first
    assert table.seen == [[(0, None)], [(0, name) for _, name in asked[0]]]


def test_what_is_damaged_counts_as_much_as_first_says(model, monkeypatch):
    rows = {(0, None): [0.9, 0.1], (0, "cat"): [0.4, 0.6], (0, "cactus"): [0.2, 0.8]}
    table, found = Table(("cat", "cactus"), rows), []
    for first in (0.0, 0.5):
        monkeypatch.setattr(naming, "FIRST", first)
        found += classes_of(model, [sketch(0)], None, table, mend=mending([]))
    assert found == [CACTUS, CAT]  # 0.8 against 0.4; then 0.8 * 0.32 against 0.4 * 0.95


def test_the_strokes_choose_what_is_tried_and_the_mean_of_both_decides(model, monkeypatch):
    pictures = Table(CLASSES, {(0, "cat"): [0.8, 0, 0.2], (0, "cactus"): [0.3, 0, 0.7]})
    strokes = Table(
        ("cactus", "cat", "The Eiffel Tower"),
        {(0, None): [0.5, 0.4, 0.1], (0, "cat"): [0.1, 0.9, 0.0], (0, "cactus"): [0.5, 0.5, 0.0]},
    )
    monkeypatch.setattr(naming, "embedded_recognizers", lambda: (pictures, strokes))
    monkeypatch.setattr(naming, "TRIES", 2)
    asked: list = []
    assert classes_of(model, [sketch(0)], None, mend=mending(asked)) == [CAT]  # 0.85 against 0.6
    assert asked == [[(0, "cactus"), (0, "cat")]]
    mended = [(0, "cactus"), (0, "cat")]
    assert pictures.seen == [mended]  # never the damaged drawing, which it did not learn to see
    assert strokes.seen == [[(0, None)], mended]
    assert tries(model) == 2


def test_only_the_damaged_are_mended_and_seen_is_what_is_looked_at(model):
    rows = {(i, name): [0.9, 0.1] for i in range(60) for name in (None, "cat", "cactus")}
    rows[12, None] = rows[2, "cat"] = [0.2, 0.8]
    table, asked = Table(("cat", "cactus"), rows), []
    sketches = [sketch(0), sketch(1, "The Eiffel Tower"), sketch(2), sketch(3)]
    seen = [sketch(10 + i, one.label) for i, one in enumerate(sketches)]
    options = {"mend": mending(asked), "damaged": lambda i: i in (1, 2), "seen": seen}
    assert classes_of(model, sketches, None, table, **options) == [CAT, TOWER, CACTUS, CAT]
    assert asked == [[(2, "cactus"), (2, "cat")]]  # as the recognizer sees drawing 12, not 2
    assert table.seen == [[(10, None), (13, None)], [(12, None)], [(2, "cactus"), (2, "cat")]]
    table.rows[2, "cactus"] = [0.1, 0.9]
    assert classes_of(model, sketches, None, table)[2] == CAT  # without a way to mend, as it is


@pytest.mark.parametrize("seed", range(8))
def test_many_at_once_are_named_as_the_formula_says(model, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    keys = [(i, name) for i in range(6) for name in (None, *CLASSES)]
    pictures = Table(CLASSES, {key: rng.dirichlet([0.6] * 3) for key in keys})
    strokes = Table(CLASSES[::-1], {key: rng.dirichlet([0.6] * 3) for key in keys})
    monkeypatch.setattr(naming, "embedded_recognizers", lambda: (pictures, strokes))
    monkeypatch.setattr(naming, "TRIES", 2)
    wanted = []
    for i in range(6):
        first = strokes.rows[i, None][::-1]
        value = {}
        for label in np.argsort(-first)[:2].tolist():
            both = pictures.rows[i, CLASSES[label]][label], strokes.rows[i, CLASSES[label]][2 - label]
            value[label] = np.log(np.mean(both) + 1e-3) + 0.5 * np.log(first[label] + 1e-3)
        wanted.append(max(value, key=value.get))
    assert classes_of(model, [sketch(i) for i in range(6)], None, mend=mending([])) == wanted
    assert len(set(wanted)) > 1


def test_no_more_classes_are_tried_than_model_and_recognizer_share(model, monkeypatch):
    two = Table(("dog", "cactus", "cat"), {})
    assert tries(model, two) == 2
    assert tries(model, Table(("owl", *CLASSES), {})) == 3
    monkeypatch.setattr(naming, "TRIES", 1)
    assert tries(model, two) == 1
    monkeypatch.undo()
    monkeypatch.setattr(naming, "embedded_recognizers", lambda: (Table(("cat",), {}), two))
    assert tries(model) == 2  # as the one by strokes knows
    assert made_to_name(model, [4, 7, 9]) == 6
    assert made_to_name(model, []) == 0
    with pytest.raises(ValueError, match="knows none of the classes of tiny, so it cannot guess"):
        tries(model, Table(("owl",), {}))


def test_five_of_many_classes_are_tried():
    names = [f"class {i}" for i in range(12)]
    many = type("Model", (), {"name": "many", "classes": names})()
    assert tries(many, Table(names, {})) == naming.TRIES == 5


def test_drawings_are_labelled_in_the_order_asked_for():
    own = [sketch(1, "owl"), sketch(2), sketch(3)]
    found = labelled(own, [2, 0, 2], ["cat", "cactus", "dog"])
    assert found == [sketch(3, "cat"), sketch(1, "cactus"), sketch(3, "dog")]
    assert own[0].label == "owl"
