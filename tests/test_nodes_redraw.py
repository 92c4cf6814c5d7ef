"""Complete, Heal, Vary and Interpolate Sketch: widgets, masks, batches, records, progress, cancel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sketch_core.knitter import SketchModel
from sketch_core.strokes import Sketch
from tests import fake_comfyui
from tests.test_knitter import METADATA
from tests.tiny import tiny_transformer

FEW = {"steps": 2, "guidance": 1.0, "count": 1, "preview": False}
VERBS = ["SK_Complete", "SK_Heal", "SK_Vary"]


@pytest.fixture
def model(pack):
    """A tiny model as the pack itself loads one: of its own copy of the library."""
    core = pack.part("sketch_core.knitter")
    networks = pack.part("sketch_core.models.stroke_transformer")
    ours = tiny_transformer()
    network = networks.StrokeTransformer(networks.StrokeTransformerConfig(**vars(ours.config)))
    network.load_state_dict(ours.state_dict())
    network.eval().requires_grad_(False)
    return pack.part("nodes.wires").LoadedModel(
        core.SketchModel("tiny", network, METADATA), SimpleNamespace()
    )


@pytest.fixture
def guess(pack, monkeypatch):
    class Recognizer:
        classes = ("cactus",)

        def scores(self, sketches):
            return np.ones((len(sketches), 1), np.float32)

    monkeypatch.setattr(pack.part("sketch_core.naming"), "embedded_recognizers", lambda: (Recognizer(),))
    return Recognizer()


def drawing(pack, label="cat", shift=0.0):
    Sketch = pack.part("sketch_core.strokes").Sketch
    lines = [[10.25, 20], [300, 25.5 + shift], [310, 280]], [[330, 300], [400, 310]]
    return Sketch(tuple(np.array(line) for line in lines), (512, 384), label)


def points_of(sketch) -> set:
    return {tuple(point) for stroke in sketch.strokes for point in stroke.tolist()}


@pytest.mark.parametrize("verb", VERBS)
def test_batches_in_and_out_with_their_records(pack, model, verb):
    batch = [drawing(pack), drawing(pack, "cactus", 30)]
    drawn = pack.run(verb, model=model, sketch=batch, **FEW | {"count": 3, "seed": 7, "start": 4})
    assert [one.label for one in drawn] == ["cat"] * 3 + ["cactus"] * 3
    assert {one.canvas for one in drawn} == {(512, 384)}
    assert [(r["source"], r["index"]) for r in drawn.records] == [(i, k) for i in (0, 1) for k in (4, 5, 6)]
    told = {"verb": verb[3:].lower(), "model": "tiny", "seed": 7, "steps": 2, "class": "cat"}
    assert told.items() <= drawn.records[0].items()
    again = pack.run(verb, model=model, sketch=batch[1:], **FEW | {"seed": 7, "start": 5})
    assert again[0] == drawn[4]


def test_the_result_is_the_library_s_own(pack, model):
    library = SketchModel("tiny", tiny_transformer(), METADATA)
    source = Sketch(drawing(pack).strokes, (512, 384), "cat")
    from sketch_core.redraw import vary

    wanted = vary(library, source, amount=0.4, steps=2, guidance=1.0, sampler="ddim")[0]
    drawn = pack.run("SK_Vary", model=model, sketch=[drawing(pack)], amount=0.4, sampler="ddim", **FEW)[0]
    assert all(np.array_equal(a, b) for a, b in zip(drawn.strokes, wanted.strokes, strict=True))


def test_complete_keeps_the_given_strokes(pack, model):
    source = drawing(pack)
    (drawn,) = pack.run("SK_Complete", model=model, sketch=[source], detail=20, share=0.7, **FEW)
    assert all(np.array_equal(a, b) for a, b in zip(drawn.strokes, source.strokes, strict=False))
    assert drawn.num_points == 21


def test_a_guess_is_shown_on_the_node(pack, model, guess):
    (drawn,) = pack.run("SK_Complete", model=model, sketch=[drawing(pack, None)], **FEW)
    assert drawn.label == "cactus"
    assert pack.host.said == ["taken for: cactus"]
    pack.run("SK_Complete", model=model, sketch=[drawing(pack, None)], class_name="cat", **FEW)
    pack.run("SK_Complete", model=model, sketch=[drawing(pack, "cat")], **FEW)
    assert len(pack.host.said) == 1
    pack.run(
        "SK_Interpolate", model=model, sketch=[drawing(pack, None)], other=[drawing(pack)], count=1, steps=2
    )
    assert len(pack.host.said) == 2


@pytest.mark.parametrize(
    ("widgets", "label"),
    [
        ({"class_name": "(any)"}, None),
        ({"class_name": "cactus"}, "cactus"),
        ({"class_name": "cat", "other_class": " the_eiffel tower "}, "The Eiffel Tower"),
    ],
)
def test_the_class_comes_from_the_list_or_the_text(pack, model, widgets, label):
    (drawn,) = pack.run("SK_Vary", model=model, sketch=[drawing(pack)], **FEW, **widgets)
    assert drawn.label == label


@pytest.mark.parametrize("name", [*VERBS, "SK_Interpolate"])
def test_a_class_that_only_the_model_knows_passes_and_an_empty_one_does_not(pack, name):
    node = pack.nodes[name]
    assert node.validate_inputs("zebra crossing") is True
    assert "class_name is empty" in node.validate_inputs(" ")
    widgets = {i.id: i for i in node.define_schema().inputs}
    assert widgets["class_name"].options[:2] == ["(as drawn)", "(any)"]


def test_heal_under_a_mask(pack, model):
    source = drawing(pack)
    mask = torch.zeros(1, 384, 512)
    mask[0, :100, 100:200] = 1
    drawn = pack.run("SK_Heal", model=model, sketch=[source, source], mask=mask, placement="keep", **FEW)
    for one in drawn:
        assert points_of(source) <= points_of(one)
        assert one.num_points > source.num_points
    with pytest.raises(ValueError, match="got 3 masks for 2, wanted one, or as many"):
        pack.run("SK_Heal", model=model, sketch=[source, source], mask=torch.zeros(3, 8, 8), **FEW)


def test_the_mask_lies_where_sketch_to_image_draws(pack, model):
    """All ink of the drawing's own image, painted over: nothing of it is left."""
    source = drawing(pack)
    _, ink, _ = pack.run("SK_ToImage", sketch=[source], width=200, height=300, padding=0.2, line_width=4.0)
    with pytest.raises(ValueError, match="all points of the sketch are lost"):
        pack.run("SK_Heal", model=model, sketch=[source], mask=ink.ceil(), padding=0.2, **FEW)


