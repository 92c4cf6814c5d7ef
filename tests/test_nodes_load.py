"""Load Sketch Model and Load from Hub without ComfyUI: listed, fetched, shared, cancelled, reloaded."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests import fake_comfyui
from tests.stand_in_hub import LARGE, SOON, drawing_model, stand_in_hub

MARKED = f"{LARGE} (download 2.7 MB)"
BASE = "stroke_transformer.quickdraw345"  # comes with the pack beside the default


@pytest.fixture
def hub(pack, tmp_path, monkeypatch):
    with stand_in_hub(pack, monkeypatch, tmp_path) as state:
        yield state


@pytest.fixture
def node(pack, hub):
    return pack.nodes["SK_LoadModel"]


@pytest.fixture
def folder(pack) -> Path:
    return pack.host.base / "models" / "sketch_models"


def options(node) -> list[str]:
    return node.define_schema().inputs[0].options


def when(happened, action) -> None:
    """Does something once a condition holds, from another thread."""

    def wait() -> None:
        ends = time.monotonic() + 30
        while not happened() and time.monotonic() < ends:
            time.sleep(0.01)
        action()

    threading.Thread(target=wait, daemon=True).start()


def shown() -> bool:
    """Whether a node has shown progress."""
    return len(fake_comfyui.ProgressBar.made) > 0


# --- the list


def test_what_can_be_chosen(node, folder):
    assert options(node) == ["default", BASE, MARKED]
    drawing_model(folder / "mine.safetensors")
    (folder / "damaged.safetensors").write_bytes(b"not weights")  # says so when it is loaded
    assert options(node) == ["default", BASE, "damaged.safetensors", "mine.safetensors", MARKED]
    drawing_model(folder / f"{LARGE}.safetensors")
    assert options(node) == ["default", BASE, LARGE, "damaged.safetensors", "mine.safetensors"]


def test_models_that_do_not_draw_are_not_listed(node, folder, pack):
    classifier = pack.part("sketch_core.hub").find_weights("recognizer")
    (folder / "classifier.safetensors").write_bytes(classifier.read_bytes())
    (folder / classifier.name).write_bytes(classifier.read_bytes())  # as a manifest name has it
    assert options(node) == ["default", BASE, MARKED]


def test_a_choice_stays_valid_whether_the_file_is_here_or_not(node, folder, pack):
    bare = pack.part("nodes.load").bare
    saved = [LARGE, MARKED, f"{LARGE} (download)", f"{LARGE} (download 1.2 GB)"]
    assert {bare(choice) for choice in saved} == {LARGE}
    assert bare("my model (final).safetensors") == "my model (final).safetensors"
    assert [node.validate_inputs(choice) for choice in saved] == [True] * 4
    drawing_model(folder / f"{LARGE}.safetensors")
    assert [node.validate_inputs(choice) for choice in [*saved, f"{LARGE}.safetensors"]] == [True] * 5


def test_what_cannot_be_loaded_is_said_before_the_run(node):
    assert "'other.safetensors' in" in node.validate_inputs("other.safetensors")
    assert "is not a model that draws" in node.validate_inputs("recognizer")
    assert SOON in node.validate_inputs(SOON)
    assert SOON not in " ".join(options(node))


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "../../weights_manifest.json"])
def test_no_choice_leads_out_of_the_folder(node, name):
    assert "there is no sketch model" in node.validate_inputs(name)


def test_a_file_that_is_replaced_is_loaded_again(node, folder):
    assert node.fingerprint_inputs(MARKED) == node.fingerprint_inputs(LARGE) == LARGE
    path = drawing_model(folder / f"{LARGE}.safetensors")
    here = node.fingerprint_inputs(MARKED)
    assert here == node.fingerprint_inputs(LARGE) != LARGE
    os.utime(path, ns=(1, 1))
    assert node.fingerprint_inputs(LARGE) != here
    drawing_model(folder / "mine.safetensors")
    assert node.fingerprint_inputs("mine.safetensors") != node.fingerprint_inputs("default")


# --- fetching


@pytest.mark.parametrize("choice", [MARKED, LARGE])
def test_a_model_that_is_not_here_is_fetched_and_loaded(node, hub, pack, choice):
    when(shown, hub.go.set)
    (loaded,) = node.execute(choice).values
    assert loaded.sketch_model.name == LARGE
    assert loaded.sketch_model.classes == ["a", "b", "c"]
    assert not next(loaded.sketch_model.network.parameters()).is_inference()
    assert hub.asked == [(LARGE,)]
    assert (hub.bytes // 2, hub.bytes, None) in fake_comfyui.ProgressBar.made[-1].updates
    (again,) = node.execute(choice).values  # from disk
    assert again.sketch_model.name == LARGE
    assert len(hub.asked) == 1


def test_cancelling_the_run_ends_the_transfer(node, hub, pack):
    when(shown, lambda: setattr(pack.host, "cancelled", True))
    with pytest.raises(fake_comfyui.Interrupted):
        node.execute(MARKED)
    assert hub.ended.wait(2)
    assert pack.part("nodes.downloads").downloads.latest(LARGE).wait(2)
    assert pack.part("nodes.downloads").downloads.latest(LARGE).state == "cancelled"


def test_cancelling_the_run_leaves_the_transfer_to_who_pressed_the_button(node, hub, pack):
    load, downloads = pack.part("nodes.load"), pack.part("nodes.downloads").downloads
    download = downloads.want(LARGE, load.fetch_known(LARGE), "button")
    when(shown, lambda: setattr(pack.host, "cancelled", True))
    with pytest.raises(fake_comfyui.Interrupted):
        node.execute(MARKED)
    assert not download.wait(0.2)
    hub.go.set()
    assert download.wait(5)
    assert (download.state, len(hub.asked)) == ("done", 1)


def test_the_button_cancels_the_run_too(node, hub, pack):
    downloads = pack.part("nodes.downloads").downloads
    when(shown, lambda: downloads.cancel(LARGE))
    with pytest.raises(fake_comfyui.Interrupted):
        node.execute(MARKED)


def test_a_failure_reaches_the_user_as_its_sentence(node, hub):
    hub.error = ValueError("there is no network. Put the file into models/sketch_models.")
    hub.go.set()
    with pytest.raises(ValueError, match="^there is no network. Put the file into models/sketch_models.$"):
        node.execute(MARKED)


def test_two_nodes_that_want_a_file_at_once_share_it(node, hub, pack):
    downloads = pack.part("nodes.downloads").downloads
    loaded = []
    threads = [threading.Thread(target=lambda: loaded.append(node.execute(MARKED))) for _ in range(2)]
    for thread in threads:
        thread.start()
    when(lambda: (download := downloads.latest(LARGE)) and len(download.wanted_by) == 2, hub.go.set)
    for thread in threads:
        thread.join(20)
    assert len(loaded) == 2
    assert hub.asked == [(LARGE,)]


# --- Load from Hub


@pytest.mark.parametrize(
    ("widgets", "asked"),
    [
        ({}, (None,)),
        ({"revision": " v1 "}, ("v1",)),
        ({"revision": "0" * 40, "scale": 31.5, "class_name": "cat"}, ("0" * 40, 31.5, "cat")),
    ],
)
def test_a_file_of_a_repository_is_fetched_and_loaded(pack, hub, widgets, asked):
    hub.go.set()
    loaded = pack.run("SK_LoadFromHub", repo_id=" someone/sketches ", filename="a.pt", **widgets)
    assert loaded.sketch_model.classes == ["a", "b", "c"]
    assert hub.asked == [("someone/sketches", "a.pt", *asked)]


def test_a_download_is_told_in_words(pack, hub):
    when(shown, hub.go.set)
    pack.run("SK_LoadFromHub", repo_id="someone/sketches", filename="a.safetensors")
    assert "Downloading 1.3 MB of 2.7 MB" in pack.host.said
    assert pack.host.said[-1] == "Downloaded"
    said = len(pack.host.said)
    pack.run("SK_LoadFromHub", repo_id="someone/sketches", filename="a.safetensors")  # at once
    assert len(pack.host.said) == said


def test_a_repository_that_refuses_says_so_in_a_sentence(pack, hub):
    hub.error = ValueError("repository 'someone/secret' is gated. Run hf auth login.")
    hub.go.set()
    with pytest.raises(ValueError, match="is gated. Run hf auth login.$"):
        pack.run("SK_LoadFromHub", repo_id="someone/secret", filename="a.safetensors")
