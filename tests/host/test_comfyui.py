"""The nodes inside a real ComfyUI: registration, a run, progress, cancel, memory, files."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from sketch_core.data import read_ndjson
from sketch_core.svg import read_svg, svg_metadata

ROOT = Path(__file__).parents[2]
PACK = "ComfyUI-SketchKnitter"
IDS = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}


def drawing(*, seed=0, count=2, steps=8, **sampler) -> dict:
    """Nodes 1 to 4: model, schedule, sampler, pen."""
    widgets = {"class_name": "cat", "guidance": 3.0, "sampler": "ddim", "detail": 0, "start": 0} | sampler
    return {
        "1": {"class_type": "SK_LoadModel", "inputs": {"model": "default"}},
        "2": {"class_type": "SK_Schedule", "inputs": {"schedule": "uniform"}},
        "3": {
            "class_type": "SK_Sampler",
            "inputs": {
                "model": ["1", 0],
                "schedule": ["2", 0],
                "count": count,
                "seed": seed,
                "steps": steps,
                **widgets,
            },
        },
        "4": {
            "class_type": "SK_PenDecoder",
            "inputs": {
                "latent": ["3", 0],
                "mode": "argmax",
                "threshold": 0.5,
                "temperature": 1.0,
                "min_stroke": 0.0,
                "seed": 0,
            },
        },
    }


def place(**more) -> dict:
    return {"width": 512, "height": 512, "placement": "fit", "padding": 0.05, "color": "black"} | more


def saved_svgs(prefix: str, source: str = "4") -> dict:
    """Nodes 5 and 6: Sketch to SVG and core's own saver."""
    return {
        "5": {
            "class_type": "SK_ToSVG",
            "inputs": {
                "sketch": [source, 0],
                "stroke_width": 0.0,
                "background": "white",
                "smooth": False,
                **place(),
            },
        },
        "6": {"class_type": "SaveSVGNode", "inputs": {"svg": ["5", 0], "filename_prefix": prefix}},
    }


def probe(nonce: int, **inputs) -> dict:
    return {"9": {"class_type": "Probe", "inputs": {"nonce": nonce, **inputs}}}


def seen(run) -> dict:
    assert run.error is None, run.error
    return json.loads(run.outputs["9"]["probe"][0])


def drawn(comfyui, prefix: str) -> list[Path]:
    return sorted((comfyui.base / "output").glob(f"{prefix}*.svg"))


def bare(svg: str) -> str:
    """Without the workflow that SaveSVGNode adds."""
    return re.sub(r"<metadata>\s*<!\[CDATA\[.*?]]>\s*</metadata>", "", svg, flags=re.DOTALL)


def test_every_node_is_registered_with_its_help(comfyui):
    _, info = comfyui.get("/object_info")
    ours = {name: node for name, node in info.items() if name.startswith("SK_")}
    assert set(ours) == IDS
    for name, node in ours.items():
        assert node["description"], name
        assert node["category"].startswith("sketch/"), name
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        assert [key for key, spec in inputs.items() if not spec[1].get("tooltip")] == [], name
        assert None not in node["output_tooltips"], name
        status, body = comfyui.get(f"/extensions/{PACK}/docs/{name}.md")
        assert (status, body) == (200, (ROOT / "web" / "docs" / f"{name}.md").read_bytes())


def test_the_front_end_gets_one_copy_of_the_extension(comfyui):
    _, scripts = comfyui.get("/extensions")
    assert [path for path in scripts if path.endswith("preview_sketch.js")] == [
        f"/extensions/{PACK}/preview_sketch.js"
    ]


def test_the_example_is_offered_as_a_template(comfyui):
    _, templates = comfyui.get("/workflow_templates")
    names = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))
    assert sorted(templates[PACK]) == names != []
    for name in names:
        assert comfyui.get(f"/api/workflow_templates/{PACK}/{name}.json")[0] == 200
        assert comfyui.get(f"/api/workflow_templates/{PACK}/{name}.jpg")[0] == 200


