"""Publishing weights: what the card says, and the upload by the real huggingface_hub to a Hub on loopback."""

from __future__ import annotations

import json

import pytest

from sketch_core import hub, manifest, publish
from sketch_core.weight_file import write_weights
from tests.hub_server import FakeHub, Trouble
from tests.test_hub_fetch import BIG, point_at
from tests.tiny import tiny_transformer

# huggingface_hub's own, where it hands a file to its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FACTS = {
    "scale": 30.0,
    "classes": ["cat", "dog", "sun"],
    "lengths": [[0, 1, 2]] * 3,
    "trained_on": "120 drawings | of cats",
    "license": "CC-BY-4.0",
    "attribution": "Quick, Draw! drawings, Google, CC BY 4.0",
    "command": "python -m sketch_core train --data cats --out mine",
    "training": {"steps": 12000, "of": {"which": 7}},
    "figures": {"recognized": 0.123456, "count": 1600},
}
NAME = "stroke_transformer.cats"


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_weights(folder / f"{NAME}.safetensors", tiny_transformer(), FACTS)
    return folder


@pytest.fixture
def server(monkeypatch, tmp_path):
    with FakeHub() as fake:
        point_at(fake.url, monkeypatch)
        monkeypatch.setenv("SKETCHKNITTER_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", fake.writer)
        # Its protocol for the storage of large files is spoken by the real servers alone; LFS is not.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
        yield fake


def test_the_card_says_licence_data_figures_and_the_command(mine):
    card = publish.model_card(publish.read_folder(mine), "me/cats")
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert front.splitlines()[:2] == ["license: cc-by-4.0", "library_name: sketchknitter"]
    for line in (
        "# cats",
        f"python -m sketch_core weights fetch me/cats/{NAME}.safetensors",
        f"## {NAME}.safetensors",
        "| network | stroke_transformer |",
        "| trained on | 120 drawings \\| of cats |",
        "| license | CC-BY-4.0 |",
        "| attribution | Quick, Draw! drawings, Google, CC BY 4.0 |",
        "| classes | 3: cat, dog, sun |",
        "| training: steps | 12,000 |",
        "| training: of, which | 7 |",
        "| recognized | 0.1235 |",
        "| count | 1,600 |",
        "python -m sketch_core train --data cats --out mine",
        f"| sha256 | `{hub.sha256_of(mine / f'{NAME}.safetensors')}` |",
    ):
        assert line in body.splitlines(), line
    assert card.count("```") % 2 == 0


def test_figures_may_lie_beside_the_weights_with_their_command(mine):
    write_weights(mine / f"{NAME}.safetensors", tiny_transformer(), FACTS | {"figures": {}})
    assert "Nothing was measured" in publish.model_card(publish.read_folder(mine), "me/cats")
    (mine / "figures.json").write_text(json.dumps({"command": "sketch_core evaluate", "fid": {"all": 3.5}}))
    card = publish.model_card(publish.read_folder(mine), "me/cats")
    assert "| fid, all | 3.5 |" in card
    assert "```sh\nsketch_core evaluate\n```" in card
    (mine / "figures.json").write_text('{"fid": 3}')
    with pytest.raises(ValueError, match=r"figures.json does not say its command"):
        publish.read_folder(mine)
    (mine / "figures.json").write_text("fid 3")
    with pytest.raises(ValueError, match=r"figures.json cannot be read"):
        publish.read_folder(mine)


@pytest.mark.parametrize("field", publish.NEEDED)
def test_what_does_not_say_enough_is_not_published(mine, field):
    write_weights(mine / f"{NAME}.safetensors", tiny_transformer(), FACTS | {field: ""})
    with pytest.raises(ValueError, match=rf"{NAME}.safetensors does not say its {field}. Write"):
        publish.read_folder(mine)


