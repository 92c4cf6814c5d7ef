"""The manifest: what the file says, and that a typo in it is an error at once."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path

import pytest

from sketch_core import manifest
from sketch_core.manifest import ALIASES, Bundled, Hub, Stated, Url, Weights, read_manifest

ROOT = Path(__file__).parent.parent
ENTRIES = json.loads((ROOT / "weights_manifest.json").read_text("utf-8"))
SCHEMA = json.loads((ROOT / "weights_manifest.schema.json").read_text("utf-8"))
ENTRY = SCHEMA["$defs"]["entry"]
GOOD = {
    "architecture": "judge",
    "for": "choose",
    "source": {
        "kind": "hub",
        "repo_id": "owner/judge",
        "filename": "a/model.safetensors",
        "revision": "0" * 40,
    },
    "sha256": "a" * 64,
    "bytes": 9,
    "verified": True,
    "published": True,
    "license": "MIT",
    "attribution": "us",
    "trained_on": "photos",
}


def read(tmp_path, name: str = "judge.photos", **changes) -> Weights:
    entry = copy.deepcopy(GOOD) | changes
    entry = {key: value for key, value in entry.items() if value is not ...}
    (tmp_path / "manifest.json").write_text(json.dumps({name: entry}))
    return read_manifest(tmp_path / "manifest.json")[name]


def test_an_entry_is_read_as_it_is_written(tmp_path):
    found = read(
        tmp_path, pair="other.one", note="hello", command="make", stated={"by": "https://a.b", "bytes": 3}
    )
    assert found == Weights(
        name="judge.photos",
        architecture="judge",
        purpose="choose",
        source=Hub("owner/judge", "a/model.safetensors", "0" * 40),
        bytes=9,
        sha256="a" * 64,
        verified=True,
        published=True,
        license="MIT",
        attribution="us",
        trained_on="photos",
        command="make",
        pair="other.one",
        stated=Stated("https://a.b", bytes=3),
        note="hello",
    )
    assert found.filename == "judge.photos.safetensors"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.sha256 = None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"licence": "MIT"}, "unexpected keyword argument 'licence'"),
        ({"license": ...}, "license"),
        ({"license": ""}, "license is '', wanted a text"),
        ({"source": ...}, "'source' is missing or unknown"),
        ({"source": {"kind": "ftp"}}, "'ftp' is missing or unknown"),
        ({"source": {"kind": "hub", "repo_id": "owner/judge"}}, "filename"),
        (
            {"source": GOOD["source"] | {"revision": "main"}},
            "revision is 'main', wanted a commit of 40 hex digits",
        ),
        ({"source": GOOD["source"] | {"filename": "../a"}}, "file name '../a' cannot be used"),
        ({"source": GOOD["source"] | {"repo_id": "judge"}}, "repository 'judge' cannot be used"),
        ({"source": {"kind": "url", "url": "http://a.b/c"}}, "wanted the https address of a file"),
        ({"source": {"kind": "url", "url": "https://a.b/"}}, "wanted the https address of a file"),
        ({"source": {"kind": "bundled", "path": "/etc/passwd"}}, "cannot be used"),
        ({"for": "fun"}, "for is 'fun'. Known: draw, recognize, judge, shortcut, rectify, photo, choose"),
        ({"sha256": "A" * 64}, "wanted 64 hex digits"),
        ({"sha256": None}, "verified means that sha256 and bytes are known"),
        ({"verified": False}, "verified means"),
        ({"bytes": None}, "verified means"),
        ({"bytes": -1}, "bytes is -1, wanted a size"),
        ({"bytes": "9"}, "bytes is '9', wanted a size"),
        ({"published": False}, "published means that the source is on the Hub or at an address"),
        ({"architecture": "other"}, "its name must be 'other', a point and what it was trained on"),
        ({"stated": {"by": "a page"}}, "stated by 'a page', wanted the https address of a page"),
        ({"stated": {"by": "https://a.b", "sha256": "0"}}, "wanted 64 hex digits"),
    ],
)
def test_a_typo_is_an_error_that_names_the_entry(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=rf"weights_manifest.json, judge.photos: .*{re.escape(complaint)}"):
        read(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a.b": 3}'])
def test_a_manifest_that_cannot_be_read(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json"):
        read_manifest(tmp_path / "manifest.json")


def test_a_manifest_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FILE", "nowhere.json")
    with pytest.raises(ValueError, match="nowhere.json lies neither in .* nor in .*Install the pack again"):
        read_manifest()


# ---- the file that ships --------------------------------------------------------------------------


def test_the_manifest_holds_what_the_pack_can_use():
    found = read_manifest()
    assert list(found) == list(ENTRIES)
    assert set(ALIASES.values()) <= set(found)
    architectures = {entry.architecture for entry in found.values()}
    assert {"vgg16", "lpips_vgg", "clip_vit_b32", "maskgit_transformer", "maskgit_tokenizer"} <= architectures
    for name, entry in found.items():
        if isinstance(entry.source, Bundled):
            assert entry.source.path == f"sketch_core/weights/{name}.safetensors"
            assert entry.command
        if isinstance(entry.source, Url):
            assert entry.verified or "raw.githubusercontent" not in entry.source.url
        if isinstance(entry.source, Hub) and entry.source.revision is None:
            assert not entry.verified
        if entry.stated is not None:
            assert not entry.verified


def test_pairs_are_pairs():
    found = read_manifest()
    pairs = {name: entry.pair for name, entry in found.items() if entry.pair}
    assert len(pairs) == 6
    for name, other in pairs.items():
        assert pairs[other] == name
        assert found[other].purpose == found[name].purpose


def test_the_schema_says_what_the_reader_does():
    fields = {field.name: field for field in dataclasses.fields(Weights)}
    names = {("for" if name == "purpose" else name) for name in fields} - {"name"}
    assert set(ENTRY["properties"]) == names
    needed = {
        "for" if name == "purpose" else name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name != "name"
    }
    assert set(ENTRY["required"]) == needed
    assert ENTRY["properties"]["for"]["enum"] == list(manifest.PURPOSES)
    assert SCHEMA["propertyNames"]["pattern"] == f"^{manifest.NAME.pattern}$".replace(".", r".", 1)
    kinds = {one["properties"]["kind"]["const"]: one for one in ENTRY["properties"]["source"]["oneOf"][1:]}
    assert set(kinds) == set(manifest.SOURCES)
    for kind, Source in manifest.SOURCES.items():
        written = {field.name for field in dataclasses.fields(Source)} | {"kind"}
        assert set(kinds[kind]["properties"]) == set(kinds[kind]["required"]) == written


def test_the_manifest_obeys_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(ENTRIES, SCHEMA)
    broken = copy.deepcopy(ENTRIES)
    broken["vgg16.imagenet"]["licence"] = "MIT"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "a/b/model.pt", "ema_0.9999_050000.pt", "größe.safetensors"]
)
def test_file_names_that_stay_where_they_are_put(name):
    assert manifest.check_filename(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a//b",
        "../a",
        "a/..",
        "a/./b",
        "/a",
        "a\\b",
        "C:a",
        "a\n",
        "a?b",
        "~root/a",
        "a.",
        "a ",
        "x" * 201,
        3,
    ],
)
def test_file_names_that_could_leave(name):
    with pytest.raises(ValueError, match="file name .* cannot be used"):
        manifest.check_filename(name)
