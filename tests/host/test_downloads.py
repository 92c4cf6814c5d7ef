"""Downloads inside a real ComfyUI, from a Hub on loopback: by node and by route, shared, cancelled, refused.

Figures are logged: pytest -o log_cli=true -o log_cli_level=INFO
"""

from __future__ import annotations

import json
import logging
import re
import statistics
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.host.pack_copy import REPOSITORY, ROOT, SOON
from tests.hub_server import Trouble

pytestmark = pytest.mark.weights
log = logging.getLogger(__name__)

ROUTE = "/sketchknitter/weights"
EVENT = "sketchknitter.download"
MIB = 1 << 20
FETCHED = "sketch_core/weights/stroke_transformer.quickdraw345.safetensors"  # under other names
SIZE = (ROOT / FETCHED).stat().st_size
CANCEL_SECONDS = 2.0
ANSWER_SECONDS = 0.1  # median of /system_stats while a download runs


def load(name: str, nonce: int = 0) -> dict:
    """A graph that loads a model and lets the probe look at it."""
    return {
        "1": {"class_type": "SK_LoadModel", "inputs": {"model": name}},
        "9": {"class_type": "Probe", "inputs": {"model": ["1", 0], "nonce": nonce}},
    }


def from_hub(**inputs) -> dict:
    widgets = {"repo_id": REPOSITORY, "filename": "x.safetensors", "revision": ""} | inputs
    return load("default") | {"1": {"class_type": "SK_LoadFromHub", "inputs": widgets}}


def entry(comfyui, name: str) -> dict:
    status, answer = comfyui.get(ROUTE)
    assert status == 200
    return next(entry for entry in answer["weights"] if entry["name"] == name)


def until(happened, seconds: float = 60.0) -> float:
    """Waits for a condition; how many seconds it took."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def file_of(downloading, name: str) -> Path:
    """In the first folder for sketch models: the one of the user's own."""
    return downloading.folder / f"{name}.safetensors"


def leftovers(downloading) -> list[Path]:
    return list(downloading.folder.rglob(".incomplete/*"))


@contextmanager
def model(downloading, training: str, **trouble):
    """The name of a model to download, whose file comes with `trouble`."""
    downloading.hub.troubles[f"{training}.safetensors"] = Trouble(**trouble)
    downloading.publish(training)
    yield f"stroke_transformer.{training}"


@contextmanager
def answering(comfyui):
    """Asks for /system_stats all the while; yields the seconds that each answer took."""
    taken, over = [], threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.perf_counter()
            with urllib.request.urlopen(f"{comfyui.url}/system_stats", timeout=30) as reply:
                reply.read()
            taken.append(time.perf_counter() - began)
            over.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


@contextmanager
def cut_off(hub, monkeypatch):
    """Nobody listens where the Hub was, for a while, and connections that are open go dead."""
    for server in hub.servers:
        server.shutdown()
        server.server_close()
    Hub = hub.servers[0].RequestHandlerClass
    with monkeypatch.context() as patch:
        patch.setattr(Hub, "do_GET", lambda handler: setattr(handler, "close_connection", True))
        yield
    for i, gone in enumerate(hub.servers):
        hub.servers[i] = server = ThreadingHTTPServer(gone.server_address, gone.RequestHandlerClass)
        server.daemon_threads, server.hub = True, hub
        threading.Thread(target=server.serve_forever, daemon=True).start()


def check_answers(comfyui, taken: list[float], during: str) -> None:
    median = statistics.median(taken)
    worst = max(taken)
    log.info(
        "ComfyUI %s, %s: /system_stats %.0f ms in the median of %d, %.0f ms at most",
        *(comfyui.version, during, 1000 * median, len(taken), 1000 * worst),
    )
    assert len(taken) > 10
    assert median < ANSWER_SECONDS


