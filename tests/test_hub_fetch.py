"""Fetching weights from a Hub on loopback, by the real huggingface_hub: what arrives, stops, is refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sketch_core import __main__ as cli
from sketch_core import hub, ledger, transfer, weight_fetch, weight_source
from sketch_core.manifest import Hub, Url, Weights
from sketch_core.models.stroke_unet import StrokeUNet, StrokeUNetConfig
from sketch_core.weight_file import write_weights
from tests.hub_server import FakeHub, Trouble
from tests.tiny import tiny_transformer

ROOT = Path(__file__).parent.parent
NAME = "judge.photos"
FILE = f"{NAME}.safetensors"


def tensors(size: int, seed: int = 0) -> bytes:
    """A safetensors file of about `size` bytes, in nobody's format."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(size)


BIG = tensors(1_500_000)
SIZE = len(BIG)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """An empty Hub, huggingface_hub pointed at it, and a cache and a Hub cache of the test's own."""
    with FakeHub() as fake:
        point_at(fake.url, monkeypatch)
        monkeypatch.setenv("SKETCHKNITTER_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
        ledger._in_memory.clear()
        yield fake


def point_at(url: str, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "models"


def entry(source, name: str = NAME, **facts) -> Weights:
    known = {"bytes": None, "sha256": None, "license": "MIT", "attribution": "us", "trained_on": "photos"}
    known |= {"verified": facts.get("sha256") is not None, "published": source is not None} | facts
    return Weights(name=name, architecture=name.split(".")[0], purpose="choose", source=source, **known)


def publish(
    server, monkeypatch, content: bytes = BIG, *, file: str = "model.safetensors", pinned=True, **facts
):
    """A repository with one file, and a manifest that knows it; returns its commit."""
    commit = server.add("owner/judge", {file: content})
    known = entry(Hub("owner/judge", file, commit if pinned else None), **facts)
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: known})
    return commit


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@contextlib.contextmanager
def no_network(monkeypatch):
    """Any attempt to make a connection, or to ask for a host's address, fails the test."""
    with monkeypatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, lambda *_: pytest.fail("a connection was attempted"))
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a host was looked up"))
        yield


# ---- what arrives ---------------------------------------------------------------------------------


def test_a_file_arrives_with_progress_and_alone(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=4e6)
    seen = []
    path = hub.fetch_weights(NAME, folders=[folder], on_progress=seen.append)
    assert path == folder / FILE
    assert path.read_bytes() == BIG
    assert files(folder) == [FILE]
    done = [p.done for p in seen]
    assert done == sorted(done)
    assert len(set(done)) > 2  # not just begin and end, though all of it is less than 10 MB
    assert seen[-1] == hub.Progress(NAME, SIZE, SIZE)
    assert {p.total for p in seen if p.done} == {SIZE}


def test_a_file_that_is_here_costs_no_connection_and_is_hashed_once(server, folder, monkeypatch):
    publish(server, monkeypatch)
    hub.fetch_weights(NAME, folders=[folder])
    monkeypatch.setattr(ledger, "sha256_of", lambda path: pytest.fail(f"{path} was hashed again"))
    with no_network(monkeypatch):
        for _ in range(2):
            assert hub.fetch_weights(NAME, folders=[folder]) == folder / FILE
            assert hub.find_weights(NAME, folders=[folder]) == folder / FILE
        assert [s.state for s in hub.list_weights(folders=[folder])] == ["here"]
    assert server.transfers() == 1


def test_the_network_guard_can_fail(server, folder, monkeypatch):
    publish(server, monkeypatch)
    with no_network(monkeypatch), pytest.raises(pytest.fail.Exception, match="a connection|a host"):
        hub.fetch_weights(NAME, folders=[folder])


def test_without_folders_a_file_goes_to_the_users_cache_and_is_found_there(server, tmp_path, monkeypatch):
    publish(server, monkeypatch)
    path = hub.fetch_weights(NAME)
    assert path == tmp_path / "cache" / "weights" / FILE
    with no_network(monkeypatch):
        assert hub.find_weights(NAME) == path
        assert hub.find_weights(NAME, folders=[tmp_path / "models"]) == path


def test_a_small_file_comes_from_the_hub_itself(server, folder, monkeypatch):
    publish(server, monkeypatch, tensors(100))
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == tensors(100)
    assert server.transfers() == 0


def test_an_address_outside_the_hub(server, folder, monkeypatch):
    server.add("owner/any", {"model.safetensors": BIG})
    sha256 = next(iter(server.blobs))
    source = object.__new__(Url)  # the manifest admits https only
    object.__setattr__(source, "url", f"{server.storage_url}/{sha256}/model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: entry(source, sha256=sha256, bytes=SIZE)})
    asked = "huggingface_hub.utils.build_hf_headers"  # which may ask the Hub
    monkeypatch.setattr(asked, lambda **_: pytest.fail("the Hub was asked"))
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG
    assert "authorization" not in server.asked[-1].headers  # the Hub's token is the Hub's
    assert server.asked[-1].headers["user-agent"] == "sketchknitter"


def test_what_other_sites_say_in_an_etag_is_theirs(server, folder, monkeypatch):
    server.add("owner/any", {"model.safetensors": BIG})
    source = object.__new__(Url)  # the manifest admits https only
    object.__setattr__(source, "url", f"{server.storage_url}/{next(iter(server.blobs))}/model.safetensors")
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: entry(source)})
    for etag in ("a" * 64, "b" * 40):  # on the Hub, hashes of the file
        server.troubles["model.safetensors"] = Trouble(headers={"ETag": f'"{etag}"'})
        path = hub.fetch_weights(NAME, folders=[folder])
        assert path.read_bytes() == BIG
        path.unlink()
        ledger.unpin(FILE)


def test_the_commit_of_the_first_download_is_used_from_then_on(server, folder, monkeypatch):
    first = publish(server, monkeypatch, pinned=False)
    path = hub.fetch_weights(NAME, folders=[folder])
    assert ledger.pinned(FILE)["revision"] == first
    server.add("owner/judge", {"model.safetensors": tensors(1_500_000, seed=1)})
    path.unlink()
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG
    assert f"/resolve/{first}/" in server.asked[-2].path


def test_a_repository_that_moved(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.repositories["owner/judge"].renamed = "new/judge"
    server.repositories["new/judge"] = type(server.repositories["owner/judge"])(
        server.repositories["owner/judge"].commits, server.repositories["owner/judge"].refs
    )
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG


@pytest.mark.parametrize("options", [{"token": "hf_yes"}, {"token": "hf_yes", "gated": True}])
def test_a_private_or_gated_repository_with_the_users_token(server, folder, monkeypatch, options):
    commit = server.add("owner/judge", {"model.safetensors": BIG}, **options)
    known = entry(Hub("owner/judge", "model.safetensors", commit))
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: known})
    monkeypatch.setenv("HF_TOKEN", "hf_yes")
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG
    assert server.asked[-1].server == "storage"
    assert "authorization" not in server.asked[-1].headers  # the token stays with the Hub
    assert server.asked[-2].headers["authorization"] == "Bearer hf_yes"


