"""The newer samplers and schedules inside a real ComfyUI, keeping the best drawings and naming them."""

from __future__ import annotations

import pytest

from tests.host.test_comfyui import drawing


@pytest.mark.weights
def test_the_best_of_three_is_kept_and_named(comfyui):
    graph = drawing(count=3, steps=3, sampler="dpmpp_2m")
    graph["2"]["inputs"]["schedule"] = "logsnr"
    graph["5"] = {
        "class_type": "SK_PickBest",
        "inputs": {"sketch": ["4", 0], "keep": 2, "class_name": "", "by": "pictures"},
    }
    graph["6"] = {
        "class_type": "SK_Recognize",
        "inputs": {"sketch": ["5", 0], "by": "pictures", "top_k": 2},
    }
    graph["7"] = {"class_type": "PreviewAny", "inputs": {"source": ["6", 2]}}
    graph["8"] = {"class_type": "PreviewAny", "inputs": {"source": ["6", 0]}}  # once for each drawing
    graph["9"] = {"class_type": "PreviewAny", "inputs": {"source": ["5", 1]}}
    run = comfyui.run(graph)
    assert run.error is None, run.error
    (text,) = run.outputs["7"]["text"]
    assert len(text.splitlines()) == 2
    labels, scores = run.outputs["8"]["text"], [float(score) for score in run.outputs["9"]["text"]]
    assert [line.split(",")[0].rsplit(" ", 1)[0] for line in text.splitlines()] == labels
    assert len(scores) == 2
    assert 1 >= scores[0] >= scores[1] >= 0