def test_folders_without_weights_of_ours(tmp_path):
    with pytest.raises(ValueError, match="none is not a folder"):
        publish.read_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no .safetensors file"):
        publish.read_folder(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(BIG)
    with pytest.raises(ValueError, match="not one of our weight files"):
        publish.read_folder(tmp_path)


def test_what_is_published_can_be_fetched_and_has_its_entry(server, mine, tmp_path, monkeypatch):
    done = publish.publish(publish.read_folder(mine), "me/cats")
    assert done.url == f"{server.url}/me/cats"
    commit = server.repositories["me/cats"].refs["main"]
    assert done.commit == commit
    stored = server.repositories["me/cats"].commits[commit]
    assert set(stored) == {"README.md", f"{NAME}.safetensors"}
    assert stored[f"{NAME}.safetensors"] == (mine / f"{NAME}.safetensors").read_bytes()
    assert stored["README.md"].decode() == publish.model_card(publish.read_folder(mine), "me/cats")
    (tmp_path / "manifest.json").write_text(json.dumps(done.entries))  # as the manifest wants it
    known = manifest.read_manifest(tmp_path / "manifest.json")
    assert list(known) == [NAME]
    monkeypatch.setattr(hub, "read_manifest", lambda: known)
    path = hub.fetch_weights(NAME, folders=[tmp_path / "models"])
    assert hub.load_weights(NAME, folders=[tmp_path / "models"]).metadata.classes == ("cat", "dog", "sun")
    assert path.read_bytes() == stored[f"{NAME}.safetensors"]
    anyone = hub.fetch_from_hub("me/cats", f"{NAME}.safetensors", folders=[tmp_path / "models"])
    assert anyone.read_bytes() == path.read_bytes()


def test_each_file_has_an_entry_of_its_own_that_the_manifest_admits(mine, tmp_path):
    """Two files of one network whose names do not fit, two that are alike but for that, and a foreign one."""
    stems = ["Cats (1)", "cats 1", "cats-1", "other_network.cats", "stroke_transformer.me_cats"]
    for stem in stems:
        write_weights(mine / f"{stem}.safetensors", tiny_transformer(), FACTS)
    entries = publish.manifest_entries(publish.read_folder(mine), "me/cats", "c" * 40)
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    known = manifest.read_manifest(tmp_path / "manifest.json")
    assert {f"{stem}.safetensors" for stem in [*stems, NAME]} == {e.source.filename for e in known.values()}
    assert NAME in known


def test_publishing_again_goes_into_the_same_repository(server, mine):
    first = publish.publish(publish.read_folder(mine), "me/cats")
    write_weights(mine / f"{NAME}.safetensors", tiny_transformer(seed=1), FACTS)
    second = publish.publish(publish.read_folder(mine), "me/cats")
    assert first.commit != second.commit
    assert len(server.repositories["me/cats"].commits) == 2


def test_a_private_repository_is_read_with_the_token_only(server, mine, tmp_path, monkeypatch):
    publish.publish(publish.read_folder(mine), "me/cats", private=True)
    assert hub.fetch_from_hub("me/cats", f"{NAME}.safetensors", folders=[tmp_path / "models"])
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ValueError, match="there is no such repository, or it is private"):
        hub.fetch_from_hub("me/cats", f"{NAME}.safetensors", folders=[tmp_path / "elsewhere"])


def test_uploads_that_are_refused(server, mine, monkeypatch):
    files = publish.read_folder(mine)
    with pytest.raises(ValueError, match="repository 'cats' cannot be used"):
        publish.publish(files, "cats")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(ValueError, match=r"me/cats cannot be written with your token \(403\). Log in with"):
        publish.publish(files, "me/cats")
    monkeypatch.setenv("HF_TOKEN", server.writer)
    server.hub_trouble = Trouble(status=418)
    with pytest.raises(ValueError, match=r"the Hub refused me/cats \(418\). Try again later"):
        publish.publish(files, "me/cats")
    assert server.repositories == {}


def test_no_network(server, mine, monkeypatch):
    point_at("http://no-such-host.invalid", monkeypatch)
    with pytest.raises(ValueError, match="the upload to me/cats broke off .*Run it again"):
        publish.publish(publish.read_folder(mine), "me/cats")