def test_heal_closes_a_gap_and_says_when_there_is_none(pack, model):
    source = drawing(pack)  # 28 units apart, 7 % of its width
    (drawn,) = pack.run("SK_Heal", model=model, sketch=[source], gap=0.1, **FEW)
    assert points_of(source) < points_of(drawn)
    same = pack.run("SK_Heal", model=model, sketch=[source], gap=0.01, **FEW | {"count": 2})
    assert list(same) == [source, source]
    assert pack.host.said == ["nothing to heal in a gap"]
    (moved,) = pack.run("SK_Heal", model=model, sketch=[source], gap=0.0, strength=0.3, **FEW)
    assert len(moved.strokes) == 2
    assert moved != source


def test_heal_refuses_too_many_strokes_before_it_looks_for_gaps(pack, model, monkeypatch):
    monkeypatch.setattr(pack.part("sketch_core.lost"), "gaps", None)  # is not reached
    line = drawing(pack).strokes[1]
    many = pack.part("sketch_core.strokes").Sketch((line,) * 250, (512, 384), "cat")
    with pytest.raises(ValueError, match="has 250 strokes, but there is room for"):
        pack.run("SK_Heal", model=model, sketch=[many], gap=0.1, **FEW)


def test_interpolate_pairs_batches(pack, model):
    a, b, c = drawing(pack), drawing(pack, "cactus", 30), drawing(pack, "cat", 60)
    made = pack.run("SK_Interpolate", model=model, sketch=[a], other=[b, c], count=2, steps=2, preview=False)
    assert len(made) == 8
    assert made[0] == made[4] == a
    assert (made[3], made[7]) == (b, c)
    assert [record.get("index") for record in made.records] == [None, 0, 1, None] * 2
    inner = pack.run("SK_Interpolate", model=model, sketch=[a], other=[b, c], count=2, steps=2, ends=False)
    assert list(inner) == [made[i] for i in (1, 2, 5, 6)]
    assert inner[0].strokes[0].tolist() != inner[2].strokes[0].tolist()  # another end, another way
    with pytest.raises(ValueError, match="got 2 drawings for 3"):
        pack.run("SK_Interpolate", model=model, sketch=[a, b], other=[a, b, c], count=1, steps=2)


