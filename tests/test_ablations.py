"""The ablations on two toy classes: every variant learns its own form, once, and all are measured alike."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sketch_core import __main__ as cli
from sketch_core.data import write_npz
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.strokes import Sketch, sketch_to_stroke3
from sketch_core.train import ablations
from sketch_core.train.ablations import BASE, SHARED, VARIANTS
from sketch_core.train.config import TrainConfig
from sketch_core.train.networks import fresh_network
from sketch_core.weight_file import read_file_metadata, write_weights

CHOSEN = "transformer,absolute,point_shuffle,birnn"
OPTIONS = "--minutes 0.005 --count 12 --width 16 --depth 1 --max-points 32 --resamples 4".split()


def toy(corners: int, rng: np.random.Generator) -> np.ndarray:
    """A polygon and a dash, as rows."""
    angle = np.linspace(0, 2 * np.pi, corners + 1)
    around = np.stack([np.cos(angle), np.sin(angle)], 1) * 100 + rng.normal(0, 6, (corners + 1, 2))
    return sketch_to_stroke3(Sketch((around.round(), np.array([[120.0, 0], [120, 40]]))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Drawings of two classes, and a judge that was never trained."""
    path, rng = tmp_path_factory.mktemp("toys"), np.random.default_rng(0)
    for name, corners in {"box_kite": 4, "circle": 15}.items():
        sizes = {"train": 24, "valid": 14, "test": 14}
        write_npz(path / f"{name}.npz", {s: [toy(corners, rng) for _ in range(n)] for s, n in sizes.items()})
    torch.manual_seed(0)
    judge = SketchClassifier(SketchClassifierConfig(classes=2))
    write_weights(path / "judge.safetensors", judge, {"classes": ["box kite", "circle"]})
    return path


@pytest.fixture(autouse=True)
def few_steps(monkeypatch, tmp_path):
    monkeypatch.setattr(ablations, "STEPS", 3)
    monkeypatch.setattr(ablations, "DDIM_STEPS", (1, 2))
    monkeypatch.setattr(ablations, "cache_folder", lambda: tmp_path / "cache")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(folder: Path, out: Path, *options: str) -> int:
    words = ["train", "ablations", "--data", folder, "--out", out, "--judge", folder / "judge.safetensors"]
    given = ["--classes", "circle,box kite", "--variants", CHOSEN, *OPTIONS, *options]
    return cli.main([*map(str, words), *given])


