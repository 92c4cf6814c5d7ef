"""Image to Sketch as ComfyUI runs it: pictures and masks in, drawings and their ink out."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from sketch_core.strokes import Sketch
from tests import fake_comfyui

pytest.importorskip("skimage")

CROSS = Sketch(([[10, 10], [90, 50]], [[90, 10], [10, 50]]), (100, 60))


def image(sketch=CROSS):
    """(1, H, W, 3) as core's Load Image gives it."""
    page = sketch.to_image((100, 60), line_width=3, padding=None)
    return torch.from_numpy(np.asarray(page, np.float32) / 255)[None]


def test_a_batch_of_pictures_becomes_a_batch_of_drawings(pack):
    sketch, ink = pack.run("SK_ImageToSketch", image=torch.cat([image(), image()]), class_name=" cross ")
    assert [len(drawing.strokes) for drawing in sketch] == [2, 2]
    assert [(drawing.canvas, drawing.label) for drawing in sketch] == [((100, 60), "cross")] * 2
    assert sketch.records == [{}, {}]
    assert ink.shape == (2, 60, 100)
    assert ink.dtype == torch.float32
    truth = 1 - image()[..., 0]
    assert (ink[0] - truth[0]).abs().mean() < 0.02
    assert ink.max() == 1


def test_masks_are_traced_whichever_side_is_ink(pack):
    mask = 1 - image()[..., 0]
    for given in (mask, 1 - mask, mask[0], mask[:, None]):
        sketch, ink = pack.run("SK_ImageToSketch", mask=given)
        assert len(sketch) == 1
        assert len(sketch[0].strokes) == 2
        assert ink.shape == (1, 60, 100)


def test_it_runs_under_inference_mode_and_in_half_precision(pack):
    with torch.inference_mode():
        sketch, _ = pack.run("SK_ImageToSketch", image=image().half())
    assert len(sketch[0].strokes) == 2


def test_widgets_reach_the_tracer(pack, monkeypatch):
    seen = []
    tracer = sys.modules.get(f"{pack.name}.sketch_core.trace")
    if tracer is None:
        pack.run("SK_ImageToSketch", image=image())
        tracer = sys.modules[f"{pack.name}.sketch_core.trace"]
    honest = tracer.trace
    monkeypatch.setattr(tracer, "trace", lambda p, **options: seen.append(options) or honest(p, **options))
    pack.run("SK_ImageToSketch", image=image())
    pack.run("SK_ImageToSketch", image=image(), threshold=0.3, polarity="dark", tolerance=2.0, min_length=5.0)
    free = {"tolerance": None, "min_length": None, "bridge": None, "label": None}
    assert seen[0] == {"threshold": None, "polarity": "auto", **free}
    assert seen[1] == free | {"threshold": 0.3, "polarity": "dark", "tolerance": 2.0, "min_length": 5.0}


def test_a_blank_page_keeps_its_place_in_a_batch(pack):
    blank = torch.ones_like(image())
    sketch, ink = pack.run("SK_ImageToSketch", image=torch.cat([blank, image()]))
    assert [len(drawing.strokes) for drawing in sketch] == [0, 2]
    assert ink[0].max() == 0
    assert pack.host.said == ["no lines in 0 of 2"]


def test_where_no_picture_shows_a_line_the_node_says_so(pack):
    with pytest.raises(ValueError, match="no lines to be found"):
        pack.run("SK_ImageToSketch", image=torch.ones_like(image()))


@pytest.mark.parametrize(
    ("given", "message"), [([], "neither image nor mask"), (["image", "mask"], "both image and mask")]
)
def test_one_of_the_two_inputs_is_wanted(pack, given, message):
    both = {"image": image(), "mask": image()[..., 0]}
    with pytest.raises(ValueError, match=message):
        pack.run("SK_ImageToSketch", **{name: both[name] for name in given})


def test_without_scikit_image_the_node_says_how_to_get_it(pack, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match="pip install scikit-image"):
        pack.run("SK_ImageToSketch", image=image())


def test_cancel_is_heard(pack):
    pack.host.cancelled = True
    with pytest.raises(fake_comfyui.Interrupted):
        pack.run("SK_ImageToSketch", image=image())
