"""The example workflow in a real front end: loads, runs, and shows its drawings on white in both renderers.

Needs playwright and a Chromium (CHROMIUM, or the usual names on the path). SCREENSHOTS keeps the pictures.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
READY = "!!(window.app?.graph && window.LiteGraph?.registered_node_types?.SK_Preview)"
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


@pytest.mark.weights
@pytest.mark.parametrize("renderer", ["canvas", "nodes2"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs_in_the_front_end(comfyui, chromium, screenshots, example, renderer):
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
        workflow = json.loads(example.read_text("utf-8"))
        ours = len(workflow["nodes"])
        errors.clear()
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
        assert errors == []
    finally:
        if renderer == "nodes2":
            page.evaluate("app.extensionManager?.setting?.set('Comfy.VueNodes.Enabled', false)")
        page.close()