def refused(capsys, folder: Path, out: Path, *options: str) -> str:
    assert run(folder, out, *options) == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory) -> tuple[Path, str]:
    """A finished run, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "ablations"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "STEPS", 3)
        patch.setattr(ablations, "DDIM_STEPS", (1, 2))
        patch.setattr(ablations, "cache_folder", lambda: out.parent / "cache")
        printed: list[str] = []
        patch.setattr("sys.stdout.write", printed.append)
        assert run(folder, out) == 0
    return out, "".join(printed)


def test_every_variant_has_its_line(done):
    out, printed = done
    told = json.loads((out / "ablations.json").read_text())
    names = [row["about"] for row in told["rows"]]
    assert names == [
        "transformer, offsets in drawing order",
        "absolute coordinates",
        "point shuffle",
        "its strokes rejoined",
        "bidirectional RNN",
        *["transformer, DDIM linear"] * 2,
        *["transformer, DDIM quadratic"] * 2,
        "real",
        "real, point shuffle, rejoined",
    ]
    assert [row["calls"] for row in told["rows"]] == [3, 3, 3, 3, 3, 1, 2, 1, 2, None, None]
    assert told["protocol"]["classes"] == ["circle", "box kite"]
    assert told["plan"]["minutes"] == 0.005
    for row in told["rows"]:
        assert set(row["intervals"]) == {"top1", "fid", "recall"}
        assert row["network"] == {} or row["network"]["drawings_seen"] > 0
    lines = printed.splitlines()
    assert lines[0] == "24 drawings a line, 12 each of circle, box kite"
    for row in told["rows"]:
        found = [line for line in lines if line.strip().startswith(row["about"] + "  ")]
        assert any(f"{row['top1']:.3f}" in line and f"{row['fid']:.2f}" in line for line in found)
    assert str(out.parent) not in (out / "ablations.json").read_text()


def test_variants_see_their_own_form(done):
    out, _ = done
    found = {name: read_file_metadata(out / name / "weights.safetensors") for name in CHOSEN.split(",")}
    assert found["birnn"].architecture == "stroke_birnn"
    plain, absolute = np.array(found[BASE].lengths), np.array(found["absolute"].lengths)
    assert plain.sum() == 48
    assert np.array_equal(absolute[:, 1:], plain[:, :-1])  # a row more
    assert found["point_shuffle"].scale > 1.3 * found["birnn"].scale == 1.3 * found[BASE].scale
    assert not list(out.rglob("checkpoint.pt"))


def test_the_sheet_has_a_strip_a_line(done):
    out, _ = done
    with Image.open(out / "ablations.png") as image:
        assert image.size == (8 * 72, 11 * 90)
        ink = np.asarray(image.convert("L")) < 128
    assert all(ink[90 * i + 18 : 90 * (i + 1)].any() for i in range(11))


def test_what_is_trained_stays_trained(done, folder, tmp_path, capsys, monkeypatch):
    out, _ = done
    assert "ablations.json exists already. Add --force" in refused(capsys, folder, out)
    before = {path: path.read_bytes() for path in out.rglob("*.safetensors")}
    figures = json.loads((out / "ablations.json").read_text())["rows"]
    lost = out / "absolute" / "weights.safetensors"
    lost.rename(tmp_path / "kept")
    (out / "absolute" / "checkpoint.pt").write_bytes(b"what a stopped run left")
    trained, train = [], ablations.train

    def heard(config, **options):
        trained.append((Path(config.out).name, options["clock"], config.place_weight))
        return train(config, **options)

    monkeypatch.setattr(ablations, "train", heard)
    assert run(folder, out, "--force", "--variants", f"{CHOSEN},place") == 0
    assert trained == [("place", time.process_time, 0.25), ("absolute", time.process_time, 0)]
    assert all(path.read_bytes() == content for path, content in before.items() if path != lost)
    again = json.loads((out / "ablations.json").read_text())["rows"]
    new = {"absolute coordinates", "with a loss of where they lead"}
    known = [row for row in again if row["about"] not in new]
    assert known == [row for row in figures if row["about"] not in new]
    assert len(again) == len(known) + 2


def test_another_plan_is_refused(done, folder, capsys):
    out, _ = done
    message = "holds variants of another plan: minutes, seed differ. Give the same options"
    assert message in refused(capsys, folder, out, "--force", "--minutes", "0.01", "--seed", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variants", "transformer,gan"], "no variant gan. Known: transformer, place, noise_on_places, "),
        (["--variants", ","], "no variant ','. Known: "),
        (["--classes", "owl"], "no drawings of owl in the data folder"),
        (["--count", "7"], "14 drawings and 4 half samples, wanted 24"),
    ],
)
def test_bad_options_are_one_sentence(folder, tmp_path, capsys, options, message):
    assert message in refused(capsys, folder, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "argument --minutes: '0' is no float from 0.001 to 100000"),
        (["--minutes", "nan"], "argument --minutes: 'nan' is no float"),
        (["--width", "wide"], "argument --width: 'wide' is no int from 2 to 4096"),
        (["--max-points", "7"], "argument --max-points: '7' is no int from 8 to 512"),
    ],
)
def test_numbers_out_of_range_are_the_command_s_fault(folder, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run(folder, tmp_path / "out", *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_built_and_none_is_like_another(name):
    variant = VARIANTS[name]
    others = [(v.form, v.architecture, v.model, v.options) for n, v in VARIANTS.items() if n != name]
    assert (variant.form, variant.architecture, variant.model, variant.options) not in others
    assert SHARED.keys() | variant.options.keys() <= {f.name for f in dataclasses.fields(TrainConfig)}


def test_networks_that_are_compared_are_of_about_one_size():
    class Data:
        classes = ("sun", "face", "apple")

        def spread(self):
            return 4.0

    sizes = {}
    for name, v in VARIANTS.items():
        model = json.dumps(v.settings(128, 4))
        config = TrainConfig(steps=1, architecture=v.architecture, model=model, max_points=96)
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in fresh_network(config, Data()).parameters())
    assert sizes["unet_published"] > 20_000_000  # "2 blocks" of the paper's code, and a class embedding
    assert max(sizes[name] for name in ("birnn", "unet")) < 1.2 * sizes[BASE]
    assert min(sizes.values()) == sizes[BASE]