# ---- where a file is looked for -------------------------------------------------------------------


def test_folders_come_first_in_their_order_then_the_caches(server, tmp_path, monkeypatch):
    commit = publish(server, monkeypatch)
    hub_cache = tmp_path / "hf/models--owner--judge/snapshots" / commit / "model.safetensors"
    places = [tmp_path / "one" / FILE, tmp_path / "two" / FILE, tmp_path / "cache/weights" / FILE, hub_cache]
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_bytes(BIG)
    folders = [tmp_path / "one", tmp_path / "two"]
    with no_network(monkeypatch):
        for place in places:
            assert hub.find_weights(NAME, folders=folders) == place
            assert hub.fetch_weights(NAME, folders=folders) == place
            place.unlink()
        with pytest.raises(
            ValueError, match=r"is not on this machine. Fetch it: `.*weights fetch judge.photos`"
        ):
            hub.find_weights(NAME, folders=folders)


def test_a_missing_file_says_address_size_and_folder(server, folder, monkeypatch):
    commit = publish(server, monkeypatch, bytes=SIZE, sha256="0" * 64)
    with pytest.raises(ValueError, match="not on this machine") as caught:
        hub.find_weights(NAME, folders=[folder])
    for part in (
        f"{server.url}/owner/judge/resolve/{commit}/model.safetensors",
        "(1.5 MB)",
        str(folder / FILE),
    ):
        assert part in str(caught.value)


def test_what_is_not_published_says_how_to_make_it(monkeypatch, folder):
    made = entry(None, published=False, command="python -m sketch_core train")
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: made})
    for ask in (hub.find_weights, hub.fetch_weights):
        with pytest.raises(ValueError, match=r"not published yet. Train it: python -m sketch_core train"):
            ask(NAME, folders=[folder])
    assert [s.state for s in hub.list_weights()] == ["unpublished"]
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_bytes(BIG)  # the user did
    assert hub.find_weights(NAME, folders=[folder]) == folder / FILE


# ---- checked before use, and remembered -----------------------------------------------------------


def test_a_file_that_is_not_the_manifests(server, folder, monkeypatch):
    publish(server, monkeypatch, bytes=SIZE, sha256="a" * 64)
    folder.mkdir()
    (folder / FILE).write_bytes(BIG)
    complaint = (
        rf"{FILE} is not the file that {NAME} names: sha256 .*…, wanted aaaaaaaaaaaa…. Delete or rename"
    )
    for ask in (hub.find_weights, hub.load_weights, hub.fetch_weights):
        with pytest.raises(ValueError, match=complaint):
            ask(NAME, folders=[folder])
    assert [c.problem is None for c in hub.verify_weights(folders=[folder])] == [False]


def test_a_file_that_changes_after_its_first_download(server, folder, monkeypatch):
    publish(server, monkeypatch)
    path = hub.fetch_weights(NAME, folders=[folder])
    path.write_bytes(tensors(1_500_000, seed=3))
    with pytest.raises(ValueError, match=rf"{FILE} has changed since {NAME} was first fetched. Delete"):
        hub.find_weights(NAME, folders=[folder])
    assert "has changed" in hub.verify_weights(folders=[folder])[0].problem
    ledger.unpin(FILE)  # the user says so
    assert hub.find_weights(NAME, folders=[folder]) == path
    assert hub.verify_weights(folders=[folder])[0].problem is None


def test_what_is_no_weights_is_not_remembered_as_the_first(server, folder, monkeypatch):
    publish(server, monkeypatch)
    path = write(folder, b"<!DOCTYPE html><title>Log in</title>")
    for ask in (hub.find_weights, hub.fetch_weights):
        with pytest.raises(ValueError, match=rf"not a safetensors file.* {path} is not {NAME}. Delete or"):
            ask(NAME, folders=[folder])
    assert not ledger.pinned(FILE)
    path.unlink()
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG


def test_damage_without_a_new_size_or_time_is_what_verify_is_for(server, folder, monkeypatch):
    publish(server, monkeypatch)
    path = hub.fetch_weights(NAME, folders=[folder])
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"flipped")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hub.find_weights(NAME, folders=[folder]) == path
    assert "has changed" in hub.verify_weights(folders=[folder])[0].problem
    with pytest.raises(ValueError, match="has changed"):  # now it is known
        hub.find_weights(NAME, folders=[folder])


def test_notes_that_are_damaged_gone_or_cannot_be_written_cost_hashing_only(server, folder, monkeypatch):
    publish(
        server, monkeypatch, bytes=SIZE, sha256=sorted(ledger.sha256_of(p) for p in [write(folder, BIG)])[0]
    )
    for note in ledger.cache_folder().rglob("*.json"):
        note.write_bytes(b"\xff{")
    assert hub.find_weights(NAME, folders=[folder])
    for note in ledger.cache_folder().rglob("*.json"):
        note.write_text('["not", "ours"]')
    assert hub.find_weights(NAME, folders=[folder])
    monkeypatch.setenv("SKETCHKNITTER_CACHE", "/dev/null/nowhere")
    assert hub.find_weights(NAME, folders=[folder])
    monkeypatch.setattr(ledger, "sha256_of", lambda path: pytest.fail("hashed though remembered in memory"))
    assert hub.find_weights(NAME, folders=[folder])


