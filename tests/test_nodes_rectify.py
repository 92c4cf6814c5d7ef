"""Guided Rectifier and the sampler that follows it: widgets, batches, records, progress, cancel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sketch_core.knitter import SketchModel
from sketch_core.rectifier import rectify
from sketch_core.strokes import Sketch
from tests import fake_comfyui
from tests.test_knitter import METADATA
from tests.test_nodes_redraw import drawing, guess, likelier_a_cactus, model  # noqa: F401 (fixtures)
from tests.tiny import tiny_transformer

FEW = {"steps": 2, "guidance": 1.0, "count": 1, "preview": False}
ROUGH = [np.random.default_rng(0).uniform(10, 380, (9, 2)), [[20, 20], [400, 310.5]]]


@pytest.fixture(autouse=True)
def recognizers(pack, monkeypatch, guess):  # noqa: F811
    rectifier = pack.part("sketch_core.rectifier")
    rectifier._embedded_eye()  # of the real one
    monkeypatch.setattr(rectifier, "_embedded_recognizer", lambda: guess)


def rough(pack, label="cat"):
    return pack.part("sketch_core.strokes").Sketch(ROUGH, (512, 384), label)


def followed(pack, model, sketches, *, widgets=None, **sampler):  # noqa: F811
    guide = pack.run("SK_Rectifier", sketch=sketches, **widgets or {})
    latent = pack.run("SK_Sampler", model=model, guide=guide, **FEW | sampler)
    return pack.run("SK_PenDecoder", latent=latent)


def test_the_drawing_is_the_library_s_own_on_the_user_s_canvas(pack, model):  # noqa: F811
    library = SketchModel("tiny", tiny_transformer(), METADATA)
    drawn = followed(pack, model, [drawing(pack), rough(pack)], count=2, seed=7, sampler="heun")
    sources = [Sketch(drawing(pack).strokes, (512, 384), "cat"), Sketch(ROUGH, (512, 384), "cat")]
    wanted = rectify(library, sources, count=2, seed=7, steps=2, guidance=1.0, sampler="heun")
    for ours, theirs in zip(drawn, wanted, strict=True):
        assert (ours.canvas, ours.label) == ((512, 384), "cat")
        assert all(np.array_equal(a, b) for a, b in zip(ours.strokes, theirs.strokes, strict=True))
    told = {"verb": "rectify", "strength": 0.5, "follow": "strokes", "seed": 7, "steps": 2, "class": "cat"}
    assert told.items() <= drawn.records[1].items()
    assert [record["index"] for record in drawn.records] == [0, 1, 0, 1]


def test_strength_0_is_the_drawing_itself_and_calls_nothing(pack, model):  # noqa: F811
    drawn = followed(pack, model, [drawing(pack)], widgets={"strength": 0.0})
    for ours, theirs in zip(drawn[0].strokes, drawing(pack).strokes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert drawn.records[0]["network_calls"] == 0


def test_a_guess_is_shown_and_a_class_that_is_known_is_not(pack, model):  # noqa: F811
    for source in (drawing(pack, None), rough(pack, None)):
        (drawn,) = followed(pack, model, [source])
        assert drawn.label == "cactus"
        assert pack.host.said.pop() == "taken for: cactus\n2 network calls a drawing"
    for widgets, label in [
        ({"class_name": "(any)"}, None),
        ({"class_name": "cat"}, "cat"),
        ({"class_name": "cat", "other_class": " the_eiffel tower "}, "The Eiffel Tower"),
    ]:
        (drawn,) = followed(pack, model, [rough(pack, None)], widgets=widgets)
        assert drawn.label == label
        assert pack.host.said.pop() == "2 network calls a drawing"
    (drawn,) = followed(pack, model, [rough(pack)])
    assert pack.host.said.pop() == "2 network calls a drawing"


def test_a_picture_is_followed_with_as_many_points_as_asked(pack, model):  # noqa: F811
    drawn = followed(pack, model, [rough(pack)] * 2, widgets={"follow": "picture"}, detail=12)
    assert [one.num_points for one in drawn] == [13, 13]
    assert {one.canvas for one in drawn} == {(512, 384)}


@pytest.mark.parametrize("follow", ["strokes", "picture"])
def test_progress_and_cancel_and_inference_mode(pack, model, follow):  # noqa: F811
    with torch.inference_mode():  # as the host runs nodes
        followed(pack, model, [rough(pack, None)], widgets={"follow": follow}, count=2, preview=True)
        (bar,) = fake_comfyui.ProgressBar.made
        values = [value for value, *_ in bar.updates]
        assert values == sorted(values)
        assert 300 < values[-1] <= 1000
        assert any(picture for *_, picture in bar.updates)
        pack.host.cancelled = True
        with pytest.raises(fake_comfyui.Interrupted):
            followed(pack, model, [rough(pack, None)], widgets={"follow": follow})


def test_progress_is_of_the_drawings_by_which_others_are_named_too(pack, model, monkeypatch):  # noqa: F811
    likelier_a_cactus(pack, monkeypatch)
    for label, total in (("cat", 1), (None, 1 + 2)):  # mended as both classes that may be meant
        followed(pack, model, [rough(pack, label)], steps=4)
        values = [value for value, *_ in fake_comfyui.ProgressBar.made.pop().updates]
        assert values == sorted(values)
        assert values[-1] == int(1000 * (total - 1 / 4) / total)  # where the last step begins


def test_what_is_refused(pack, model):  # noqa: F811
    node = pack.nodes["SK_Rectifier"]
    assert node.validate_inputs("zebra crossing") is True
    assert "class_name is empty" in node.validate_inputs(" ")
    with pytest.raises(ValueError, match="the sketch is empty, wanted at least one stroke"):
        pack.run("SK_Rectifier", sketch=[pack.part("sketch_core.strokes").Sketch(())])
    with pytest.raises(ValueError, match="20 drawings, 256 of each, are more than 4096"):
        followed(pack, model, [rough(pack)] * 20, count=256)
    with pytest.raises(ValueError, match="unknown class 'caat'. Near: cat"):
        followed(pack, model, [rough(pack)], widgets={"other_class": "caat"})
