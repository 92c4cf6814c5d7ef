"""Making a model's shortcut: what is collected, what is learned, and the file that comes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sketch_core import __main__ as cli
from sketch_core.hub import sha256_of
from sketch_core.knitter import SketchModel, load, recognizability_file
from sketch_core.models.recognizability import Recognizability, RecognizabilityConfig
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.shortcut import Curve
from sketch_core.train import shortcut
from sketch_core.train.shortcut import Looks, collect, curve_of, figures_of, fit
from sketch_core.weight_file import read_file_metadata, write_weights
from tests.test_knitter import METADATA
from tests.tiny import normal, tiny_transformer


@pytest.fixture(scope="module")
def model() -> SketchModel:
    return SketchModel("tiny", tiny_transformer(), METADATA)


class Judge:
    """Recognizes a drawing the more, the more points it has; knows the classes in another order."""

    classes = ["cactus", "bus", "cat", "The Eiffel Tower"]

    def scores(self, sketches):
        rows = np.zeros((len(sketches), 4), np.float32)
        for row, sketch in zip(rows, sketches, strict=True):
            row[self.classes.index(sketch.label)] = sketch.num_points / 100
        return rows


def test_every_look_of_every_sketch_is_judged_for_its_own_class(model, monkeypatch):
    monkeypatch.setattr("sketch_core.knitter.BATCH", 4)
    looks = collect(model, Judge(), classes=["cat", "cactus"], count=3, steps=4, seed=2)
    assert looks.sketch.unique().tolist() == list(range(6))
    assert looks.t.unique().tolist() == [0.25, 0.5, 0.75, 1.0]
    assert len(looks.t) == 24
    torch.testing.assert_close(looks.r, (looks.length + 1) / 100)  # n rows are n + 1 points
    for row, n in enumerate(looks.length.tolist()):
        assert (looks.x[row, :n] != 0).any(-1).all()
        assert not looks.x[row, n:].any()
    alone = collect(model, Judge(), classes=["cat"], count=1, steps=4, seed=2)
    N = int(alone.length.max())
    assert torch.equal(alone.x, looks.x[looks.sketch == 0][:, :N])


def test_no_two_sketches_begin_in_the_same_noise(model):
    looks = collect(model, Judge(), classes=["cat", "cactus"], count=5, steps=1, seed=2)
    first = looks.x[:, :2].flatten(1)
    assert len(first.unique(dim=0)) == len(looks.sketch) == 10


def test_classes_that_the_recognizer_does_not_know_are_named(model):
    with pytest.raises(ValueError, match="the recognizer does not know dog. Leave them out with --classes"):
        collect(model, Judge(), classes=["dog"], count=1, steps=2)


def looks_of(sketches: int, times: int) -> Looks:
    """Sketches whose recognizability rises with time, more so for those that go down."""
    M, N = sketches * times, 12
    sketch = torch.arange(sketches).repeat_interleave(times)
    t = torch.linspace(1, 1 / times, times, dtype=torch.float64).repeat(sketches)
    wide = sketch % 2
    x = normal(M, N, 2) + 1.5 * torch.stack([0 * wide, wide], -1)[:, None]
    r = ((1 - t) * (0.2 + 0.6 * wide)).float()
    return Looks(x, torch.zeros(M, N, 3), t, torch.full((M,), N), sketch, r)


def test_the_classes_drawn_are_those_with_the_most_drawings(model, monkeypatch):
    monkeypatch.setattr(shortcut, "BEST", 2)  # 40 cats, 4 towers, 4 cacti
    assert shortcut.best_known(model) == ["cat", "The Eiffel Tower"]


def test_half_of_the_looks_are_mirrored():
    looks = looks_of(50, 4)
    turned = shortcut.mirrored(looks, torch.Generator().manual_seed(0))
    assert torch.equal(turned.x[..., 1], looks.x[..., 1])
    sides = (turned.x[..., 0] / looks.x[..., 0])[:, 0]
    assert set(sides.tolist()) == {1, -1}
    assert 60 < int((sides < 0).sum()) < 140


def test_the_curve_is_the_mean_at_each_time():
    curve = curve_of(looks_of(10, 4))
    assert curve.t == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert curve.r == pytest.approx([0, 0.125, 0.25, 0.375, 0.375])


def test_it_learns_of_each_sketch_what_time_alone_does_not_tell(monkeypatch):
    looks = looks_of(120, 6)
    torch.manual_seed(0)
    network = Recognizability(RecognizabilityConfig(width=16))
    before = figures_of(network, looks, curve_of(looks))
    monkeypatch.setattr(shortcut, "LR", 5e-3)  # a toy is learned faster
    fit(network, looks, epochs=70)
    after = figures_of(network, looks, curve_of(looks))
    assert after["mse"] < 0.25 * after["mse_by_time_alone"] < before["mse"]
    assert after["sketches"] == 120


def test_sketches_that_are_kept_back_do_not_train(monkeypatch):
    seen, watched, loss_of = [], [], shortcut.loss_of

    def listening(network, part):
        (seen if network.training else watched).extend(part.sketch.tolist())
        return loss_of(network, part)

    monkeypatch.setattr(shortcut, "loss_of", listening)
    fit(Recognizability(RecognizabilityConfig(width=8)), looks_of(10, 3), epochs=1)
    assert sorted(set(seen)) == [2, 3, 4, 7, 8, 9]
    assert sorted(set(watched)) == [1, 6]


def test_the_epoch_that_watched_best_is_kept(monkeypatch):
    """Sketches that are random have nothing to learn but time: later epochs only remember."""
    looks, found, loss_of = looks_of(40, 3), [], shortcut.loss_of
    looks = replace(looks, r=torch.rand(len(looks.r), generator=torch.Generator().manual_seed(1)))
    monkeypatch.setattr(shortcut, "LR", 2e-2)

    def listening(network, part):
        loss = loss_of(network, part)
        if not network.training:
            found.append(float(loss))
        return loss

    monkeypatch.setattr(shortcut, "loss_of", listening)
    network = Recognizability(RecognizabilityConfig(width=16, dropout=0.0))
    fit(network, looks, epochs=12)
    assert min(found) < found[-1]
    watch = looks.rows((looks.sketch % 5 == 1).nonzero()[:, 0])
    assert float(loss_of(network, watch).detach()) == pytest.approx(min(found), abs=1e-6)


@pytest.fixture
def files(tmp_path):
    """A model and a recognizer of its classes, small and untrained."""
    own, judge = tmp_path / "tiny.safetensors", tmp_path / "judge.safetensors"
    write_weights(own, tiny_transformer(), {k: getattr(METADATA, k) for k in ("scale", "classes", "lengths")})
    config = SketchClassifierConfig(classes=3, size=16, stem=8, kernel=3, widths=(16,), depths=(1,))
    torch.manual_seed(1)
    network = SketchClassifier(config)
    torch.nn.init.normal_(network.head.weight, std=3.0)
    write_weights(judge, network, {"classes": list(METADATA.classes)})
    return own, judge


def command(own, judge, *more) -> list[str]:
    few = ["--count", "4", "--steps", "4", "--epochs", "2", *map(str, more)]
    return ["train", "shortcut", "--model", str(own), "--recognizer", str(judge), *few]


def test_the_command_makes_a_file_beside_the_model_s_that_draws(files, capsys, monkeypatch):
    own, judge = files
    monkeypatch.setattr("sketch_core.shortcut.SMALLEST_CHANGE", -1.0)  # an untrained model draws nothing
    assert cli.main(command(own, judge)) == 0
    path = recognizability_file(own)
    says = read_file_metadata(path)
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: recognizability rises from ")
    assert "h_phi is off by" in out
    assert says.architecture == "recognizability"
    assert says.training["denoiser"] == sha256_of(own)
    assert says.trained_on == "12 drawings by tiny"
    assert says.command.endswith("--model tiny.safetensors --epochs 2 --count 4 --steps 4 --seed 0")
    assert Curve(says.figures["t"], says.figures["r"]).t[0] == 1
    assert load(own).sample("cat", schedule="shortcut", steps=3, guidance=1.0).calls == (3.0,)


def test_calibrating_keeps_the_network_and_follows_the_weights(files, capsys, monkeypatch):
    own, judge = files
    monkeypatch.setattr("sketch_core.shortcut.SMALLEST_CHANGE", -1.0)
    assert cli.main(command(own, judge)) == 0
    path = recognizability_file(own)
    before, kept = read_file_metadata(path), path.read_bytes()
    facts = {k: getattr(METADATA, k) for k in ("scale", "classes", "lengths")}
    write_weights(own, tiny_transformer(7), facts)  # trained on
    with pytest.raises(ValueError, match="was made from other weights"):
        load(own).draw("cat", schedule="shortcut")
    assert cli.main(command(own, judge, "--calibrate")) == 1
    assert "exists already. Add --force" in capsys.readouterr().err
    assert path.read_bytes() == kept
    assert cli.main(command(own, judge, "--calibrate", "--force")) == 0
    after = read_file_metadata(path)
    assert after.training["denoiser"] == sha256_of(own) != before.training["denoiser"]
    assert after.figures["r"] != before.figures["r"]
    assert "mse" in before.figures
    assert "mse" not in after.figures  # it may have learned from these very drawings
    assert "h_phi is as it was" in capsys.readouterr().out
    assert path.read_bytes()[-100_000:] == kept[-100_000:]  # the weights are what a file ends with
    assert load(own).draw("cat", schedule="shortcut", steps=2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--count", "0"], "count is 0, wanted 1 or more"),
        (["--epochs", "0"], "epochs is 0, wanted 1 or more"),
        (["--steps", "0"], "steps is 0, wanted a whole number"),
        (["--classes", "dgo"], "unknown class 'dgo'"),
        (["--classes", "cat"], "4 sketches are too few to learn from, wanted 5 or more. Raise --count"),
        (["--recognizer", "none.safetensors"], "none.safetensors"),
    ],
)
def test_absurd_options(files, capsys, options, complaint):
    assert cli.main(command(*files, *options)) == 1
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
    assert not recognizability_file(files[0]).exists()


def test_a_model_that_draws_nothing_to_recognize_gets_no_curve(files, capsys):
    own, judge = files
    network = SketchClassifier(
        SketchClassifierConfig(classes=3, size=16, stem=8, kernel=3, widths=(16,), depths=(1,))
    )
    torch.nn.init.zeros_(network.head.weight)
    write_weights(judge, network, {"classes": list(METADATA.classes)})
    assert cli.main(command(own, judge)) == 1
    assert "changes by 0.000 only" in capsys.readouterr().err
    assert not recognizability_file(own).exists()