def write(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(content)
    return folder / FILE


def test_many_writers_of_notes_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SKETCHKNITTER_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path, BIG)
    found = []
    workers = [
        threading.Thread(target=lambda: found.extend(ledger.checked_sha256(path) for _ in range(20)))
        for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(found) == {ledger.sha256_of(path)}
    assert len(found) == 160
    assert len(files(tmp_path / "cache")) == 2  # the folder and one note


# ---- what breaks off ------------------------------------------------------------------------------


def test_a_cut_connection_is_continued_at_once(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(cut_after=[400_000, 300_000])
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG
    ranges = [a.headers.get("range") for a in server.asked if a.server == "storage"]
    assert ranges[0] is None
    starts = [int(asked.strip("bytes=-")) for asked in ranges[1:]]
    lost = transfer.CHUNK  # at each cut, at most, where requests reads
    assert len(starts) == 2
    assert 400_000 - lost <= starts[0] <= 400_000
    assert starts[0] + 300_000 - lost <= starts[1] <= starts[0] + 300_000


def test_a_transfer_that_keeps_breaking_is_continued_by_the_next_fetch(server, folder, monkeypatch):
    publish(server, monkeypatch)
    monkeypatch.setattr(transfer, "TRIES", 0)
    server.troubles["model.safetensors"] = Trouble(cut_after=[600_000])
    with pytest.raises(ValueError, match=rf"{NAME} broke off after \d+ of {SIZE} bytes .*Fetch it again: it"):
        hub.fetch_weights(NAME, folders=[folder])
    assert not (folder / FILE).exists()
    with pytest.raises(ValueError, match="not on this machine"):
        hub.find_weights(NAME, folders=[folder])
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG
    start = int(server.asked[-1].headers["range"].strip("bytes=-"))
    assert 600_000 - transfer.CHUNK <= start <= 600_000
    assert files(folder) == [FILE]


@pytest.mark.parametrize("way", ["ignores ranges", "has another file now", "part too long", "part damaged"])
def test_a_continuation_is_never_a_wrong_file(server, folder, monkeypatch, way):
    publish(server, monkeypatch, pinned=False)
    monkeypatch.setattr(transfer, "TRIES", 0)
    server.troubles["model.safetensors"] = Trouble(cut_after=[600_000])
    with pytest.raises(ValueError, match="broke off"):
        hub.fetch_weights(NAME, folders=[folder])
    part, wanted = folder / ".incomplete" / f"{FILE}.part", BIG
    if way == "ignores ranges":
        server.troubles["model.safetensors"] = Trouble(ignore_range=True)
    elif way == "has another file now":
        wanted = tensors(1_500_000, seed=5)  # of the same size
        server.add("owner/judge", {"model.safetensors": wanted})
    elif way == "part too long":
        part.write_bytes(part.read_bytes() + bytes(SIZE))
    else:
        part.write_bytes(bytes(600_000))
        with pytest.raises(ValueError, match="arrived damaged"):
            hub.fetch_weights(NAME, folders=[folder])
        assert not (folder / FILE).exists()
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == wanted
    assert files(folder) == [FILE]


# ---- cancelled ------------------------------------------------------------------------------------


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("trouble", [Trouble(speed=100_000), Trouble(stall_after=300_000), None])
def test_cancel_is_quick_and_leaves_nothing(server, folder, monkeypatch, trouble):
    """A slow storage, one that goes silent, and a Hub that never answers."""
    publish(server, monkeypatch)
    if trouble is None:
        server.hub_trouble = Trouble(stall_after=0)
    else:
        server.troubles["model.safetensors"] = trouble
    began = time.monotonic()

    def on_progress(progress):
        if time.monotonic() - began > 0.7:
            raise Cancelled

    with pytest.raises(Cancelled):
        hub.fetch_weights(NAME, folders=[folder], on_progress=on_progress)
    assert time.monotonic() - began < 2.0
    assert files(folder) == []
    server.closing.set()  # the silent connection ends, and with it the thread that read from it
    time.sleep(0.3)
    assert files(folder) == []
    server.closing.clear()
    server.troubles.clear()
    server.hub_trouble = None
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG


def test_cancel_is_quick_where_huggingface_hub_asks_its_hub_for_the_headers(server, folder, monkeypatch):
    from huggingface_hub.utils import build_hf_headers

    publish(server, monkeypatch)
    gone, began = threading.Event(), time.monotonic()

    def build(**options):
        gone.wait(5)
        return build_hf_headers(**options)

    def on_progress(progress):
        raise Cancelled

    monkeypatch.setattr("huggingface_hub.utils.build_hf_headers", build)
    with pytest.raises(Cancelled):
        hub.fetch_weights(NAME, folders=[folder], on_progress=on_progress)
    assert time.monotonic() - began < 2.0
    monkeypatch.setattr(transfer, "ANSWER_SECONDS", 0.3)
    with pytest.raises(ValueError, match=r"cannot reach 127.0.0.1 for judge.photos \(no answer\)"):
        hub.fetch_weights(NAME, folders=[folder])
    gone.set()


@pytest.mark.parametrize("kind", [TimeoutError, ConnectionError, ValueError])
def test_any_exception_of_on_progress_reaches_the_caller(server, folder, monkeypatch, kind):
    publish(server, monkeypatch)

    def on_progress(progress):
        raise kind("mine")

    with pytest.raises(kind, match="^mine$"):
        hub.fetch_weights(NAME, folders=[folder], on_progress=on_progress)
    assert files(folder) == []


def test_ctrl_c_stops_and_the_next_fetch_goes_on(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=5e5)  # 2.4 s are left when it is enough

    def on_progress(progress):
        if progress.done > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.fetch_weights(NAME, folders=[folder], on_progress=on_progress)
    assert not (folder / FILE).exists()
    server.troubles.clear()
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG
    assert int(server.asked[-1].headers["range"].strip("bytes=-")) > 300_000


def test_a_part_that_cannot_be_unlinked_is_begun_anew(server, folder, monkeypatch):
    """As on Windows, where another thread still has it open."""
    publish(server, monkeypatch)
    part = folder / ".incomplete" / f"{FILE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of another transfer" * 999)
    unlink = Path.unlink

    def held(path, missing_ok=False):
        if path == part:
            raise PermissionError("another thread has it open")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", held)
    path = hub.fetch_weights(NAME, folders=[folder])
    assert path.read_bytes() == BIG
    path.unlink()
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(bytes(1000))  # taken up, until the server says that it has another file
    url = server.url + server.asked[0].path
    transfer._state_path(part).write_text(json.dumps({"url": url, "etag": "another"}))
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == BIG


def test_a_part_that_somebody_else_writes_to(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=4e6)

    def on_progress(progress):
        if 0 < progress.done < SIZE:
            with open(folder / ".incomplete" / f"{FILE}.part", "ab") as file:
                file.write(b"!")

    with pytest.raises(ValueError, match="was changed while it arrived. Nothing of it was kept"):
        hub.fetch_weights(NAME, folders=[folder], on_progress=on_progress)
    assert files(folder) == []


@pytest.mark.parametrize("answer", ["refused", "disk full", "another file"])
def test_after_it_was_told_to_stop_a_transfer_leaves_the_next_ones_part_alone(tmp_path, monkeypatch, answer):
    part = tmp_path / "part"

    def answered(self):
        part.write_bytes(b"the next one's")
        self.stop()
        if answer == "refused":
            self._refuse("is a web page")
        if answer == "another file":
            self._start_again()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer._Transfer, "_once", answered)
    request = transfer.Request("model", "http://127.0.0.1/", dict, "")
    transfer._Transfer(request, part).run()
    assert part.read_bytes() == b"the next one's"
    late = transfer._Transfer(request, tmp_path / "late")
    late.stop()
    late.run()
    assert files(tmp_path) == ["part"]


