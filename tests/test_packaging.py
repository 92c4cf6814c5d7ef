"""What people install: the manifest of weights, the requirements, a wheel that holds the library alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MANIFEST = json.loads((ROOT / "weights_manifest.json").read_text("utf-8"))
BUNDLED = {name: entry for name, entry in MANIFEST.items() if entry["source"]["kind"] == "bundled"}
HOSTS_OWN = {"torch": "2.13.0", "numpy": "1.26.4", "scipy": "1.11.4", "pillow": "10.2.0", "aiohttp": "3.9.5"}
HOSTS_OWN |= {"huggingface_hub": "0.34.4", "safetensors": "0.4.2", "transformers": "4.50.3"}


def section(heading: str) -> list[str]:
    """The strings of the list in pyproject.toml that starts with `heading` (Python 3.10 has no tomllib)."""
    text = (ROOT / "pyproject.toml").read_text("utf-8").split(heading, 1)[1].split("]", 1)[0]
    return [line.strip().strip('",') for line in text.splitlines() if line.strip().startswith('"')]


def pip(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    run = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if run.returncode and ("NewConnectionError" in run.stderr or "Temporary failure in name" in run.stderr):
        pytest.skip("no package index within reach")
    return run


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_file_is_what_the_manifest_says(name):
    entry = BUNDLED[name]
    content = (ROOT / entry["source"]["path"]).read_bytes()
    assert entry["verified"] is True
    assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["architecture"] == entry["architecture"]
    assert header["__metadata__"]["command"] == entry["command"]


def test_the_manifest_knows_every_file_in_weights_and_they_are_small():
    files = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "sketch_core/weights").glob("*.safetensors")
    }
    assert files <= {entry["source"]["path"] for entry in BUNDLED.values()}
    assert sum((ROOT / file).stat().st_size for file in files) < 40e6


def test_every_entry_says_what_it_is_and_invents_nothing():
    for name, entry in MANIFEST.items():
        wanted = {"architecture", "for", "source", "sha256", "bytes", "verified", "license", "attribution"}
        assert wanted | {"trained_on", "published"} <= set(entry), name
        assert name.split(".")[0] == entry["architecture"]
        if not entry["verified"]:
            assert entry["sha256"] is None
            assert entry["bytes"] is None
        if entry["source"]["kind"] == "bundled":
            assert entry["command"]


def test_requirements_are_the_project_dependencies_with_floors_only():
    lines = (ROOT / "requirements.txt").read_text("utf-8").split()
    assert lines == section("\ndependencies = [")
    assert all(">=" in line and "," not in line for line in lines)
    assert {line.split(">=")[0] for line in lines} == {
        "svgpathtools",
        "safetensors",
        "huggingface-hub",
        "defusedxml",
    }


def would_install(tmp_path: Path, *requirements: str) -> set[str]:
    """The names that pip would install or replace in an environment that has HOSTS_OWN and nothing else.

    The environment holds metadata only: pip decides by that, and nothing is downloaded but metadata.
    """
    venv.create(tmp_path / "host", with_pip=False)
    python = next(
        path for path in (tmp_path / "host").rglob("python*") if path.parent.name in ("bin", "Scripts")
    )
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(
        subprocess.run([python, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    )
    for name, version in HOSTS_OWN.items():
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
        (info / "INSTALLER").write_text("pip\n", "utf-8")
        (info / "RECORD").write_text("", "utf-8")
    report = tmp_path / "report.json"
    options = ["--dry-run", "--quiet", "--report", str(report)]
    run = pip("--python", str(python), "install", *options, *requirements)
    assert run.returncode == 0, run.stderr
    found = json.loads(report.read_text("utf-8"))["install"]
    return {item["metadata"]["name"].lower().replace("-", "_") for item in found}


@pytest.mark.network
def test_requirements_replace_nothing_that_a_host_has(tmp_path):
    names = would_install(tmp_path, "-r", str(ROOT / "requirements.txt"))
    assert "svgpathtools" in names
    assert not names & set(HOSTS_OWN)


@pytest.mark.network
def test_the_check_of_requirements_can_fail(tmp_path):
    assert "pillow" in would_install(tmp_path, "pillow>=11")


@pytest.mark.network
def test_the_wheel_holds_sketch_core_and_the_manifest_only(tmp_path):
    tree = tmp_path / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    run = pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tree))
    assert run.returncode == 0, run.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(tmp_path / "site")
    assert {name.split("/")[0] for name in names} == {"sketch_core", "sketchknitter-0.1.0.dist-info"}
    python_files = {path.relative_to(tree).as_posix() for path in (tree / "sketch_core").rglob("*.py")}
    weights = {entry["source"]["path"] for entry in BUNDLED.values() if entry["sha256"]}
    assert python_files | weights | {"sketch_core/weights_manifest.json"} <= names
    names = [name for name, entry in BUNDLED.items() if entry["sha256"]]
    find = "import sys; from sketch_core.hub import *; print(*map(find_weights, sys.argv[1:]), sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", find, *names], cwd=tmp_path / "site", capture_output=True, text=True
    )
    found = [
        Path(line).relative_to((tmp_path / "site").resolve()).as_posix() for line in run.stdout.splitlines()
    ]
    assert found == [BUNDLED[name]["source"]["path"] for name in names], run.stderr
