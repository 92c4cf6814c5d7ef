"""Recognize Sketch, Pick Best and Recognizability Shortcut: what the nodes do with widgets and wires."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests import fake_comfyui
from tests.test_nodes import latent, loaded, sketches  # noqa: F401  fixtures

CLASSES = ["cat", "dog", "alarm clock"]
SCORES = np.array([[0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]], np.float32)


class Judge:
    classes = CLASSES

    def __init__(self):
        self.asked = []

    def scores(self, drawings):
        self.asked += drawings
        return SCORES[: len(drawings)]

    def recognize(self, drawings, top_k):
        order = np.argsort(-self.scores(drawings), 1, kind="stable")[:, :top_k]
        return [[(CLASSES[i], float(row[i])) for i in best] for row, best in zip(SCORES, order, strict=False)]


@pytest.fixture
def judge(pack, monkeypatch):
    made = Judge()
    asked = []

    def recognizer_by(way):
        asked.append(way)
        return made

    node = sys.modules[f"{pack.name}.nodes.recognize"]
    monkeypatch.setattr(node, "recognizer", recognizer_by)
    made.ways = asked
    return made


@pytest.fixture
def said(pack, monkeypatch):
    texts = []
    monkeypatch.setattr(
        sys.modules[f"{pack.name}.nodes.host"], "say", lambda text, node_id: texts.append((text, node_id))
    )
    return texts


def test_recognize_gives_a_label_and_a_score_each_and_all_guesses_as_text(pack, sketches, judge, said):  # noqa: F811
    labels, scores, text = pack.run("SK_Recognize", sketch=sketches, by="both", top_k=2)
    assert labels == ["dog", "dog", "alarm clock"]
    assert scores == pytest.approx([0.7, 0.9, 0.4])
    assert text.splitlines() == ["dog 0.70, cat 0.20", "dog 0.90, cat 0.05", "alarm clock 0.40, cat 0.30"]
    assert said == [(text, "1")]
    assert judge.ways == ["both"]
    assert judge.asked == list(sketches)
    schema = pack.nodes["SK_Recognize"].define_schema()
    assert [output.is_output_list for output in schema.outputs] == [True, True, False]


def test_best_is_what_each_was_drawn_as(pack, sketches, judge, said):  # noqa: F811
    """A cat at 0.2, a dog at 0.9, and one drawn as nothing that looks like an alarm clock at 0.4."""
    kept, scores = pack.run("SK_PickBest", sketch=sketches, keep=2)
    assert [drawing.label for drawing in kept] == ["dog", None]
    assert [record["index"] for record in kept.records] == [1, 2]
    assert scores == pytest.approx([0.9, 0.4])
    assert said == [("2 of 3, recognized 90% to 40%", "1")]


@pytest.mark.parametrize("name", ["alarm clock", " Alarm_Clock "])
def test_best_of_a_class_of_one_s_own(pack, sketches, judge, name):  # noqa: F811
    kept, scores = pack.run("SK_PickBest", sketch=sketches, keep=9, class_name=name, by="strokes")
    assert [record["index"] for record in kept.records] == [2, 0, 1]  # all of them, best first
    assert scores == pytest.approx([0.4, 0.1, 0.05])
    assert judge.ways == ["strokes"]


def test_nothing_to_pick_from_is_nothing_picked(pack, judge, said):
    kept, scores = pack.run("SK_PickBest", sketch=[])
    assert (list(kept), scores, said) == ([], [], [])


def test_a_class_that_nobody_knows_is_named(pack, sketches, judge):  # noqa: F811
    with pytest.raises(ValueError, match="does not know 'catt'. Give class_name one of Sketch Sampler's"):
        pack.run("SK_PickBest", sketch=sketches, class_name="catt")


def test_the_ways_are_the_library_s(pack):
    from sketch_core.recognizer import BY

    for name in ("SK_Recognize", "SK_PickBest"):
        (way,) = [i for i in pack.nodes[name].define_schema().inputs if i.id == "by"]
        assert list(way.options) == list(BY)


# --- the shortcut


def test_a_budget_is_the_model_s_own_schedule(pack):
    assert pack.run("SK_Shortcut") == "shortcut"
    assert pack.run("SK_Shortcut", threshold=0.1, jump=3) == "shortcut"


def test_a_threshold_is_a_policy_that_the_model_completes(pack):
    shortcut = pack.run("SK_Shortcut", mode="threshold", threshold=0.25, jump=40)
    assert (shortcut.threshold, shortcut.m, shortcut.recognize) == (0.25, 40, None)


def test_the_sampler_reports_what_each_drawing_took(pack, loaded, said, monkeypatch):  # noqa: F811
    import dataclasses

    def sample(classes, *, on_step, schedule, **settings):
        for index, t in enumerate([[1.0, 1.0], [0.5, 0.9], [0.4]]):
            on_step(SimpleNamespace(index=index, active=torch.arange(len(t)), t=torch.tensor(t)))
        return dataclasses.replace(latent(("cat", "dog")), calls=(2.0, 5.0))

    monkeypatch.setattr(loaded.sketch_model, "sample", sample)
    shortcut = pack.run("SK_Shortcut", mode="threshold", threshold=0.25, jump=40)
    found = pack.run(
        "SK_Sampler", model=loaded, schedule=shortcut, count=1, classes="cat, dog", preview=False
    )
    assert said == [("2 to 5 network calls a drawing, 3.5 on average", "1")]
    assert found.settings["schedule"] == "shortcut, threshold 0.25, jump 40"
    assert found.settings["steps"] is None  # not the sampler's to say
    drawn = pack.run("SK_PenDecoder", latent=found)
    assert [record["network_calls"] for record in drawn.records] == [2.0, 5.0]
    bar = fake_comfyui.ProgressBar.made[-1]
    assert [value for value, *_ in bar.updates[-3:]] == pytest.approx([0, 300, 800], abs=1)
    assert {total for _, total, *_ in bar.updates} == {1000}


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        ((), ""),
        ((18.0, 18.0), "18 network calls a drawing"),
        ((4.0, 6.0), "4 to 6 network calls a drawing, 5.0 on average"),
    ],
)
def test_costs_read_well(pack, calls, text):
    assert sys.modules[f"{pack.name}.nodes.draw"].spent(calls) == text


def test_heun_s_progress_counts_both_calls_of_a_step(pack, loaded):  # noqa: F811
    pack.run("SK_Sampler", model=loaded, steps=3, count=2, sampler="heun", preview=False)
    assert {total for _, total, *_ in fake_comfyui.ProgressBar.made[-1].updates} == {5}