# ---- two that want one file -----------------------------------------------------------------------


def test_two_threads_share_one_transfer(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=1.5e6)
    found, seen = [], {i: [] for i in range(3)}

    def want(i):
        found.append(hub.fetch_weights(NAME, folders=[folder], on_progress=seen[i].append))

    threads = [threading.Thread(target=want, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == BIG for path in found] == [True] * 3
    assert server.transfers() == 1
    for progress in seen.values():  # those who wait see how far it is, too
        assert len({p.done for p in progress}) > 2
    assert files(folder) == [FILE]


def test_who_waits_can_leave_and_who_is_left_goes_on(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=2e6)
    first = threading.Thread(target=hub.fetch_weights, args=(NAME,), kwargs={"folders": [folder]})
    first.start()
    while not server.transfers():
        time.sleep(0.01)

    def leave(progress):
        raise Cancelled

    with pytest.raises(Cancelled):
        hub.fetch_weights(NAME, folders=[folder], on_progress=leave)
    first.join()
    assert (folder / FILE).read_bytes() == BIG
    assert server.transfers() == 1


def test_who_waited_takes_over_when_the_first_gives_up(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=1e6)
    waiting, begun = threading.Event(), time.monotonic()

    def give_up(progress):
        if waiting.is_set() and time.monotonic() - begun > 0.5:
            raise Cancelled

    def first():
        with pytest.raises(Cancelled):
            hub.fetch_weights(NAME, folders=[folder], on_progress=give_up)

    thread = threading.Thread(target=first)
    thread.start()
    while not server.transfers():
        time.sleep(0.01)
    server.troubles.clear()
    path = hub.fetch_weights(NAME, folders=[folder], on_progress=lambda progress: waiting.set())
    thread.join()
    assert path.read_bytes() == BIG
    assert server.transfers() == 2


FETCHING = """
import sys
from pathlib import Path
from sketch_core import hub, manifest
_, name, repo, file, commit, sha256, size, folder = sys.argv
entry = manifest.Weights(name=name, architecture=name.split(".")[0], purpose="choose",
    source=manifest.Hub(repo, file, commit), bytes=int(size) or None, sha256=sha256 or None,
    verified=bool(sha256), published=True, license="MIT", attribution="us", trained_on="photos")
hub.read_manifest = lambda: {name: entry}
print(hub.fetch_weights(name, folders=[folder]), flush=True)
"""


def process(server, folder: Path, commit: str, *known: str, **environment: str) -> subprocess.Popen:
    """A process that fetches the file, pointed at the server as a user would; known: its sha256 and size."""
    around = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    around |= {
        "HF_ENDPOINT": server.url,
        "no_proxy": "*",
        "HF_HOME": str(folder.parent / "hf"),
        **environment,
    }
    arguments = [NAME, "owner/judge", "model.safetensors", commit, *(known or ("", "0")), str(folder)]
    return subprocess.Popen(
        [sys.executable, "-c", FETCHING, *arguments],
        cwd=ROOT,
        env=around,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_share_one_transfer(server, folder, monkeypatch):
    commit = publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=1e6)
    both = [process(server, folder, commit) for _ in range(2)]
    for one in both:
        out, err = one.communicate(timeout=60)
        assert out.strip() == str(folder / FILE), err
    assert (folder / FILE).read_bytes() == BIG
    assert server.transfers() == 1


def test_a_lock_file_that_its_last_holder_removes_is_not_a_lock(tmp_path, monkeypatch):
    """Two would hold it: one the file that is gone, another one the new file of that name."""
    from filelock import FileLock

    lock, acquire = FileLock(tmp_path / "a.lock"), FileLock.acquire

    def acquired_too_late(self, **options):
        acquire(self, **options)
        os.unlink(self.lock_file)
        Path(self.lock_file).touch()

    monkeypatch.setattr(FileLock, "acquire", acquired_too_late)
    assert not weight_fetch._acquired(lock, tmp_path)
    assert not lock.is_locked
    monkeypatch.setattr(FileLock, "acquire", acquire)
    assert weight_fetch._acquired(lock, tmp_path)
    lock.release()


def test_a_file_system_without_locks(server, folder, monkeypatch):
    def acquire(self, **options):
        raise NotImplementedError("FileSystem does not appear to support flock")

    publish(server, monkeypatch)
    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with pytest.raises(
        ValueError, match=rf"the file system of {folder} has no locks, .*Choose another folder"
    ):
        hub.fetch_weights(NAME, folders=[folder])


KILLS, LARGE = (10, 50_000_000) if os.environ.get("SKETCHKNITTER_SLOW_TESTS") else (3, 5_000_000)


def size_of(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:  # not there, or not any more
        return 0


def test_killed_at_random_points_the_next_fetch_has_the_right_file(server, folder, monkeypatch):
    """kill -9 at ten points of 50 MB with SKETCHKNITTER_SLOW_TESTS=1, at three of 5 MB without."""
    content, dice = tensors(LARGE, seed=9), random.Random()
    commit = publish(server, monkeypatch, content)
    known = (hashlib.sha256(content).hexdigest(), str(len(content)))
    server.troubles["model.safetensors"] = Trouble(speed=LARGE / 1.5)
    part, killed = folder / ".incomplete" / f"{FILE}.part", 0
    for _ in range(KILLS):  # each goes on where the one before was killed, or begins anew after a whole file
        there = size_of(part)
        goal = dice.randrange(there, LARGE + LARGE // 10)  # now and then between the last byte and its place
        victim = process(server, folder, commit, *known)
        while victim.poll() is None and size_of(part) < min(goal, LARGE):
            time.sleep(0.001)
        victim.kill()
        _, err = victim.communicate()
        assert victim.returncode in (0, -signal.SIGKILL), err
        killed += victim.returncode != 0
        if (folder / FILE).exists():
            assert (folder / FILE).read_bytes() == content
            (folder / FILE).unlink()
        else:
            with pytest.raises(ValueError, match="not on this machine"):  # nothing is taken for weights
                hub.find_weights(NAME, folders=[folder])
    assert killed >= KILLS / 2
    server.troubles.clear()
    out, err = process(server, folder, commit, *known).communicate(timeout=60)
    assert out.strip() == str(folder / FILE), err
    assert (folder / FILE).read_bytes() == content
    assert files(folder) == [FILE]


# ---- no network -----------------------------------------------------------------------------------


def test_nobody_there_is_an_error_at_once(server, folder, monkeypatch):
    publish(server, monkeypatch, bytes=SIZE, sha256="0" * 64)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        point_at(f"http://127.0.0.1:{taken.getsockname()[1]}", monkeypatch)
        began = time.monotonic()
        with pytest.raises(
            ValueError, match=r"cannot reach 127.0.0.1 for .* \(.*refused.*\). Or download"
        ) as caught:
            hub.fetch_weights(NAME, folders=[folder])
    assert time.monotonic() - began < 2
    assert "(1.5 MB)" in str(caught.value)
    assert str(folder / FILE) in str(caught.value)
    assert files(folder) == []


def test_a_host_that_has_no_address(server, folder, monkeypatch):
    publish(server, monkeypatch)
    point_at("http://no-such-host.invalid", monkeypatch)
    with pytest.raises(ValueError, match=r"cannot reach no-such-host.invalid for judge.photos \("):
        hub.fetch_weights(NAME, folders=[folder])


def test_a_hub_that_says_nothing(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.hub_trouble = Trouble(stall_after=0)
    monkeypatch.setattr(transfer, "ANSWER_SECONDS", 0.4)
    with pytest.raises(
        ValueError, match=r"cannot reach 127.0.0.1 for judge.photos \(no answer\). Or download"
    ):
        hub.fetch_weights(NAME, folders=[folder])
    assert files(folder) == []


def test_hf_hub_offline(server, folder, monkeypatch):
    publish(server, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with (
        no_network(monkeypatch),
        pytest.raises(ValueError, match="HF_HUB_OFFLINE forbids .* Or download http"),
    ):
        hub.fetch_weights(NAME, folders=[folder])


def test_the_environment_is_huggingface_hubs(server, folder, monkeypatch):
    commit = server.add("owner/judge", {"model.safetensors": BIG}, token="hf_env")
    out, err = process(server, folder, commit, HF_HUB_OFFLINE="1").communicate(timeout=60)
    assert "HF_HUB_OFFLINE forbids" in err
    assert server.connections == 0
    out, err = process(server, folder, commit).communicate(timeout=60)
    assert "there is no such repository, or it is private" in err
    out, err = process(server, folder, commit, HF_TOKEN="hf_env").communicate(timeout=60)
    assert out.strip() == str(folder / FILE), err


# ---- what the server says no with -----------------------------------------------------------------


def refused(complaint: str, folder: Path, name: str = NAME) -> str:
    with pytest.raises(ValueError, match=complaint) as caught:
        hub.fetch_weights(name, folders=[folder])
    assert "\n" not in str(caught.value)
    assert files(folder) == []  # nothing that is later taken for weights; nothing at all
    return str(caught.value)


@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [
        (Trouble(status=403), r"127.0.0.1 does not give it to you \(403\). Log in with `hf auth login`"),
        (Trouble(status=404), r"127.0.0.1 has no such file \(404\)"),
        (Trouble(status=429, headers={"Retry-After": "30"}), r"too many requests \(429\). Try again in 30 s"),
        (Trouble(status=429), r"too many requests \(429\). Try again later"),
        (Trouble(status=500), r"is in trouble \(500\). Try again later. Or download http"),
        (Trouble(status=503), r"is in trouble \(503\)"),
        (Trouble(status=418), r"127.0.0.1 answered 418 .*Or download http"),
        (Trouble(body=b"<!DOCTYPE html><title>Log in</title>" * 99), "is a web page instead of weights"),
        (Trouble(body=BIG, headers={"Content-Type": "text/html"}), "is a web page instead of weights"),
        (Trouble(body=b"Not Found" * 9), r"is not a safetensors file. Nothing of it was kept"),
        (
            Trouble(body=struct.pack("<Q", 2 << 30) + b"{" + bytes(90)),
            r"header of 2147483648 bytes, wanted at",
        ),
        (Trouble(body=BIG[:-1] + b"!"), r"arrived damaged: it is not the file that the Hub calls"),
        (Trouble(body=BIG + b"more"), rf"is longer than the {SIZE} bytes that were announced"),
    ],
    ids=lambda value: None if isinstance(value, Trouble) else value[:24],
)
def test_each_refusal_has_its_sentence(server, folder, monkeypatch, trouble, complaint):
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = trouble
    assert server.storage_url not in refused(complaint, folder)  # a signed address


def test_bytes_that_are_not_the_manifests(server, folder, monkeypatch):
    publish(server, monkeypatch, bytes=SIZE, sha256="a" * 64)
    refused(
        r"is another file: its sha256 is [0-9a-f]{12}…, the manifest says aaaaaaaaaaaa…. Nothing of", folder
    )
    publish(server, monkeypatch, bytes=SIZE + 1, sha256="a" * 64)
    refused(rf"has {SIZE} bytes, wanted {SIZE + 1}. Nothing", folder)
    assert server.transfers() == 2  # the second was told before
    server.troubles["model.safetensors"] = Trouble(no_length=True)
    refused(rf"has {SIZE} bytes, wanted {SIZE + 1}. Nothing", folder)


def test_a_length_that_nobody_announces(server, folder, monkeypatch):
    content = tensors(100)
    publish(server, monkeypatch, content)
    server.troubles["model.safetensors"] = Trouble(no_length=True)
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == content


def test_an_address_whose_file_is_another_one_now(server, folder, monkeypatch):
    content = {seed: tensors(1_500_000, seed) for seed in (0, 1)}
    source = object.__new__(Url)  # the manifest admits https only
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: entry(source)})
    for seed in content:
        server.add("owner/any", {"model.safetensors": content[seed]})
        sha256 = hashlib.sha256(content[seed]).hexdigest()
        object.__setattr__(source, "url", f"{server.storage_url}/{sha256}/model.safetensors")
        if seed == 0:
            hub.fetch_weights(NAME, folders=[folder]).unlink()
    said = refused("is another file: .*, the first download here says", folder)
    command = "python -m sketch_core weights verify --accept judge.photos.safetensors"
    assert said.endswith(f"Nothing of it was kept. To take it: `{command}`, then fetch it again.")
    assert cli.main(command.split()[3:]) == 0
    assert hub.fetch_weights(NAME, folders=[folder]).read_bytes() == content[1]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (Hub("owner/none", "model.safetensors"), "there is no such repository, or it is private"),
        (Hub("owner/judge", "none.safetensors"), "the repository has no such file. Check its name"),
        (Hub("owner/judge", "model.safetensors", "f" * 40), "the repository has no such revision"),
    ],
)
def test_what_the_hub_does_not_have(server, folder, monkeypatch, source, complaint):
    publish(server, monkeypatch)
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: entry(source)})
    refused(complaint, folder)