def test_models_that_are_not_here_are_listed_and_marked(downloading):
    with model(downloading, "listed") as name:
        _, info = downloading.comfyui.get("/object_info/SK_LoadModel")
        options = info["SK_LoadModel"]["input"]["required"]["model"]
        options = options[0] if isinstance(options[0], list) else options[1]["options"]
        assert options[0] == "default"
        assert f"{name} (download 8.6 MB)" in options
        assert not any(SOON in option for option in options)
        state = entry(downloading.comfyui, name)
        assert (state["state"], state["bytes"], state["download"]) == ("missing", SIZE, None)
        assert entry(downloading.comfyui, SOON)["state"] == "unpublished"
        assert downloading.comfyui.get(f"/api{ROUTE}")[0] == 200


def test_the_node_downloads_with_progress_and_the_server_answers(downloading):
    comfyui, hub = downloading.comfyui, downloading.hub
    with model(downloading, "by_node", speed=4 * MIB) as name, answering(comfyui) as taken:
        run = comfyui.run(load(f"{name} (download 8.6 MB)"))
        assert run.error is None, run.error
    check_answers(comfyui, taken, "a node downloads")
    done = [data["value"] for data in run.of("progress") if data["node"] == "1"]
    assert done == sorted(done)
    assert len(done) > 3
    reports = run.of(EVENT)
    assert reports[-1]["state"] == "done"
    assert {report["name"] for report in reports} == {name}
    assert json.loads(run.outputs["9"]["probe"][0])["gradients"]
    assert file_of(downloading, name).stat().st_size == SIZE
    assert leftovers(downloading) == []
    asked = len(hub.asked)
    again = comfyui.run(load(name, nonce=1))  # the choice without its mark, from disk
    assert again.error is None, again.error
    assert len(hub.asked) == asked


def test_the_route_downloads_and_the_server_answers(downloading):
    comfyui = downloading.comfyui
    with model(downloading, "by_route", speed=4 * MIB) as name, answering(comfyui) as taken:
        assert comfyui.post(f"{ROUTE}/download", {"name": name})[0] == 200
        until(lambda: (entry(comfyui, name)["download"] or {}).get("done", 0) > MIB)
        assert entry(comfyui, name)["download"]["total"] == SIZE  # what a reloaded page finds
        until(lambda: entry(comfyui, name)["state"] == "here")
    check_answers(comfyui, taken, "a route downloads")
    _, info = comfyui.get("/object_info/SK_LoadModel")
    assert f'"{name}"' in json.dumps(info)


def test_two_graphs_and_the_button_share_one_transfer(downloading):
    comfyui, hub = downloading.comfyui, downloading.hub
    before = hub.transfers()
    with model(downloading, "shared", speed=3 * MIB) as name, ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(comfyui.run, load(name, nonce)) for nonce in (1, 2)]
        comfyui.post(f"{ROUTE}/download", {"name": name})
        assert [run.result().error for run in runs] == [None, None]
    assert hub.transfers() - before == 1


