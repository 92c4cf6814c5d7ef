"""A scribble inside a real ComfyUI: rectified, on to SVG and to a ControlNet hint, cancelled on its way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sketch_core.svg import read_svg, svg_metadata
from tests.host.test_comfyui import drawing, drawn, place, saved_svgs

EXAMPLE = Path(__file__).parents[2] / "example_workflows" / "rectify_a_scribble.json"
NODES = json.loads(EXAMPLE.read_text("utf-8"))["nodes"]
SCRIBBLE = next(node for node in NODES if node["type"] == "SK_LoadSVG")["widgets_values"][-1]


def scribbled(*, strength: float = 0.5, follow: str = "strokes", **sampler) -> dict:
    """Model, scribble, rectifier, sampler and pen: the sampler is node 3, as in `drawing`."""
    graph = drawing(seed=1, sampler="ddpm") | {
        "7": {
            "class_type": "SK_LoadSVG",
            "inputs": {"file": "none", "class_name": "", "simplify": 0.0, "text": SCRIBBLE},
        },
        "8": {
            "class_type": "SK_Rectifier",
            "inputs": {
                "sketch": ["7", 0],
                "strength": strength,
                "follow": follow,
                "class_name": "(as drawn)",
                "other_class": "",
            },
        },
    }
    graph["3"]["inputs"] |= {"guide": ["8", 0], **sampler}
    return graph


@pytest.mark.weights
def test_a_scribble_becomes_an_svg_and_a_hint(comfyui):
    graph = scribbled(count=2) | saved_svgs("rectified")
    graph["5"]["inputs"]["placement"] = "keep"
    graph["10"] = {
        "class_type": "SK_ToImage",
        "inputs": {"sketch": ["4", 0], "line_width": 0.0, "background": "white", **place()},
    }
    saved = {"images": ["10", 2], "filename_prefix": "rectified_hint"}
    graph["11"] = {"class_type": "SaveImage", "inputs": saved}
    run = comfyui.run(graph)
    assert run.error is None, run.error
    values = [data["value"] for data in run.of("progress") if data["node"] == "3"]
    assert values == sorted(values)
    assert len(run.previews) >= 1
    files = drawn(comfyui, "rectified")
    assert len(files) == 2
    source = read_svg(SCRIBBLE)
    for path in files:
        sketch, record = read_svg(path), svg_metadata(path.read_text("utf-8"))
        assert {"verb": "rectify", "strength": 0.5, "class": "ice cream"}.items() <= record.items()
        assert len(sketch.strokes) == len(source.strokes)
        middle = np.concatenate(sketch.strokes).mean(0) / 2  # 512 pixels for 256 units: it lies where it lay
        assert np.abs(middle - np.concatenate(source.strokes).mean(0)).max() < 8
    hints = sorted((comfyui.base / "output").glob("rectified_hint*.png"))
    assert len(hints) == 2
    hint = np.asarray(Image.open(hints[0]).convert("L"))
    assert hint.shape == (512, 512)
    assert 0.005 < (hint > 128).mean() < 0.2  # white lines on black


@pytest.mark.weights
@pytest.mark.parametrize("follow", ["strokes", "picture"])
def test_cancel_stops_inside_guidance(comfyui, follow):
    graph = scribbled(follow=follow, steps=1000, count=8) | saved_svgs("stopped")
    run = comfyui.run(graph, interrupt_at=2)
    assert run.events[-1][1] == "execution_interrupted"
    progress = [(when, data["value"]) for when, kind, data in run.events if kind == "progress"]
    sent = next(when for when, kind, _ in run.events if kind == "interrupt sent")
    before = [value for when, value in progress if when <= sent]
    after = [value for when, value in progress if when > sent]
    assert max(after, default=before[-1]) - before[-1] <= 2
    assert drawn(comfyui, "stopped") == []
