"""One transfer a file, however many want it: joining, leaving, cancelling, failing."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

SECONDS = 20  # before a test gives up on a thread


class Source:
    """A fetch that moves when it is told to, and says how often it began."""

    def __init__(self) -> None:
        self.began, self.ended = 0, []
        self.go, self.result = threading.Event(), Path("weights.safetensors")

    def __call__(self, *, on_progress) -> Path:
        self.began += 1
        mine = self.began
        done = 0
        try:
            while not self.go.wait(0.01):
                done += 1
                on_progress(SimpleNamespace(name="x", done=done, total=100))
            if isinstance(self.result, Exception):
                raise self.result
            return self.result
        finally:
            self.ended.append(mine)


@pytest.fixture
def module(pack):
    return pack.part("nodes.downloads")


@pytest.fixture
def source():
    made = Source()
    yield made
    made.go.set()


@pytest.fixture
def heard():
    return []


@pytest.fixture
def downloads(module, heard):
    return module.Downloads(lambda download: heard.append(download.report()))


def test_two_that_want_a_file_share_one_transfer(downloads, source):
    first = downloads.want("model", source, "one graph")
    second = downloads.want("model", source, "another graph")
    source.go.set()
    assert first is second
    assert first.wait(SECONDS)
    assert (first.result(), source.began) == (source.result, 1)


def test_it_ends_when_the_last_one_leaves_and_not_before(downloads, source, module):
    download = downloads.want("model", source, "node")
    downloads.want("model", source, "button")
    downloads.leave(download, "node")
    assert not download.wait(0.2)
    downloads.leave(download, "button")
    assert download.wait(SECONDS)
    assert download.state == "cancelled"
    with pytest.raises(module.Cancelled, match="the download of model was cancelled"):
        download.result()


def test_wanting_twice_is_wanting_once(downloads, source):
    download = downloads.want("model", source, "button")
    downloads.want("model", source, "button")
    downloads.leave(download, "button")
    assert download.wait(SECONDS)


def test_cancel_ends_it_for_all(downloads, source):
    download = downloads.want("model", source, "node")
    downloads.want("model", source, "button")
    assert downloads.cancel("model")
    assert download.wait(SECONDS)
    assert download.state == "cancelled"
    assert not downloads.cancel("model")
    assert not downloads.cancel("no such name")


def test_one_that_is_being_cancelled_is_not_joined(downloads, source):
    first = downloads.want("model", source, "button")
    downloads.cancel("model")
    second = downloads.want("model", source, "button")
    assert second is not first
    assert first.wait(SECONDS)
    assert not second.wait(0.2)
    source.go.set()
    assert second.wait(SECONDS)
    assert (first.state, second.state, source.began) == ("cancelled", "done", 2)


def test_a_failure_is_a_sentence_and_the_next_one_starts_anew(downloads, source, heard):
    source.result = ValueError("there is no network. Put the file into models/sketch_models.")
    source.go.set()
    failed = downloads.want("model", source, "node")
    assert failed.wait(SECONDS)
    with pytest.raises(ValueError, match="^there is no network. Put the file"):
        failed.result()
    assert downloads.latest("model").report()["error"] == str(source.result)
    source.result = Path("weights.safetensors")
    again = downloads.want("model", source, "node")
    assert again.wait(SECONDS)
    assert again.result() == source.result
    assert downloads.latest("model").report()["error"] is None


def test_what_nobody_foresaw_is_logged_and_named(downloads, source, caplog):
    source.result = RuntimeError("out of luck")
    source.go.set()
    download = downloads.want("model", source, "node")
    assert download.wait(SECONDS)
    with pytest.raises(ValueError, match=r"model could not be downloaded \(RuntimeError: out of luck\)"):
        download.result()
    assert "Traceback" in caplog.text


def test_every_change_is_told_but_not_every_byte(downloads, source, heard):
    download = downloads.want("model", source, "node")
    assert not download.wait(0.5)
    source.go.set()
    assert download.wait(SECONDS)
    assert heard[0] == {"name": "model", "state": "downloading", "done": 0, "total": None, "error": None}
    told = [report["done"] for report in heard]
    assert told == sorted(told)
    assert 2 < len(heard) < 10 < download.done  # 0.2 s apart
    assert heard[-2]["total"] == 100


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, None, "Downloading"),
        (0, 48_000_000, "Downloading"),
        (12_300_000, None, "Downloading 12.3 MB"),
        (12_300_000, 48_000_000, "Downloading 12.3 MB of 48.0 MB"),
        (999_000_000, 2_090_000_000, "Downloading 999.0 MB of 2.09 GB"),
    ],
)
def test_progress_in_words(module, done, total, text):
    assert module.progress_text(done, total) == text