@pytest.mark.parametrize("token", [None, "hf_no"])
def test_a_gated_repository_says_where_the_terms_are(server, folder, monkeypatch, token):
    commit = server.add("owner/judge", {"model.safetensors": BIG}, token="hf_yes", gated=True)
    known = entry(Hub("owner/judge", "model.safetensors", commit))
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: known})
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    refused(rf"is behind terms of use. Accept them at {server.url}/owner/judge, then log in with", folder)


def test_a_mirror_that_is_no_hub(server, folder, monkeypatch):
    publish(server, monkeypatch)
    server.hub_trouble = Trouble(body=BIG)
    refused(r"came without the name of a commit, so not from a Hub \(see HF_ENDPOINT\)", folder)


def test_a_file_whose_metadata_names_another_network(server, folder, monkeypatch):
    path = folder.parent / "ours.safetensors"
    write_weights(path, tiny_transformer(), {})
    publish(server, monkeypatch, path.read_bytes())
    refused(r"cannot be used: it is for a network 'stroke_transformer', wanted 'judge'. Nothing", folder)


# ---- no room --------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_said_before(server, folder, monkeypatch):
    publish(server, monkeypatch)
    usage = transfer.shutil.disk_usage(folder.parent)._replace(free=1000)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda place: usage)
    refused(rf"{NAME} takes 1 MiB and 0 MiB are free in {folder}. Free some space", folder)


