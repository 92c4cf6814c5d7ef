"""Fetching a class from a real HTTP server on loopback that lays its files out as Google's does."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sketch_core.data import fetch, fetch_class, read_bin, read_ndjson, read_npz

DATA = Path(__file__).parent / "data"
FILES = {
    "/quickdraw_dataset/sketchrnn/cat.npz": (DATA / "cat.npz").read_bytes(),
    "/quickdraw_dataset/full/simplified/alarm%20clock.ndjson": (DATA / "drawings.ndjson").read_bytes(),
    "/quickdraw_dataset/full/raw/cat.ndjson": (DATA / "drawings.ndjson").read_bytes(),
    "/quickdraw_dataset/full/binary/The%20Eiffel%20Tower.bin": (DATA / "cat.bin").read_bytes(),
    "/quickdraw_dataset/sketchrnn/cut.npz": b"half",
    "/quickdraw_dataset/sketchrnn/damaged.npz": b"flipped",
    "/quickdraw_dataset/sketchrnn/silent.npz": b"no length, no hash",
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = FILES.get(self.path)
        if content is None:
            self.send_error(503 if "busy" in self.path else 403 if "hidden" in self.path else 404)
            return
        self.send_response(200)
        if "silent" not in self.path:
            self.send_header("Content-Length", str(len(content) * (2 if "cut" in self.path else 1)))
            md5 = hashlib.md5(content + (b"!" if "damaged" in self.path else b"")).digest()
            self.send_header("x-goog-hash", "crc32c=AAAAAA==")
            self.send_header("x-goog-hash", f"md5={base64.b64encode(md5).decode()}")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def base_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/quickdraw_dataset"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_each_format_is_readable_afterwards(tmp_path, base_url):
    npz = fetch_class("cat", tmp_path / "new" / "folder", base_url=base_url)
    assert npz == tmp_path / "new" / "folder" / "cat.npz"
    assert len(read_npz(npz)["train"]) == 6
    simplified = fetch_class("alarm_clock", tmp_path, format="ndjson", base_url=base_url + "/")
    assert simplified.name == "alarm_clock.ndjson"
    assert len(list(read_ndjson(simplified))) == 36
    assert fetch_class("cat", tmp_path, format="raw", base_url=base_url).name == "cat.raw.ndjson"
    binary = fetch_class("The Eiffel Tower", tmp_path, format="bin", base_url=base_url)
    assert [sketch.label for sketch in read_bin(binary)] == ["The Eiffel Tower"] * 5
    assert fetch_class("silent", tmp_path, base_url=base_url).read_bytes() == b"no length, no hash"


def test_progress_ends_at_the_whole(tmp_path, base_url, monkeypatch):
    monkeypatch.setattr(fetch, "CHUNK", 1000)
    seen = []
    path = fetch_class(
        "cat", tmp_path, base_url=base_url, on_progress=lambda done, total: seen.append((done, total))
    )
    size = path.stat().st_size
    assert [done for done, _ in seen] == [*range(1000, size, 1000), size]
    assert {total for _, total in seen} == {size}


def test_a_cancelled_fetch_leaves_nothing(tmp_path, base_url):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        fetch_class("cat", tmp_path, base_url=base_url, on_progress=cancel)
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_without_force(tmp_path, base_url):
    path = tmp_path / "cat.npz"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"cat\.npz is there already\. .*--force"):
        fetch_class("cat", tmp_path, base_url=base_url)
    assert path.read_text() == "mine"
    fetch_class("cat", tmp_path, base_url=base_url, force=True)
    assert path.read_bytes() == (DATA / "cat.npz").read_bytes()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("catt", r"unknown class 'catt': http://.*/catt\.npz is not there \(404\)\. See .*classes"),
        ("hidden", r"unknown class 'hidden'.*\(403\)"),
        ("busy", "answered 503 .*Try again later"),
        ("cut", r"broke off after 4 of 8 bytes\. Fetch it again"),
        ("damaged", "arrived damaged: its MD5"),
        ("../cat", "cannot be a file name"),
        ("..", "cannot be a file name"),
        ("", "cannot be a file name"),
        ("a\nb", "cannot be a file name"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(tmp_path, base_url, name, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        fetch_class(name, tmp_path / "folder", base_url=base_url)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_offline(tmp_path):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(
            ValueError, match=r"cannot reach 127\.0\.0\.1 \(.*refused.*\)\. Check the connection"
        ):
            fetch_class("cat", tmp_path, base_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert not list(tmp_path.iterdir())


def test_a_server_that_never_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"cannot reach 127\.0\.0\.1 \(timed out\)"):
            fetch_class("cat", tmp_path, base_url=url, timeout=0.1)


def test_no_room(tmp_path, base_url, monkeypatch):
    usage = fetch.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        ValueError, match=r"cannot write .*cat\.npz: it takes 0 MiB and 0 MiB are free. Free some"
    ):
        fetch_class("cat", tmp_path, base_url=base_url)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write .*Choose a folder that you can write to"):
        fetch_class("cat", tmp_path / "file", base_url=base_url)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_other_words_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown format 'png'. Known: npz, ndjson, raw, bin"):
        fetch_class("cat", tmp_path, format="png")
    with pytest.raises(ValueError, match="wanted an http or https address"):
        fetch_class("cat", tmp_path, base_url="file:///etc")


def test_google_s_addresses():
    """As the dataset's page lists them (github.com/googlecreativelab/quickdraw-dataset)."""
    assert fetch.BASE_URL == "https://storage.googleapis.com/quickdraw_dataset"
    assert fetch.FORMATS["npz"].format("cat") == "sketchrnn/cat.npz"
    assert fetch.FORMATS["bin"].format("cat") == "full/binary/cat.bin"
