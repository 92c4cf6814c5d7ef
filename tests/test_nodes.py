"""The nodes without ComfyUI: schemas, names that never change, and what each body does with its widgets."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sketch_core.data import read_ndjson
from sketch_core.strokes import Sketch, StrokeLatent, to_polylines
from sketch_core.svg import read_svg, svg_metadata
from tests import fake_comfyui

ROOT = Path(__file__).parents[1]

# Saved workflows keep widgets by position: a list here may only grow at its end.
SAMPLING = ["count", "seed", "steps", "guidance", "sampler", "start", "other_class", "preview"]
INPUTS = {
    "SK_LoadModel": ["model"],
    "SK_LoadFromHub": ["repo_id", "filename", "revision", "scale", "class_name"],
    "SK_Schedule": ["schedule"],
    "SK_Shortcut": ["mode", "threshold", "jump"],
    "SK_Sampler": [
        *("model", "schedule", "class_name", "count", "seed", "steps", "guidance", "sampler", "detail"),
        *("start", "classes", "preview", "guide"),
    ],
    "SK_PenDecoder": ["latent", "mode", "threshold", "temperature", "min_stroke", "seed"],
    "SK_ToSVG": [
        *(
            "sketch",
            "width",
            "height",
            "placement",
            "padding",
            "stroke_width",
            "color",
            "background",
            "smooth",
        )
    ],
    "SK_ToImage": ["sketch", "width", "height", "placement", "padding", "line_width", "color", "background"],
    "SK_Preview": ["sketch"],
    "SK_Select": ["sketch", "more", "pick", "repeat"],
    "SK_Save": ["sketch", "filename_prefix"],
    "SK_Load": ["file", "start", "count"],
    "SK_LoadSVG": ["file", "class_name", "simplify", "svg", "text"],
    "SK_ImageToSketch": [
        *("image", "mask", "threshold", "polarity", "tolerance", "min_length", "bridge", "class_name"),
    ],
    "SK_Recognize": ["sketch", "by", "top_k"],
    "SK_PickBest": ["sketch", "keep", "class_name", "by"],
    "SK_Complete": ["model", "sketch", "schedule", "class_name", "share", "detail", *SAMPLING],
    "SK_Heal": [
        *("model", "sketch", "schedule", "class_name", "mask", "placement", "padding", "gap", "strength"),
        *SAMPLING,
    ],
    "SK_Vary": ["model", "sketch", "schedule", "class_name", "amount", *SAMPLING],
    "SK_Rectifier": ["sketch", "strength", "follow", "class_name", "other_class"],
    "SK_Interpolate": [
        *("model", "sketch", "other", "class_name", "count", "steps", "ends", "other_class", "preview"),
    ],
}
OUTPUTS = {
    "SK_LoadModel": ["SK_MODEL"],
    "SK_LoadFromHub": ["SK_MODEL"],
    "SK_Schedule": ["SK_SCHEDULE"],
    "SK_Shortcut": ["SK_SCHEDULE"],
    "SK_Sampler": ["SK_LATENT"],
    "SK_PenDecoder": ["SK_SKETCH"],
    "SK_ToSVG": ["SVG"],
    "SK_ToImage": ["IMAGE", "MASK", "IMAGE"],
    "SK_Preview": ["SK_SKETCH"],
    "SK_Select": ["SK_SKETCH"],
    "SK_Save": ["SK_SKETCH"],
    "SK_Load": ["SK_SKETCH"],
    "SK_LoadSVG": ["SK_SKETCH"],
    "SK_ImageToSketch": ["SK_SKETCH", "MASK"],
    "SK_Recognize": ["STRING", "FLOAT", "STRING"],
    "SK_PickBest": ["SK_SKETCH", "FLOAT"],
    "SK_Complete": ["SK_SKETCH"],
    "SK_Heal": ["SK_SKETCH"],
    "SK_Vary": ["SK_SKETCH"],
    "SK_Rectifier": ["SK_GUIDE"],
    "SK_Interpolate": ["SK_SKETCH"],
}


def square(label="cat", side=100.0):
    return Sketch(
        ([[0, 0], [side, 0], [side, side], [0, side], [0, 0]], [[20, 20], [40, 40]]), (255, 255), label
    )


@pytest.fixture
def sketches(pack):
    return sys.modules[f"{pack.name}.nodes.wires"].Sketches(
        [square("cat"), square("dog", 50), square(None, 200)], [{"seed": 7, "index": i} for i in range(3)]
    )


# --- loading and schemas


def test_outside_comfyui_the_door_opens_on_nothing():
    spec = importlib.util.spec_from_file_location("pack_outside", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not hasattr(module, "comfy_entrypoint")


def test_a_broken_host_is_not_hidden(monkeypatch):
    broken = importlib.util.spec_from_loader("comfy_api", loader=None)
    module = importlib.util.module_from_spec(broken)
    module.__path__ = []  # comfy_api is there, comfy_api.latest is not
    monkeypatch.setitem(sys.modules, "comfy_api", module)
    spec = importlib.util.spec_from_file_location("pack_broken", ROOT / "__init__.py")
    with pytest.raises(ModuleNotFoundError, match="comfy_api.latest"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_module_shows_comfyui_what_it_needs_and_no_more(pack):
    assert pack.module.__all__ == ["WEB_DIRECTORY", "comfy_entrypoint"]
    assert (ROOT / pack.module.WEB_DIRECTORY / "preview_sketch.js").is_file()
    assert not hasattr(pack.module, "NODE_CLASS_MAPPINGS")  # with it ComfyUI would never ask for the V3 nodes


def test_names_and_the_order_of_inputs_stay(pack):
    schemas = {name: node.define_schema() for name, node in pack.nodes.items()}
    assert {name: [i.id for i in schema.inputs] for name, schema in schemas.items()} == INPUTS
    assert {name: [o.kind for o in schema.outputs] for name, schema in schemas.items()} == OUTPUTS


@pytest.mark.parametrize("name", INPUTS)
def test_a_schema_explains_itself(pack, name):
    schema = pack.nodes[name].define_schema()
    assert schema.description.endswith(".")
    assert schema.category.startswith("sketch/")
    for part in [*schema.inputs, *schema.outputs]:
        assert part.tooltip, part
        assert part.tooltip.endswith((".", "?")), part.tooltip
    for widget in schema.inputs:
        if widget.kind in ("INT", "FLOAT"):
            assert widget.min <= widget.default <= widget.max
        if widget.kind == "COMBO" and widget.default is not None:
            assert widget.default in widget.options
    help_text = (ROOT / "web" / "docs" / f"{name}.md").read_text("utf-8")
    assert help_text.startswith(f"# {schema.display_name}\n")
    assert 100 < len(help_text) < 2000


@pytest.mark.parametrize("name", INPUTS)
def test_a_body_takes_what_its_schema_offers(pack, name):
    node = pack.nodes[name]
    taken = set(inspect.signature(node.execute).parameters)
    assert taken == {i.id for i in node.define_schema().inputs}


def test_every_node_has_help_and_no_help_is_left_over():
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == set(INPUTS)


def test_choices_and_defaults_are_the_librarys(pack):
    from sketch_core import knitter

    widgets = {i.id: i for i in pack.nodes["SK_Sampler"].define_schema().inputs}
    assert set(widgets["sampler"].options) == set(knitter.SAMPLERS)
    assert set(pack.nodes["SK_Schedule"].define_schema().inputs[0].options) == set(knitter.SCHEDULES)
    for name in ("steps", "guidance", "sampler"):
        assert widgets[name].default == knitter.DEFAULTS[name]


EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_the_schemas(pack, example):
    ours = [
        node for node in json.loads(example.read_text("utf-8"))["nodes"] if node["type"].startswith("SK_")
    ]
    assert len(ours) > 3
    for node in ours:
        values = iter(node.get("widgets_values", []))
        for widget in pack.nodes[node["type"]].define_schema().inputs:
            if widget.kind.startswith("SK_") or widget.kind in ("SVG", "IMAGE", "MASK"):
                continue
            value = next(values)
            if widget.kind in ("INT", "FLOAT"):
                assert widget.min <= value <= widget.max
            if widget.kind == "COMBO" and len(widget.options) > 1:
                assert value in widget.options or widget.id == "class_name"
            if widget.control_after_generate:
                assert next(values) in ("fixed", "randomize")
        assert list(values) == []
    with Image.open(example.with_suffix(".jpg")) as thumbnail:
        assert min(thumbnail.size) >= 256


# --- model and sampler


class Model:
    """Stands in for SketchModel: three steps, a fixed latent."""

    name = "stand-in"
    network = torch.nn.Linear(2, 2)

    def __init__(self) -> None:
        self.asked = None

    def sample(self, classes, *, on_step, **settings):
        self.asked = {"classes": classes, **settings}
        for index in range(settings["steps"]):
            on_step(SimpleNamespace(index=index, active=torch.arange(2)))
        return latent()


def latent(labels=("cat",)) -> StrokeLatent:
    B, N = len(labels), 6
    points = torch.tensor([[0.0, 0], [1, 0], [0, 1], [2, 0], [0, 1], [-1, 0]]).expand(B, N, 2)
    pen = torch.tensor([[3.0, 0, -9], [3, 0, -9], [0, 3, -9], [3, 0, -9], [3, 0, -9], [-9, -9, 9]]).expand(
        B, N, 3
    )
    return StrokeLatent(points, pen, torch.full((B,), N), 30.0, labels, tuple((7, i) for i in range(B)))


@pytest.fixture
def loaded(pack):
    wires = sys.modules[f"{pack.name}.nodes.wires"]
    return wires.LoadedModel(Model(), SimpleNamespace())


def test_the_sampler_passes_its_widgets_on_and_records_them(pack, loaded):
    result = pack.run(
        "SK_Sampler",
        model=loaded,
        schedule="quadratic",
        class_name="dog",
        steps=3,
        seed=5,
        count=2,
        preview=False,
    )
    asked = loaded.sketch_model.asked
    assert asked["classes"] == ["dog"]
    assert {
        "count": 2,
        "seed": 5,
        "start": 0,
        "steps": 3,
        "schedule": "quadratic",
        "detail": None,
    }.items() <= (asked.items())
    assert result.settings["model"] == "stand-in"
    assert result.settings["schedule"] == "quadratic"
    assert pack.host.loaded == [[loaded.patcher]]


@pytest.mark.parametrize(
    ("widgets", "classes"),
    [
        ({"class_name": "(any)"}, [None]),
        ({"class_name": "cat", "classes": " dog, The Eiffel Tower ,"}, ["dog", "The Eiffel Tower"]),
        ({"class_name": "cat", "classes": "  "}, ["cat"]),
    ],
)
def test_classes_come_from_the_list_or_the_text(pack, loaded, widgets, classes):
    pack.run("SK_Sampler", model=loaded, steps=1, preview=False, **widgets)
    assert loaded.sketch_model.asked["classes"] == classes


def test_progress_counts_the_steps_and_cancel_stops_between_two(pack, loaded):
    pack.run("SK_Sampler", model=loaded, steps=3, count=2, preview=False)
    (bar,) = fake_comfyui.ProgressBar.made
    assert [value for value, *_ in bar.updates] == [0, 1, 2, 3]
    pack.host.cancelled = True
    with pytest.raises(fake_comfyui.Interrupted):
        pack.run("SK_Sampler", model=loaded, steps=3, preview=False)
    assert len(fake_comfyui.ProgressBar.made[-1].updates) == 1


def test_progress_runs_through_batches_that_follow_each_other(pack):
    draw = sys.modules[f"{pack.name}.nodes.draw"]
    done = []
    on_step = draw.follow(lambda value, picture: done.append(value), None, looks=4, total=12, preview=False)
    for size in (8, 4):
        for index in range(4):
            on_step(SimpleNamespace(index=index, active=torch.arange(size)))
    assert done == [0, 1, 2, 2, 3, 3, 3, 4]


def test_previews_are_pictures_and_few(pack, loaded):
    host = sys.modules[f"{pack.name}.nodes.host"]
    drawn = []

    def draw_preview():
        drawn.append(True)
        return Image.new("RGB", (8, 8), "white")

    with host.running(loaded, 1000) as tick:
        for i in range(1000):
            tick(i + 1, draw_preview)
    assert 1 <= len(drawn) < 50
    pictures = [picture for *_, picture in fake_comfyui.ProgressBar.made[-1].updates if picture]
    assert len(pictures) == len(drawn)
    assert pictures[0][0] == "JPEG"


def test_running_out_of_memory_says_what_to_lower(pack, loaded):
    host = sys.modules[f"{pack.name}.nodes.host"]
    with pytest.raises(RuntimeError, match="Lower `count`"):
        with host.running(loaded, 1):
            raise torch.cuda.OutOfMemoryError


def test_the_loader_makes_weights_that_can_take_gradients(pack):
    host = sys.modules[f"{pack.name}.nodes.host"]
    with torch.inference_mode():
        loaded = host.manage(lambda: SimpleNamespace(network=torch.nn.Linear(2, 2)))
    assert not loaded.sketch_model.network.weight.is_inference()
    assert loaded.patcher.model is loaded.sketch_model.network


def test_a_missing_model_is_named_with_its_folder(pack):
    node = pack.nodes["SK_LoadModel"]
    assert node.validate_inputs("default") is True
    message = node.validate_inputs("other.safetensors")
    assert "other.safetensors" in message
    assert str(Path("models", "sketch_models")) in message
    Path(pack.host.base, "models", "sketch_models", "other.safetensors").write_bytes(b"x")
    assert node.validate_inputs("other.safetensors") is True
    assert node.fingerprint_inputs("other.safetensors") == node.fingerprint_inputs("other.safetensors")
    assert "other.safetensors" in node.define_schema().inputs[0].options


# --- pen, svg, image, preview


@pytest.mark.parametrize("mode", ["argmax", "threshold", "temperature"])
def test_the_decoder_makes_sketches_that_know_what_made_them(pack, mode):
    drawn = pack.run("SK_PenDecoder", latent=latent(("cat", "dog")), mode=mode)
    assert [sketch.label for sketch in drawn] == ["cat", "dog"]
    assert [(record["seed"], record["index"], record["class"]) for record in drawn.records] == [
        (7, 0, "cat"),
        (7, 1, "dog"),
    ]
    assert {record["pen"] for record in drawn.records} == {mode}


def test_svg_has_the_size_the_paper_and_the_record(pack, sketches):
    svg = pack.run("SK_ToSVG", sketch=sketches, width=640, height=200, color="#ff0000", background="")
    texts = [item.getvalue().decode() for item in svg.data]
    assert len(texts) == 3
    assert all(
        'width="640" height="200"' in text and "<rect" not in text and "#ff0000" in text for text in texts
    )
    assert [svg_metadata(text)["index"] for text in texts] == [0, 1, 2]
    assert len(read_svg(texts[0]).strokes) == 2


def test_kept_drawings_stay_where_they_are(pack, sketches):
    svg = pack.run("SK_ToSVG", sketch=sketches, width=255, height=255, placement="keep")
    points = np.concatenate(read_svg(svg.data[1].getvalue()).strokes)
    assert points.min(0) == pytest.approx([0, 0], abs=0.01)
    assert points.max(0) == pytest.approx([50, 50], abs=0.01)


def test_images_masks_and_hints(pack, sketches):
    image, mask, hint = pack.run(
        "SK_ToImage", sketch=sketches, width=64, height=40, color="red", line_width=4.0
    )
    assert image.shape == hint.shape == (3, 40, 64, 3)
    assert mask.shape == (3, 40, 64)
    assert image.dtype == mask.dtype == hint.dtype == torch.float32
    assert torch.equal(hint, mask[..., None].expand_as(hint))
    assert (mask.amin(), mask.amax()) == (0, 1)
    inked = mask == 1
    assert torch.equal(image[inked].unique(dim=0), torch.tensor([[1.0, 0, 0]]))
    assert torch.equal(image[mask == 0].unique(), torch.ones(1))


def test_the_preview_is_svg_on_white_and_hands_the_drawings_on(pack, sketches):
    result = pack.nodes["SK_Preview"].execute(sketches)
    assert result.values == (sketches,)
    shown = result.ui["sk_preview"]
    assert [drawing["title"] for drawing in shown] == ["0: cat", "1: dog", "2"]
    assert all('fill="white"' in drawing["svg"] for drawing in shown)
    assert result.ui["sk_total"] == [3]


# --- select


@pytest.mark.parametrize(
    ("pick", "indices"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("0, 2-4, -1", [0, 2, 3, 4, 4]),
        ("3-1", [3, 2, 1]),
        ("1 - 2", [1, 2]),
        ("-5 1", [0, 1]),
        ("2;2", [2, 2]),
    ],
)
def test_picking(pack, pick, indices):
    assert sys.modules[f"{pack.name}.nodes.edit"].indices(pick, 5) == indices


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        ("5", "drawing 5.*0 to 4"),
        ("-6", "drawing -6"),
        ("a", "'a'"),
        ("1-", "'1-'"),
        ("1.5", "'1.5'"),
        ("3-9", "9"),
    ],
)
def test_a_pick_that_is_not_there_is_named(pack, pick, message):
    with pytest.raises(ValueError, match=message):
        sys.modules[f"{pack.name}.nodes.edit"].indices(pick, 5)


def test_picked_drawings_keep_their_records(pack, sketches):
    picked = pack.run("SK_Select", sketch=sketches, more=[square("sun")], pick="3, 1", repeat=2)
    assert [sketch.label for sketch in picked] == ["sun", "sun", "dog", "dog"]
    assert [record.get("index") for record in picked.records] == [None, None, 1, 1]


def test_too_many_are_refused(pack, sketches):
    with pytest.raises(ValueError, match="Lower repeat"):
        pack.run("SK_Select", sketch=sketches, pick=" ".join(["0-2"] * 100), repeat=256)


# --- files


def test_saved_drawings_load_again(pack, sketches):
    for _ in range(2):  # nothing is overwritten
        pack.run("SK_Save", sketch=sketches)
    folder = pack.host.base / "output" / "sketch"
    assert [path.name for path in sorted(folder.iterdir())] == [
        "drawings_00001_.ndjson",
        "drawings_00002_.ndjson",
    ]
    assert pack.host.said == ["3 in drawings_00001_.ndjson", "3 in drawings_00002_.ndjson"]
    options = pack.nodes["SK_Load"].define_schema().inputs[0].options
    assert options == ["sketch/drawings_00001_.ndjson [output]", "sketch/drawings_00002_.ndjson [output]"]
    assert pack.nodes["SK_Load"].validate_inputs(options[0]) is True
    again = pack.run("SK_Load", file=options[0], start=1, count=1)
    (second,) = list(read_ndjson(folder / "drawings_00001_.ndjson"))[1:2]
    assert [(s.label, to_polylines(s)) for s in again] == [(second.label, to_polylines(second))]
    assert again.records == [{}]


def test_the_fingerprint_changes_with_the_file_alone(pack):
    file = pack.host.base / "input" / "a.ndjson"
    file.write_text('{"word": "cat", "drawing": [[[0, 1], [0, 1]]]}\n')
    node = pack.nodes["SK_Load"]
    before = node.fingerprint_inputs("a.ndjson", 0, 0)
    assert node.fingerprint_inputs("a.ndjson", 0, 0) == before
    file.write_text('{"word": "dogs", "drawing": [[[0, 1], [0, 1]]]}\n')
    assert node.fingerprint_inputs("a.ndjson", 0, 0) != before


def test_an_empty_piece_of_a_file_is_said(pack):
    (pack.host.base / "input" / "a.ndjson").write_text('{"word": "cat", "drawing": [[[0, 1], [0, 1]]]}\n')
    with pytest.raises(ValueError, match="a.ndjson holds no drawing from number 5"):
        pack.run("SK_Load", file="a.ndjson", start=5)


@pytest.mark.parametrize("name", ["../secret.ndjson", "/etc/passwd", "sketch/../../secret.ndjson [output]"])
def test_no_path_leads_out(pack, sketches, name):
    (pack.host.base / "secret.ndjson").write_text("{}")
    assert "lies outside of" in pack.nodes["SK_Load"].validate_inputs(name)
    with pytest.raises(ValueError, match="lies outside of"):
        pack.run("SK_Load", file=name)
    with pytest.raises(ValueError, match="lies outside of"):
        pack.run("SK_Save", sketch=sketches, filename_prefix=name.removesuffix(" [output]"))


def test_a_missing_file_is_named(pack):
    assert "'b.ndjson'" in pack.nodes["SK_Load"].validate_inputs("b.ndjson")