def test_a_disk_that_fills_up(server, folder, monkeypatch):
    resource = pytest.importorskip("resource")  # not on Windows
    publish(server, monkeypatch)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
        refused(r"cannot write .*File too large. Free some space and try again", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    publish(server, monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write .*Choose a folder that you can write to"):
        hub.fetch_weights(NAME, folders=[tmp_path / "file"])
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):  # root may write anywhere but here
        closed = Path("/sys/sketchknitter")
    with pytest.raises(ValueError, match="cannot write .*Choose a folder that you can write to"):
        hub.fetch_weights(NAME, folders=[closed])


# ---- pickles at the source ------------------------------------------------------------------------


def pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


STATE = {"lin.weight": torch.arange(5000.0), "lin.bias": torch.ones(3)}


def test_a_checkpoint_needs_room_for_what_becomes_of_it(server, folder, monkeypatch):
    raw = pickled({"w": torch.zeros(1 << 20)})  # 4 MiB
    publish(server, monkeypatch, raw, file="model.pth")
    usage = transfer.shutil.disk_usage(folder.parent)._replace(free=6 << 20)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda place: usage)
    refused(rf"{NAME} takes 8 MiB and 6 MiB are free in {folder}. Free some space", folder)


def test_a_disk_that_fills_up_while_a_checkpoint_is_converted(server, folder, monkeypatch):
    """What has arrived is kept: the two tensors share memory, which is in the checkpoint once."""
    resource = pytest.importorskip("resource")  # not on Windows
    shared = torch.arange(100_000.0)
    publish(server, monkeypatch, pickled({"a": shared, "b": shared}), file="model.pth")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
        with pytest.raises(
            ValueError, match=r"^cannot write .*File too large. Free some space and try again"
        ):
            hub.fetch_weights(NAME, folders=[folder])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f".incomplete/{FILE}.part" in files(folder)
    assert hub.fetch_weights(NAME, folders=[folder]).stat().st_size > 800_000
    assert server.transfers() == 1
    assert files(folder) == [FILE]


def test_what_a_killed_conversion_left_is_removed(server, folder, monkeypatch):
    publish(server, monkeypatch, pickled(STATE), file="model.pth")
    left = folder / ".incomplete" / f".{FILE}.ready.0123abcd.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    hub.fetch_weights(NAME, folders=[folder])
    assert files(folder) == [FILE]


@pytest.mark.parametrize("folders", ["snapshots/mine", "snapshots", ""])
def test_only_a_commit_is_taken_for_one(tmp_path, folders):
    commit = "c" * 40
    assert weight_fetch._cached_commit(tmp_path / folders / "model.pth") == ""
    assert weight_fetch._cached_commit(tmp_path / folders / "snapshots" / commit / "model.pth") == commit


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"epoch": 3, "state_dict": STATE},
        {"model_state_dict": {f"module.{k}": v for k, v in STATE.items()}},
    ],
)
def test_a_checkpoint_becomes_safetensors(server, folder, monkeypatch, content):
    from safetensors.torch import load_file

    raw = pickled(content)
    publish(server, monkeypatch, raw, file="model.pth")
    path = hub.fetch_weights(NAME, folders=[folder])
    assert files(folder) == [FILE]
    found = load_file(path)
    assert {key: value.tolist() for key, value in found.items()} == {k: v.tolist() for k, v in STATE.items()}
    with no_network(monkeypatch):
        assert hub.find_weights(NAME, folders=[folder]) == path
    assert hub.verify_weights(folders=[folder])[0].problem is None
    ledger.unpin(FILE)
    assert hub.find_weights(NAME, folders=[folder]) == path


def test_a_converted_file_must_come_from_the_source_of_the_manifest(server, folder, monkeypatch):
    publish(server, monkeypatch, pickled(STATE), file="model.pth")
    hub.fetch_weights(NAME, folders=[folder])
    publish(server, monkeypatch, pickled(STATE), file="model.pth", bytes=9, sha256="b" * 64)
    with pytest.raises(ValueError, match=r"is not the file that judge.photos names: .*wanted bbbbbbbbbbbb…"):
        hub.find_weights(NAME, folders=[folder])


def test_a_checkpoint_that_the_user_downloaded_is_converted_without_the_network(server, folder, monkeypatch):
    raw = pickled(STATE)
    publish(server, monkeypatch, raw, file="model.pth")
    with pytest.raises(ValueError, match=rf"save it as {folder}/{NAME}.pth"):
        hub.find_weights(NAME, folders=[folder])
    folder.mkdir()
    (folder / f"{NAME}.pth").write_bytes(raw)
    with no_network(monkeypatch):
        path = hub.fetch_weights(NAME, folders=[folder])
    assert path == folder / FILE
    assert (folder / f"{NAME}.pth").read_bytes() == raw  # the user's file stays


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/sketchknitter-was-here",))


@pytest.mark.parametrize(
    "raw",
    [
        pickle.dumps(Evil(), protocol=2),
        pickled({"w": Evil()}),
        pickled([1, 2]),
        pickled({"epoch": 3}),
        b"PK\x03\x04" + bytes(99),
    ],
    ids=["a pickle that acts", "one in a checkpoint", "a list", "no tensors", "a damaged archive"],
)
def test_nothing_in_a_pickle_is_ever_done(server, folder, monkeypatch, raw):
    publish(server, monkeypatch, raw, file="model.pth")
    said = refused(r"judge.photos cannot be used: model.pth .*Nothing of it was kept", folder)
    assert ".part" not in said
    assert not os.path.exists("/tmp/sketchknitter-was-here")


# ---- anyone's repository --------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path) -> bytes:
    path = tmp_path / "ours.safetensors"
    write_weights(path, tiny_transformer(), {"scale": 30.0, "classes": ["cat", "dog", "sun"]})
    return path.read_bytes()