@pytest.mark.parametrize("verb", [*VERBS, "SK_Interpolate"])
def test_progress_preview_and_cancel(pack, model, verb):
    inputs = {"model": model, "sketch": [drawing(pack)], "steps": 2}
    inputs |= {"other": [drawing(pack, "cat", 60)]} if verb == "SK_Interpolate" else {"guidance": 1.0}
    inputs |= {"amount": 1.0} if verb == "SK_Vary" else {}
    pack.run(verb, **inputs)
    (bar,) = fake_comfyui.ProgressBar.made
    values = [value for value, *_ in bar.updates]
    assert values == sorted(values)
    assert any(picture for *_, picture in bar.updates)
    pack.host.cancelled = True
    with pytest.raises(fake_comfyui.Interrupted):
        pack.run(verb, **inputs)


def likelier_a_cactus(pack, monkeypatch) -> None:
    """Of the model's three classes the recognizer knows two."""

    class Recognizer:
        classes = ("cactus", "cat")

        def scores(self, sketches):
            return np.tile(np.float32([0.6, 0.4]), (len(sketches), 1))

    monkeypatch.setattr(pack.part("sketch_core.naming"), "embedded_recognizers", lambda: (Recognizer(),))


def test_progress_is_of_the_drawings_by_which_others_are_named_too(pack, model, monkeypatch):
    likelier_a_cactus(pack, monkeypatch)
    options = {"model": model, "steps": 4, "guidance": 1.0, "count": 1, "preview": False}
    for label, total in (("cat", 1), (None, 1 + 2)):  # mended as both classes that may be meant
        pack.run("SK_Complete", sketch=[drawing(pack, label)], **options)
        values = [value for value, *_ in fake_comfyui.ProgressBar.made.pop().updates]
        assert values == sorted(values)
        assert values[-1] == int(1000 * (total - 1 / 4) / total)  # where the last step begins


def test_too_many_are_refused(pack, model):
    with pytest.raises(ValueError, match="20 drawings, 256 of each, are more than 4096"):
        pack.run("SK_Vary", model=model, sketch=[drawing(pack)] * 20, **FEW | {"count": 256})
    batch = [drawing(pack)] * 20
    with pytest.raises(ValueError, match="20 pairs of drawings, 256 between each, are more than 4096"):
        pack.run("SK_Interpolate", model=model, sketch=batch, other=batch, count=256, steps=2)


def test_choices_and_defaults_are_the_library_s(pack):
    from sketch_core import inbetween, knitter

    for name in VERBS:
        widgets = {i.id: i for i in pack.nodes[name].define_schema().inputs}
        assert set(widgets["sampler"].options) == set(knitter.SAMPLERS)
        for widget in ("steps", "guidance", "sampler"):
            assert widgets[widget].default == knitter.DEFAULTS[widget]
    widgets = {i.id: i for i in pack.nodes["SK_Interpolate"].define_schema().inputs}
    assert widgets["steps"].default == inbetween.STEPS
    assert widgets["steps"].min == 2