@pytest.mark.parametrize("kind", ["slow", "silent"])
def test_cancelling_the_run_ends_the_download(downloading, kind):
    comfyui = downloading.comfyui
    trouble = {"slow": {"speed": MIB // 2}, "silent": {"stall_after": MIB}}[kind]
    with model(downloading, f"interrupted_{kind}", **trouble) as name:
        for _ in range(3):  # a machine that is busy with other things may be late, but not always
            run = comfyui.run(load(name), interrupt_at=100_000)
            sent = next(when for when, event, _ in run.events if event == "interrupt sent")
            ended, last, _ = run.events[-1]
            assert last == "execution_interrupted"
            left = until(lambda: entry(comfyui, name)["download"] is None)
            log.info(
                "ComfyUI %s, %s server: %.2f s after /interrupt the run ended, and %.2f s later the download",
                *(comfyui.version, kind, ended - sent, left),
            )
            assert leftovers(downloading) == []
            if ended - sent + left < CANCEL_SECONDS:
                break
        else:
            pytest.fail(f"cancelling took more than {CANCEL_SECONDS} s three times")
    assert not file_of(downloading, name).exists()


def test_the_route_cancels_the_download_and_the_run_that_waits(downloading):
    comfyui = downloading.comfyui
    with model(downloading, "cancelled", speed=MIB // 2) as name, ThreadPoolExecutor(1) as pool:
        run = pool.submit(comfyui.run, load(name))
        until(lambda: (entry(comfyui, name)["download"] or {}).get("done"))
        began = time.monotonic()
        assert comfyui.post(f"{ROUTE}/cancel", {"name": name})[0] == 200
        until(lambda: entry(comfyui, name)["download"] is None, CANCEL_SECONDS)
        log.info(
            "ComfyUI %s: the transfer ended %.2f s after cancel", comfyui.version, time.monotonic() - began
        )
        assert run.result().events[-1][1] == "execution_interrupted"
    assert leftovers(downloading) == []
    downloading.hub.troubles.clear()
    assert comfyui.run(load(name)).error is None  # nothing stands in the way of the next try


def test_pages_of_other_sites_and_names_that_are_paths_are_refused(downloading):
    comfyui, hub = downloading.comfyui, downloading.hub
    asked = len(hub.asked)
    with model(downloading, "refused") as name:
        for headers in (
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            for path in (f"{ROUTE}/download", f"/api{ROUTE}/download", f"{ROUTE}/cancel"):
                assert comfyui.post(path, {"name": name}, headers)[0] == 403
        for other in ("../../x", f"{name}.safetensors", f"{REPOSITORY}/refused.safetensors", hub.url):
            assert comfyui.post(f"{ROUTE}/download", {"name": other})[0] == 404
        assert comfyui.post(f"{ROUTE}/download", {"name": SOON})[0] == 409
        assert comfyui.post(f"{ROUTE}/download", {"name": name, "url": hub.url})[0] == 400
        assert entry(comfyui, name)["download"] is None
    assert len(hub.asked) == asked


def test_files_in_all_folders_are_listed(downloading):
    comfyui = downloading.comfyui
    embedded = (ROOT / "sketch_core/weights/stroke_transformer.quickdraw345.safetensors").read_bytes()
    classifier = (ROOT / "sketch_core/weights/sketch_classifier.quickdraw345.safetensors").read_bytes()
    (downloading.folder / "mine.safetensors").write_bytes(embedded)
    (comfyui.base / "models" / "sketch_models" / "other.safetensors").write_bytes(embedded)
    (downloading.folder / "classifier.safetensors").write_bytes(classifier)
    listed = json.dumps(comfyui.get("/object_info/SK_LoadModel")[1])
    assert ['"mine.safetensors"' in listed, '"other.safetensors"' in listed] == [True, True]
    assert '"classifier.safetensors"' not in listed  # it draws nothing
    assert comfyui.run(load("other.safetensors", nonce=3)).error is None


def test_anyones_repository(downloading):
    comfyui, hub = downloading.comfyui, downloading.hub
    with model(downloading, "anyones"):
        run = comfyui.run(from_hub(filename="anyones.safetensors"))
    assert run.error is None, run.error
    assert json.loads(run.outputs["9"]["probe"][0])["gradients"]
    asked = len(hub.asked)
    assert comfyui.run(from_hub(filename="anyones.safetensors") | {"9": load("", 1)["9"]}).error is None
    assert len(hub.asked) == asked
    wrong = comfyui.run(from_hub(filename="no_such.safetensors"))
    assert re.fullmatch(r"[^\n]*no_such.safetensors[^\n]*\.\s*", wrong.error), wrong.error
    assert "'../x'" in comfyui.run(from_hub(filename="../x")).error


def test_without_a_network_one_sentence_says_what_to_do(downloading, monkeypatch):
    comfyui, hub = downloading.comfyui, downloading.hub
    with model(downloading, "offline") as name, cut_off(hub, monkeypatch):
        began = time.monotonic()
        run = comfyui.run(load(name))
        log.info("ComfyUI %s: offline is said after %.2f s", comfyui.version, time.monotonic() - began)
    for part in (f"/{REPOSITORY}/resolve/", "8.6 MB", str(file_of(downloading, name))):
        assert part in run.error
    assert "\n" not in run.error.strip()
    assert entry(comfyui, name)["download"]["error"] == run.error.strip()