def test_weights_in_our_format_from_anyone(server, folder, monkeypatch, ours):
    commit = server.add("artist/birds.v2", {"deep/model.safetensors": ours})
    seen = []
    path = hub.fetch_from_hub(
        "artist/birds.v2", "deep/model.safetensors", folders=[folder], on_progress=seen.append
    )
    assert path == folder / "artist--birds.v2--deep--model.safetensors"
    assert path.read_bytes() == ours
    assert seen[-1].done == len(ours)
    assert ledger.pinned(path.name)["revision"] == commit
    with no_network(monkeypatch):
        assert hub.fetch_from_hub("artist/birds.v2", "deep/model.safetensors", folders=[folder]) == path
        assert hub.load_weights(path).metadata.classes == ("cat", "dog", "sun")
        assert hub.load_weights(path.name, folders=[folder]).name == path.stem
    path.write_bytes(ours[:-4] + b"\0\0\0\1")
    for ask in (lambda: hub.load_weights(path), lambda: hub.find_weights(path.name, folders=[folder])):
        with pytest.raises(
            ValueError, match=r"has changed since artist/birds.v2/deep/model.safetensors was first"
        ):
            ask()
    assert "has changed" in hub.verify_weights(folders=[folder])[-1].problem


def test_a_file_in_the_hubs_own_cache_is_copied_and_stays_there(server, folder, tmp_path, monkeypatch, ours):
    commit = server.add("artist/birds", {"model.safetensors": ours})
    cache = tmp_path / "hf/models--artist--birds"
    blob, link = cache / "blobs/abc", cache / "snapshots" / commit / "model.safetensors"
    for path in (blob, link, cache / "refs/main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(ours)
    link.symlink_to(blob)
    (cache / "refs/main").write_text(commit)
    with no_network(monkeypatch):
        path = hub.fetch_from_hub("artist/birds", "model.safetensors", folders=[folder])
    assert not path.is_symlink()
    assert path.read_bytes() == link.read_bytes() == ours
    assert link.is_symlink()
    assert files(folder) == [path.name]
    assert ledger.pinned(path.name)["revision"] == commit


def test_another_revision_is_another_file(server, folder, monkeypatch, ours):
    monkeypatch.setattr(hub, "read_manifest", dict)
    old = server.add("artist/birds", {"model.safetensors": ours})
    write_weights(folder.parent / "new.safetensors", tiny_transformer(seed=1), {})
    new = (folder.parent / "new.safetensors").read_bytes()
    server.add("artist/birds", {"model.safetensors": new}, branch="refs/pr/1")
    server.add("artist/birds", {"model.safetensors": new})
    wanted = {None: new, "main": new, "refs/pr/1": new, old: ours}
    found = {
        revision: hub.fetch_from_hub("artist/birds", "model.safetensors", revision, folders=[folder])
        for revision in wanted
    }
    assert {revision: path.read_bytes() for revision, path in found.items()} == wanted
    assert found[old].name == f"artist--birds--model@{old}.safetensors"
    assert found["refs/pr/1"].name.startswith("artist--birds--model@refs_pr_1@")
    assert len(set(found.values())) == 4
    assert len(hub.verify_weights(folders=[folder])) == 4


OTHERS = [  # wanted files that are not one another, each with what a simpler name would take it for
    ("o/n", "model.safetensors", None, None, None),
    *(("o/n", f"model.{suffix}", None, None, None) for suffix in ("pt", "pth", "bin", "ckpt")),
    ("o/n", "Model.safetensors", None, None, None),
    ("o/n", "model.SAFETENSORS", None, None, None),
    ("o/n", "a/model.safetensors", None, None, None),
    ("o/n", "a--model.safetensors", None, None, None),
    ("o/n", "-a.safetensors", None, None, None),
    ("o/n-", "a.safetensors", None, None, None),
    ("o/n", "model.safetensors", "moon", None, None),
    ("o/n", "model.safetensors", "Moon", None, None),
    ("o/n", "model@moon.safetensors", None, None, None),
    ("o/n", "model.safetensors", "refs/pr/1", None, None),
    ("o/n", "model.safetensors", "refs_pr_1", None, None),
    ("o/n", "model.safetensors", "c" * 40, None, None),
    ("o/n", f"model@{'c' * 40}.safetensors", None, None, None),
    ("o/n", "model.pt", "moon", None, None),
    ("o/n", "model.pt", None, None, "moon"),
    ("o/n", "model.pt", None, None, "m/oon"),
    ("o/n", "model.pt", None, None, "m_oon"),
    ("o/n", "model.pt", None, None, "x" * 81),
    ("o/n", "model.pt", None, None, "x" * 82),
    ("o/n", "model.pt", None, 26.2, None),
    ("o/n", "model.pt", None, 26.20001, None),
    ("o/n", "model.pt", None, 26.200001, None),
    ("o/n", "model.pt", None, None, "scale26.2"),
]


def test_another_file_has_another_name_also_where_names_ignore_case():
    names = [weight_source.local_name(*wanted) for wanted in OTHERS]
    assert len({name.lower() for name in names}) == len(OTHERS)
    assert names[0] == "o--n--model.safetensors"
    assert names == [weight_source.local_name(*wanted) for wanted in OTHERS]  # and the same one each time


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("../../etc", "model.safetensors"), r"repository '../../etc' cannot be used"),
        (("owner", "model.safetensors"), r"repository 'owner' cannot be used. Give one such as 'owner/name'"),
        (("owner/../x", "model.safetensors"), "repository .* cannot be used"),
        (("owner/na me", "model.safetensors"), "repository .* cannot be used"),
        (("owner/name?x=", "model.safetensors"), "repository .* cannot be used"),
        (("owner/name", "../model.safetensors"), r"file name '../model.safetensors' cannot be used"),
        (("owner/name", "a/../../model.safetensors"), "file name .* cannot be used"),
        (("owner/name", "/etc/model.safetensors"), "file name .* cannot be used"),
        (("owner/name", "..\\model.safetensors"), "file name .* cannot be used"),
        (("owner/name", "C:model.safetensors"), "file name .* cannot be used"),
        (("owner/name", "a\0.safetensors"), "file name .* cannot be used"),
        (("owner/name", ""), "file name .* cannot be used"),
        (("owner/name", "x" * 300 + ".safetensors"), "file name .* cannot be used"),
        (("owner/name", "model.exe"), r"'model.exe' is neither a .safetensors file nor a checkpoint"),
        (("owner/name", "model.safetensors", "../main"), "revision '../main' cannot be used"),
        (("owner/name", "model.safetensors", "a b"), "revision 'a b' cannot be used"),
    ],
)
def test_names_that_could_lead_elsewhere_are_not_asked_for(server, folder, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        hub.fetch_from_hub(*arguments, folders=[folder])
    assert server.connections == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("file", "options", "complaint"),
    [
        (
            "a.safetensors",
            {"scale": 3.0},
            "scale and label are for checkpoints; 'a.safetensors' says its own",
        ),
        ("a.safetensors", {"label": "moon"}, "scale and label are for checkpoints"),
        ("a.pt", {"scale": 0.0}, "scale is 0, wanted canvas units per model unit, above 0"),
        ("a.pt", {"scale": -2.5}, "scale is -2.5, wanted"),
        ("a.pt", {"scale": float("nan")}, "scale is nan, wanted"),
        ("a.pt", {"scale": float("inf")}, "scale is inf, wanted"),
    ],
)
def test_what_makes_no_sense_of_a_checkpoint_is_said_before_it_is_fetched(
    server, folder, file, options, complaint
):
    server.add("owner/name", {"a.safetensors": BIG, "a.pt": pickled(STATE)})
    with pytest.raises(ValueError, match=complaint):
        hub.fetch_from_hub("owner/name", file, folders=[folder], **options)
    assert server.connections == 0


