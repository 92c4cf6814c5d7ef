"""The front end, in both renderers: the example shows its drawings, a model is fetched with a button.

Needs playwright and a Chromium (CHROMIUM, or the usual names on the path). SCREENSHOTS keeps the pictures.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.hub_server import Trouble

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
READY = "!!(window.app?.graph && window.LiteGraph?.registered_node_types?.SK_Preview)"
LOADER = """name => {
    app.graph.clear();
    const node = LiteGraph.createNode("SK_LoadModel");
    app.graph.add(node);
    const saved = { ...node.serialize(), pos: [120, 160], size: [330, 60], widgets_values: [name] };
    node.configure(saved);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 0];
    app.canvas.setDirty(true, true);
}"""
# The model's name in a saved workflow, in a run, and in the list.
NAMES = """async () => {
    const node = app.graph.nodes[0], { output } = await app.graphToPrompt();
    return [node.serialize().widgets_values[0], output[node.id].inputs.model, node.widgets[0].value];
}"""
SHOWN = "document.querySelectorAll('.sk-preview img').length > 0"
LISTEN = """for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
    app.api.addEventListener(kind, ({ detail }) => (window.ended = detail.exception_message ?? kind))"""
NODES2 = (0, 3, 76)
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path (set CHROMIUM)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def page_of(comfyui, chromium, renderer: str):
    """The front end with a renderer chosen, and nothing wrong in it when it is left."""
    if renderer == "nodes2" and tuple(map(int, comfyui.version.split("."))) < NODES2:
        pytest.skip(f"the front end of ComfyUI {comfyui.version} has no Nodes 2.0, only a first attempt")
    page = chromium.new_page(viewport={"width": 1900, "height": 960})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(comfyui.url)
        page.wait_for_function(READY, timeout=60_000)
        page.wait_for_timeout(1000)  # the default workflow is put in after the nodes are known
        if renderer == "nodes2":
            page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
        errors.clear()
        yield page
        assert errors == []
    finally:
        if renderer == "nodes2":
            page.evaluate("app.extensionManager?.setting?.set('Comfy.VueNodes.Enabled', false)")
        page.close()


@pytest.mark.weights
@pytest.mark.parametrize("renderer", ["canvas", "nodes2"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs_in_the_front_end(comfyui, chromium, screenshots, example, renderer):
    with page_of(comfyui, chromium, renderer) as page:
        workflow = json.loads(example.read_text("utf-8"))
        ours = len(workflow["nodes"])
        page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        page.wait_for_timeout(1000)
        assert page.evaluate("app.graph.nodes.filter(node => node.has_errors || !node.type).length") == 0
        assert page.evaluate("app.graph.nodes.length") == ours
        page.evaluate(LISTEN)
        page.evaluate("app.queuePrompt(0)")
        page.wait_for_function("window.ended != null", timeout=120_000)
        assert page.evaluate("window.ended") == "execution_success"
        page.wait_for_function(SHOWN, timeout=5_000)
        page.wait_for_timeout(1000)
        page.evaluate("app.canvas.selectItems?.()")
        page.evaluate("app.canvas.fitViewToSelectionAnimated?.()")
        page.wait_for_timeout(1000)
        page.evaluate("app.canvas.deselectAll?.()")
        page.wait_for_timeout(500)
        shot = screenshots / f"{example.stem}-{comfyui.version}-{renderer}.png"
        page.screenshot(path=shot)
        widths = page.evaluate("[...document.querySelectorAll('.sk-preview img')].map(i => i.naturalWidth)")
        assert widths
        assert min(widths) > 0  # each SVG was understood
        boxes = page.evaluate(
            "[...document.querySelectorAll('.sk-preview img')].map(i => i.getBoundingClientRect().toJSON())"
        )
        picture = Image.open(shot).convert("L")
        for box in boxes:
            drawn = picture.crop(tuple(round(box[side]) for side in ("left", "top", "right", "bottom")))
            histogram = drawn.histogram()
            assert sum(histogram[250:]) > 0.5 * drawn.width * drawn.height  # paper
            assert sum(histogram[:80]) > 10  # ink


def row(page, text: str) -> None:
    """Waits until the row of a loader says something."""
    page.wait_for_function(f"document.querySelector('.sk-weights')?.innerText.includes('{text}')")


@pytest.mark.weights
@pytest.mark.parametrize("renderer", ["canvas", "nodes2"])
def test_a_model_is_fetched_with_the_button(downloading, chromium, screenshots, renderer):
    comfyui, hub, training = downloading.comfyui, downloading.hub, f"button_{renderer}"
    name, file = f"stroke_transformer.{training}", f"{training}.safetensors"
    hub.troubles[file] = Trouble(speed=1 << 16)
    downloading.publish(training)
    with page_of(comfyui, chromium, renderer) as page:

        def shoot(what: str) -> None:
            page.wait_for_timeout(300)
            page.screenshot(
                path=screenshots / f"{what}-{comfyui.version}-{renderer}.png",
                clip={"x": 0, "y": 0, "width": 700, "height": 400},
            )

        page.evaluate(LOADER, name)
        row(page, "not here yet · 8.6 MB · CC-BY-4.0")
        assert page.evaluate("app.graph.nodes[0].size[1] >= app.graph.nodes[0].computeSize()[1]")
        assert page.evaluate(NAMES) == [name, name, f"{name} (download 8.6 MB)"]
        shoot("missing")
        page.click(".sk-weights button:text('Download')")
        row(page, "of 8.6 MB")
        shoot("downloading")
        with page_of(comfyui, chromium, renderer) as another:  # or the same one, reloaded
            another.evaluate(LOADER, name)
            row(another, "of 8.6 MB")
            another.click(".sk-weights button:text('Cancel')")
        row(page, "not here yet")
        hub.troubles[file] = Trouble(status=404)
        page.click(".sk-weights button:text('Download')")
        row(page, "has no such file (404)")
        shoot("failed")
        hub.troubles.clear()
        page.click(".sk-weights button:text('Try again')")
        row(page, "here · 8.6 MB")
        assert page.evaluate(NAMES) == [name, name, name]
        shoot("here")