def test_the_pack_loads_fast_and_without_complaint(comfyui):
    assert (
        comfyui.import_seconds() < 1
    )  # one start on a busy machine; import_times.py takes the median of five
    lines = [line for line in comfyui.log.splitlines() if "sketch" in line.lower()]
    assert not [line for line in lines if "fail" in line.lower() or "error" in line.lower()]


def test_nodes_is_still_the_hosts(comfyui):
    where = Path(seen(comfyui.run(probe(1)))["nodes"])
    assert where.name == "nodes.py"
    assert ROOT not in where.parents


@pytest.mark.weights
def test_the_same_seed_draws_the_same_svg(comfyui):
    for prefix in ("first", "second"):
        run = comfyui.run(drawing(seed=7) | saved_svgs(prefix))
        assert run.error is None, run.error
        comfyui.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(1.5)  # the flags are read between prompts
    first, second = (
        [bare(path.read_text("utf-8")) for path in drawn(comfyui, p)] for p in ("first", "second")
    )
    assert len(first) == 2
    assert first == second
    other = comfyui.run(drawing(seed=8) | saved_svgs("other"))
    assert other.error is None
    assert bare(drawn(comfyui, "other")[0].read_text("utf-8")) != first[0]


@pytest.mark.weights
def test_an_svg_knows_how_it_was_made(comfyui):
    assert comfyui.run(drawing(seed=2**64 - 1, count=1, steps=4) | saved_svgs("record")).error is None
    text = drawn(comfyui, "record")[0].read_text("utf-8")
    known = svg_metadata(text)
    expected = {
        "class": "cat",
        "seed": 2**64 - 1,
        "index": 0,
        "steps": 4,
        "sampler": "ddim",
        "schedule": "uniform",
    }
    assert expected.items() <= known.items()
    assert known["guidance"] == 3.0
    assert known["model"]
    assert read_svg(text).canvas == (512, 512)


@pytest.mark.weights
def test_progress_and_previews_come_step_by_step(comfyui):
    run = comfyui.run(drawing(seed=9, count=4, steps=12) | saved_svgs("progress"))
    assert run.error is None, run.error
    values = [data["value"] for data in run.of("progress") if data["node"] == "3"]
    assert values == sorted(values)
    assert values[-1] == run.of("progress")[-1]["max"]
    assert len(run.previews) >= 1
    preview = Image.open(io.BytesIO(run.previews[-1])).convert("L")
    assert preview.getextrema()[1] > 240
    assert preview.histogram()[255] > 0.3 * preview.width * preview.height  # on white


@pytest.mark.weights
def test_cancel_stops_within_a_step(comfyui):
    run = comfyui.run(
        drawing(seed=10, count=8, steps=1000, sampler="ddpm") | saved_svgs("cancel"), interrupt_at=5
    )
    assert run.events[-1][1] == "execution_interrupted"
    progress = [(when, data["value"]) for when, kind, data in run.events if kind == "progress"]
    sent = next(when for when, kind, _ in run.events if kind == "interrupt sent")
    before = [value for when, value in progress if when <= sent]
    after = [value for when, value in progress if when > sent]
    assert max(after, default=before[-1]) - before[-1] <= 2  # one under way, one that was in the socket
    assert drawn(comfyui, "cancel") == []


@pytest.mark.weights
def test_free_unloads_the_model(comfyui):
    graph = drawing(seed=11, count=1, steps=2) | saved_svgs("free")
    assert comfyui.run(graph).error is None
    assert {"1", "3", "4"} <= comfyui.run(graph).cached
    assert seen(comfyui.run(drawing(seed=11, count=1, steps=2) | probe(2, model=["1", 0])))["managed"]
    comfyui.post("/free", {"unload_models": True, "free_memory": True})
    deadline = time.monotonic() + 10
    while (
        loaded := seen(comfyui.run(probe(time.monotonic_ns() % 2**31)))["loaded"]
    ) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert loaded == 0
    assert comfyui.run(graph).cached == set()


@pytest.mark.weights
def test_gradients_pass_the_weights_after_a_run(comfyui):
    assert comfyui.run(drawing(seed=12, count=1, steps=2) | saved_svgs("gradients")).error is None
    assert seen(comfyui.run(drawing(seed=12, count=1, steps=2) | probe(3, model=["1", 0])))["gradients"]


