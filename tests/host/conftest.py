"""One ComfyUI a version for all tests of this folder; see comfyui.py for the environment that names them.

SCREENSHOTS  folder that keeps the screenshots; a temporary one if unset.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.host import pack_copy
from tests.host.comfyui import PACK, ROOT, ComfyUI, hosts, version
from tests.hub_server import FakeHub

EMBEDDED = ROOT / "sketch_core" / "weights" / "stroke_transformer.quickdraw345.safetensors"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.host)
            if item.get_closest_marker("weights") and not EMBEDDED.is_file():
                item.add_marker(pytest.mark.skip(f"the embedded model is not here: {EMBEDDED}"))


def pytest_generate_tests(metafunc):
    for server in {"comfyui", "downloading"} & set(metafunc.fixturenames):
        pairs = hosts()
        if not pairs:
            reason = "COMFYUI_PATH and COMFYUI_PYTHON do not name a ComfyUI checkout and its Python"
            none = pytest.param(None, marks=pytest.mark.skip(reason), id="none")
            metafunc.parametrize(server, [none], indirect=True)
            continue
        ids = [version(path) for path, _ in pairs]
        metafunc.parametrize(server, pairs, indirect=True, scope="session", ids=ids)


@pytest.fixture(scope="session")
def comfyui(request, tmp_path_factory):
    path, python = request.param
    server = ComfyUI(path, python, tmp_path_factory.mktemp(f"comfyui-{version(path)}"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def downloading(request, tmp_path_factory):
    """A server with a copy of the pack that knows models on a Hub on loopback, that Hub, and `publish`.

    Its extra_model_paths.yaml names a `folder` of the user's for sketch models.
    """
    path, python = request.param
    folder = tmp_path_factory.mktemp(f"downloading-{version(path)}")
    pack, mine = pack_copy.copy_pack(folder / "pack" / PACK), folder / "my models"
    mine.mkdir()
    extra = folder / "extra_model_paths.yaml"
    extra.write_text(json.dumps({"mine": {"base_path": str(folder), "sketch_models": mine.name}}))
    options = ("--extra-model-paths-config", str(extra))
    with FakeHub() as hub:
        pack_copy.publish(hub, pack)
        server = ComfyUI(path, python, folder / "base", *options, pack=pack, HF_ENDPOINT=hub.url)
        try:
            server.wait_until_ready()
            yield SimpleNamespace(
                comfyui=server, hub=hub, folder=mine, publish=partial(pack_copy.publish, hub, pack)
            )
        finally:
            server.stop()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