def test_one_file_that_cannot_be_read_does_not_keep_the_others_from_being_checked(
    server, folder, monkeypatch
):
    publish(server, monkeypatch, pickled(STATE), file="model.pth")
    judge = hub.read_manifest()[NAME]
    second = "judge.drawings"
    also = entry(judge.source, second)
    monkeypatch.setattr(hub, "read_manifest", lambda: {NAME: judge, second: also})
    path = hub.fetch_weights(NAME, folders=[folder])
    hub.fetch_weights(second, folders=[folder])
    path.write_bytes(b"damaged")
    first, other = hub.verify_weights(folders=[folder])
    assert "is not a safetensors file, or is cut off" in first.problem
    assert str(path) in first.problem
    assert other.problem is None


def test_the_users_own_folder_needs_no_home(monkeypatch, tmp_path):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setenv("SKETCHKNITTER_CACHE", str(tmp_path))
    assert ledger.cache_folder() == tmp_path


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, dtype=torch.complex32),
        lambda: torch.zeros(2, 2).to_sparse(),
        lambda: torch.zeros(2, device="meta"),
    ],
    ids=["complex32", "sparse", "meta"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of these kinds
def test_tensors_that_safetensors_does_not_have(server, folder, monkeypatch, make):
    publish(server, monkeypatch, pickled({"w": make()}), file="model.pth")
    refused(r"model.pth holds tensors that safetensors does not have \([A-Za-z]+\). Give weights", folder)


def test_damaged_pickles_are_one_sentence(tmp_path):
    """Cut off and overwritten at every tenth byte: nothing but a ValueError, or the tensors."""
    from sketch_core import checkpoints

    buffer, path = io.BytesIO(), tmp_path / "a.pt"
    torch.save({"w": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=False)
    raw, complaints = buffer.getvalue(), set()
    for at in range(0, len(raw), 10):
        for damaged in (raw[:at], raw[:at] + b"G\xff." + raw[at + 3 :]):
            path.write_bytes(damaged)
            for read in (checkpoints.read_pickled, checkpoints.read_official_checkpoint):
                try:
                    read(path)
                except ValueError as error:
                    complaints.add(type(error.__cause__).__name__)
    assert len(complaints) > 3, complaints


def test_somebody_elses_safetensors_are_refused(server, folder, monkeypatch, ours):
    server.add("artist/birds", {"model.safetensors": BIG, "other.safetensors": renamed(ours, "stroke_mamba")})
    for file, complaint in (
        ("model.safetensors", r"model.safetensors is not one of our weight files"),
        ("other.safetensors", r"for a network that this release does not have: 'stroke_mamba'. Known: "),
    ):
        with pytest.raises(ValueError, match=rf"artist/birds/{file} cannot be used: .*{complaint}") as caught:
            hub.fetch_from_hub("artist/birds", file, folders=[folder])
        assert ".part" not in str(caught.value)
        assert files(folder) == []


def renamed(content: bytes, architecture: str) -> bytes:
    n = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + n])
    header["__metadata__"]["architecture"] = architecture
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + n :]


def test_an_official_checkpoint_becomes_a_model_that_draws(server, folder, monkeypatch):
    from sketch_core.knitter import load

    torch.manual_seed(0)
    network = StrokeUNet(StrokeUNetConfig(points=32, num_res_blocks=1, channel_mult=(1, 1)))
    server.add("author/knitter", {"ema_0.9999_050000.pt": pickled(network.state_dict())})
    path = hub.fetch_from_hub("author/knitter", "ema_0.9999_050000.pt", folders=[folder])
    assert path.name.startswith("author--knitter--ema_0.9999_050000@")
    assert files(folder) == [path.name]
    loaded = hub.load_weights(path)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value), key
    assert loaded.metadata.scale == 26.2
    assert loaded.metadata.classes == ("sketch",)
    assert loaded.metadata.lengths == ((0,) * 32 + (1,),)
    assert len(load(path).draw("sketch", count=1, steps=2)) == 1
    other = hub.fetch_from_hub(
        "author/knitter", "ema_0.9999_050000.pt", folders=[folder], scale=20, label="moon"
    )
    assert other != path
    assert hub.read_metadata(other).scale == 20
    assert hub.read_metadata(other).classes == ("moon",)


def test_a_checkpoint_of_something_else(server, folder):
    server.add("author/other", {"model.pt": pickled(STATE)})
    with pytest.raises(
        ValueError, match="author/other/model.pt cannot be used: .*they are not a stroke_unet's"
    ):
        hub.fetch_from_hub("author/other", "model.pt", folders=[folder])
    assert files(folder) == []


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_lies_under_way_is_never_weights(server, folder, monkeypatch, suffix):
    """Until a file is checked it lies in a hidden folder, under names that nobody lists as weights."""
    content = BIG if suffix == ".safetensors" else pickled({"w": torch.arange(300_000.0)})
    publish(server, monkeypatch, content, file=f"model{suffix}")
    server.troubles[f"model{suffix}"] = Trouble(speed=2e6)
    seen, rename = set(), os.replace

    def look(*_):
        if not (folder / FILE).exists():
            seen.update(path for path in folder.rglob("*") if path.is_file())

    def replace(source, target):
        look()
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)  # before each file gets its name
    assert hub.fetch_weights(NAME, folders=[folder], on_progress=look).read_bytes()
    assert any(path.name.endswith(".part") for path in seen)
    for path in seen:
        assert path.parent == folder / ".incomplete", path
        assert path.suffix not in {".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl"}, (
            path
        )
        with pytest.raises(ValueError, match="unknown model"):
            hub.find_weights(path, folders=[folder])
