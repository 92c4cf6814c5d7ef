"""`python -m sketch_core weights`: the table, fetching, verifying, the card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sketch_core import __main__ as cli
from sketch_core import hub, ledger, weights_command
from sketch_core.manifest import Bundled, read_manifest
from sketch_core.weight_file import write_weights
from tests.hub_server import Trouble
from tests.test_hub_fetch import BIG, FILE, NAME, folder, publish, server  # noqa: F401
from tests.test_hub_publish import FACTS
from tests.tiny import tiny_transformer

ROOT = Path(__file__).parent.parent


def run(*arguments: str, status: int = 0) -> None:
    assert cli.main(["weights", *map(str, arguments)]) == status


def test_the_table_says_name_use_state_and_size(server, capsys):  # noqa: F811
    run("list")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "WHAT", "IT", "DOES", "STATE", "SIZE"]
    assert len(lines) == len(read_manifest())
    for line, name in zip(lines, ("quickdraw345 (base)", "quickdraw345_fast (default)"), strict=False):
        assert line.split() == f"stroke_transformer.{name} draws sketches bundled 8.6 MB".split()
    assert lines[-1].endswith("missing  958.0 MB")
    assert server.connections == 0


def test_the_table_as_json(server, folder, monkeypatch, capsys):  # noqa: F811
    publish(server, monkeypatch)
    monkeypatch.setattr(weights_command, "read_manifest", hub.read_manifest)
    hub.fetch_weights(NAME, folders=[folder])
    run("list", "--json", "--folder", folder)
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {
        "name": NAME,
        "for": "choose",
        "state": "here",
        "bytes": len(BIG),
        "path": str(folder / FILE),
        "license": "MIT",
    }


def test_fetch_prints_the_path_and_is_silent_in_a_pipe(server, folder, monkeypatch, capsys):  # noqa: F811
    publish(server, monkeypatch)
    run("fetch", NAME, "--folder", folder)
    out, err = capsys.readouterr()
    assert (out, err) == (f"{folder / FILE}\n", "")


def test_fetch_shows_progress_on_a_terminal(server, folder, monkeypatch, capsys):  # noqa: F811
    publish(server, monkeypatch)
    server.troubles["model.safetensors"] = Trouble(speed=3e6)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run("fetch", NAME, "--folder", folder)
    assert f"fetching {NAME} [####" in capsys.readouterr().err


def test_fetch_from_anyones_repository(server, folder, tmp_path, capsys):  # noqa: F811
    write_weights(tmp_path / "a.safetensors", tiny_transformer(), FACTS)
    commit = server.add("me/cats", {"deep/a.safetensors": (tmp_path / "a.safetensors").read_bytes()})
    run("fetch", f"me/cats/deep/a.safetensors@{commit}", "--folder", folder)
    assert capsys.readouterr().out == f"{folder}/me--cats--deep--a@{commit}.safetensors\n"
    run("fetch", "me/cats", status=1)
    assert "'me/cats' is no file of a repository. Give OWNER/NAME/FILE" in capsys.readouterr().err
    run("fetch", NAME, "--scale", "3", status=1)
    assert "--scale and --label are for checkpoints of a repository" in capsys.readouterr().err


def test_errors_are_one_line(server, folder, capsys):  # noqa: F811
    run("fetch", "nothing", "--folder", folder, status=1)
    assert capsys.readouterr().err.startswith("sketch_core: unknown model 'nothing'. Known: ")
    with pytest.raises(SystemExit):
        run()
    assert "required: VERB" in capsys.readouterr().err


def test_verify_hashes_anew_and_its_status_says_whether_all_is_well(
    server,  # noqa: F811
    folder,  # noqa: F811
    monkeypatch,
    capsys,
):
    publish(server, monkeypatch)
    path = hub.fetch_weights(NAME, folders=[folder])
    run("verify", "--folder", folder)
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == [NAME, "ok"]
    path.write_bytes(BIG[:-1] + b"!")
    run("verify", "--folder", folder, status=1)
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[:2] == [NAME, "WRONG"]
    assert f"weights verify --accept {FILE}`" in err
    run("verify", "--folder", folder, "--json", status=1)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["sha256"] == ledger.sha256_of(path)
    assert "has changed" in row["problem"]
    run("verify", "--folder", folder, "--accept", FILE)
    assert ledger.pinned(FILE)["sha256"] == ledger.sha256_of(path)
    assert ledger.pinned(FILE)["revision"]  # still the commit that the first download met
    assert hub.find_weights(NAME, folders=[folder]) == path
    path.write_bytes(BIG)
    run("verify", "--folder", folder, status=1)  # accepted is that file, not whatever comes next
    run("verify", "--accept", "other.safetensors", status=1)
    assert "'other.safetensors' was never fetched here" in capsys.readouterr().err


def test_a_dry_run_prints_the_card_and_uploads_nothing(server, tmp_path, capsys):  # noqa: F811
    write_weights(tmp_path / "a.safetensors", tiny_transformer(), FACTS)
    run("publish", tmp_path, "--repo", "me/cats", "--dry-run")
    out = capsys.readouterr().out
    assert out.startswith("---\nlicense: cc-by-4.0\n")
    assert FACTS["command"] in out
    assert server.connections == 0


def test_as_people_call_it(tmp_path):
    around = {**os.environ, "SKETCHKNITTER_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "sketch_core", "weights", "verify"],
        cwd=ROOT,
        env=around,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    bundled = [entry for entry in read_manifest().values() if isinstance(entry.source, Bundled)]
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["IS", *["ok"] * len(bundled)]
    assert done.stderr == ""