@pytest.mark.weights
def test_images_have_the_size_asked_for(comfyui):
    graph = drawing(count=1, steps=4) | {
        "5": {
            "class_type": "SK_ToImage",
            "inputs": {
                "sketch": ["4", 0],
                "line_width": 3.0,
                "background": "white",
                **place(width=333, height=200),
            },
        },
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "image"}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["5", 2], "filename_prefix": "hint"}},
        "8": {"class_type": "MaskToImage", "inputs": {"mask": ["5", 1]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "mask"}},
    }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    assert run.node_errors == {}
    image, hint, mask = (
        Image.open(next((comfyui.base / "output").glob(f"{name}_*.png")))
        for name in ("image", "hint", "mask")
    )
    assert image.size == hint.size == mask.size == (333, 200)
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert hint.getpixel((0, 0)) == (0, 0, 0)
    assert hint.tobytes() == mask.tobytes()
    assert image.convert("L").getextrema() == (0, 255) == hint.convert("L").getextrema()


@pytest.mark.weights
def test_drawings_are_saved_picked_and_loaded_again(comfyui):
    save = {
        "7": {"class_type": "SK_Select", "inputs": {"sketch": ["4", 0], "pick": "2, 0-1", "repeat": 1}},
        "8": {"class_type": "SK_Save", "inputs": {"sketch": ["7", 0], "filename_prefix": "sketch/cats"}},
    }
    run = comfyui.run(drawing(seed=13, count=3, steps=4) | save)
    assert run.error is None, run.error
    (file,) = (comfyui.base / "output" / "sketch").glob("cats*.ndjson")
    kept = list(read_ndjson(file))
    assert [sketch.label for sketch in kept] == ["cat"] * 3
    name = f"sketch/{file.name} [output]"
    _, info = comfyui.get("/object_info/SK_Load")
    assert name in str(info["SK_Load"]["input"]["required"]["file"])
    load = {
        "1": {"class_type": "SK_Load", "inputs": {"file": name, "start": 1, "count": 1}},
        "2": {"class_type": "SK_Save", "inputs": {"sketch": ["1", 0], "filename_prefix": "sketch/again"}},
    }
    assert comfyui.run(load).error is None
    (again,) = (comfyui.base / "output" / "sketch").glob("again*.ndjson")
    assert list(read_ndjson(again)) == kept[1:2]


@pytest.mark.parametrize("file", ["../../secret.ndjson", "/etc/passwd", "../../secret.ndjson [output]"])
def test_nothing_outside_the_users_folders_is_read(comfyui, file):
    (comfyui.base.parent / "secret.ndjson").write_text('{"word": "cat", "drawing": [[[0, 1], [0, 1]]]}\n')
    run = comfyui.run(
        {
            "1": {"class_type": "SK_Load", "inputs": {"file": file, "start": 0, "count": 0}},
            "2": {"class_type": "SK_Preview", "inputs": {"sketch": ["1", 0]}},
        }
    )
    assert "lies outside of" in run.error


def test_nothing_outside_the_output_folder_is_written(comfyui):
    (comfyui.base / "input" / "one.ndjson").write_text('{"word": "cat", "drawing": [[[0, 1], [0, 1]]]}\n')
    run = comfyui.run(
        {
            "1": {"class_type": "SK_Load", "inputs": {"file": "one.ndjson", "start": 0, "count": 0}},
            "2": {"class_type": "SK_Save", "inputs": {"sketch": ["1", 0], "filename_prefix": "../escaped"}},
        }
    )
    assert "lies outside of" in run.error
    assert not list(comfyui.base.rglob("escaped*"))


@pytest.mark.weights
def test_a_class_the_model_does_not_know_is_named(comfyui):
    run = comfyui.run(drawing(classes="catt") | saved_svgs("never"))
    assert "unknown class 'catt'" in run.error
    assert "cat" in run.error.split("Near")[1]


def test_a_model_that_is_not_there_is_named(comfyui):
    graph = drawing() | saved_svgs("never")
    graph["1"]["inputs"]["model"] = "missing.safetensors"
    assert "missing.safetensors" in comfyui.run(graph).error
