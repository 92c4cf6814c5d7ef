"""The training loop: it learns, resumes to the bit, is the same in two processes, and says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sketch_core import __main__ as cli
from sketch_core import knitter
from sketch_core.data import write_npz
from sketch_core.data.dataset import StrokeDataset
from sketch_core.hub import load_weights, read_metadata
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.train import command
from sketch_core.train.config import RANGES, TrainConfig
from sketch_core.train.loop import lr_factor, train
from sketch_core.train.trainer import Trainer
from sketch_core.weight_file import Metadata, write_weights

ROOT = Path(__file__).parent.parent
SMALL = {
    "stroke_transformer": '{"width": 32, "depth": 1, "heads": 2}',
    "stroke_unet": '{"points": 32, "features": 32, "num_res_blocks": 1, "channel_mult": [1]}',
    "stroke_birnn": '{"width": 24, "depth": 1}',
}
every = pytest.mark.parametrize("architecture", sorted(SMALL))


def shape(corners: int, seed: int) -> np.ndarray:
    """A regular polygon, closed, and a dash beside it: corners + 2 rows."""
    rng = np.random.default_rng([corners, seed])
    angle = np.linspace(0, 2 * np.pi, corners + 1) + 0.1 * rng.standard_normal()
    points = 100 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 2, (corners + 1, 2))
    points = np.concatenate([points, [[120, 0], [150, 0]]])
    rows = np.zeros((corners + 2, 3), np.int16)
    rows[:, :2] = np.diff(points.round(), axis=0)
    rows[[corners - 1, -1], 2] = 1
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    for name, corners in {"square": 4, "the_circle": 18}.items():
        drawings = [shape(corners, i) for i in range(30)]
        write_npz(folder / f"{name}.npz", {"train": drawings[:24], "valid": drawings[24:]})
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(data: Path, out: Path | str = "unused", **options) -> TrainConfig:
    architecture = options.get("architecture", "stroke_transformer")
    usual = {"data": str(data), "out": str(out), "precision": "fp32", "tokens": 224, "max_points": 32}
    usual |= {"warmup": 5, "steps": 20, "model": SMALL[architecture]}
    return TrainConfig(**(usual | options))


def trainer(data: Path, *, rank: int = 0, world: int = 1, **options) -> Trainer:
    splits = [StrokeDataset.from_folder(data, split) for split in ("train", "valid")]
    return Trainer(config(data, **options), *splits, rank=rank, world=world)


def stop_at(step: int):
    """What `train` asks before every step: it says stop when it was asked `step` times before."""
    asked = iter(range(step))
    return lambda: next(asked, None) is None


def assert_same(a, b, where: str = ""):
    """Tensors to the bit, in dictionaries and lists of any depth."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}.{i}")
    else:
        assert a == b, where


# ---- learning


@every
def test_it_learns(data, architecture):
    run = trainer(data, architecture=architecture, ema=0.9, known=0.2, adam_lr=1e-2)
    before = run.validate(4)
    for _ in range(50):
        run.one_step()
    after = run.validate(4)
    assert after["valid_points"] < 0.8 * before["valid_points"]
    assert after["valid_pen"] < 0.6 * before["valid_pen"]
    assert run.drawings == sum(len(run.batches[k].length) for k in range(50))


@every
def test_padding_teaches_nothing(data, architecture):
    run = trainer(data, architecture=architecture, drop=0.0)
    k = next(k for k in range(50) if run.batches[k].length[0] < run.batches[k].points.shape[1])
    batch = run.batches[k]

    def losses():
        return vars(run.losses(batch, slice(None), torch.Generator().manual_seed(3)))

    before = losses()
    past = torch.arange(batch.points.shape[1]) >= batch.length[:, None]
    batch.points[past], batch.pen[past] = 1e3, 0
    assert losses() == before
    batch.points[0, 0] += 1
    assert losses() != before


def test_dropped_classes_and_known_points_reach_the_network(data, monkeypatch):
    heard = []

    def losses(known, class_dropout, clean_class=False):
        run = trainer(data, known=known, class_dropout=class_dropout)
        real_run = run.run
        run.run = lambda network, x, t, told: heard.append(told) or real_run(network, x, t, told)
        for k in range(6):
            run.losses(run.batches[k], slice(None), torch.Generator().manual_seed(k), clean_class=clean_class)
        parts = []
        for told in heard:
            points, pens = (part.any(-1).any(-1) for part in (told.known.flag, told.known.pen))
            parts.append((told.label == 2, points, pens & ~points))
        heard.clear()
        return (float(torch.cat(part).float().mean()) for part in zip(*parts, strict=True))

    assert list(losses(0.0, 0.0)) == [0, 0, 0]
    assert list(losses(1.0, 1.0, clean_class=True)) == [0, 0, 0]
    dropped, points, only_pens = losses(1.0, 1.0)
    assert dropped == 1
    assert points + only_pens > 0.8  # a share of nearly nothing gives no point
    assert 0.1 < only_pens < 0.45


def test_what_is_given_of_a_drawing_is_its_own(data):
    """Pens of the points that are given, or else of all."""
    run, heard = trainer(data, known=1.0), []
    real_run = run.run
    run.run = lambda network, x, t, told: heard.append(told) or real_run(network, x, t, told)
    for k in range(6):
        batch = run.batches[k]
        run.losses(batch, slice(None), torch.Generator().manual_seed(k))
        flag, _, pen = heard.pop().known
        real = (torch.arange(batch.points.shape[1]) < batch.length[:, None])[..., None]
        own = torch.nn.functional.one_hot(batch.pen, 3) * real
        only = ~flag.any(1, keepdim=True) & pen.any(-1, keepdim=True).any(1, keepdim=True)
        assert torch.equal(pen, own * torch.where(only, torch.ones_like(flag), flag))


def test_known_points_do_not_count_and_known_pens_do(data, monkeypatch):
    def losses(points: bool, pens: bool):
        def given(length, N, generator):
            real = torch.arange(N) < length[:, None]
            return real & points, real & pens

        monkeypatch.setattr("sketch_core.train.trainer.random_known", given)
        run = trainer(data, known=1.0)
        found = run.losses(run.batches[0], slice(None), torch.Generator().manual_seed(0))
        return {name: float(value.detach()) for name, value in vars(found).items()}

    assert set(losses(True, True).values()) == {0.0}
    nothing, pens = losses(False, False), losses(False, True)
    assert all(value > 0 for value in pens.values())
    assert pens["pen"] != nothing["pen"]


def test_parts_of_any_size_make_the_same_step(data):
    """Rows that do not divide by the parts are taken in parts of nearly the same size, none left out."""
    whole, parts = trainer(data), trainer(data, accumulate=3)
    sizes = [len(whole.batches[k].length) for k in range(4)]
    assert any(size % 3 for size in sizes)
    for _ in sizes:
        ours, theirs = (torch.stack(list(vars(run.one_step()).values())) for run in (parts, whole))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    for (name, p), q in zip(whole.network.named_parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-3, msg=name)


def test_too_many_parts_are_refused(data):
    with pytest.raises(
        ValueError, match=r"tokens is 224: a batch holds 7 of .* too few for 8 parts .* Raise"
    ):
        trainer(data, accumulate=4, world=2)


def test_the_learning_rate_falls_over_the_last_share():
    c = TrainConfig(steps=1, decay=0.25)
    assert [lr_factor(c, done) for done in (0, 0.5, 0.75)] == [1, 1, 1]
    assert lr_factor(c, 0.875) == pytest.approx(0.525)
    assert lr_factor(c, 1.0) == pytest.approx(0.05)
    assert lr_factor(dataclasses.replace(c, decay=0.0), 0.99) == 1


def test_time_shift_moves_training_to_noise(data):
    def times(shift):
        run, heard = trainer(data, time_shift=shift), []
        real_run = run.run
        run.run = lambda network, x, t, told: heard.append(t) or real_run(network, x, t, told)
        for k in range(10):
            run.losses(run.batches[k], slice(None), torch.Generator().manual_seed(k))
        return torch.cat(heard).mean()

    assert times(1.0) == pytest.approx(0.5, abs=0.02)
    assert times(3.0) == pytest.approx(0.676, abs=0.02)  # the integral of 3 u / (1 + 2 u): 1.5 - 0.75 ln 3


# ---- saving and going on


@every
def test_a_resumed_run_is_the_same_to_the_bit(data, tmp_path, architecture):
    options = {"architecture": architecture, "decay": 0.6}
    straight, broken = config(data, tmp_path / "a", **options), config(data, tmp_path / "b", **options)
    train(straight)
    assert train(broken, stop=stop_at(9)).step == 9
    assert train(broken).step == 20
    a, b = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in "ab")
    for state in (a, b):
        assert state["progress"].pop("seconds") > 0
        state["config"].pop("out")
    assert_same(a, b)
    assert any(value.any() for value in a["optimizers"][0]["state"][0].values())
    weights = [load_weights(tmp_path / run / "weights.safetensors").model.state_dict() for run in "ab"]
    assert_same(*weights)
    assert_same(weights[0], a["average"])
    assert any(not torch.equal(a["average"][name], a["network"][name]) for name in a["average"])


def test_a_checkpoint_keeps_its_scale_when_the_data_grow(data, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    for path in data.glob("*.npz"):
        write_npz(small / path.name, {"train": [shape(5, 0) // 2], "valid": [shape(5, 1) // 2]})
    first = train(config(data, tmp_path / "run", steps=1))
    second = train(config(data, tmp_path / "run", steps=2, extra=str(small), lr=1e-3))
    assert second.train.scale() != first.scale
    assert second.scale == second.batches.scale == second.valid_batches.scale == first.scale
    assert read_metadata(tmp_path / "run/weights.safetensors").scale == first.scale
    assert len(second.train) == len(first.train) + 2
    assert {group["peak"] for group in second.optimizers[1].param_groups} == {1e-3}  # options of this run


def test_another_runs_checkpoint_is_refused(data, tmp_path):
    out = tmp_path / "run"
    train(config(data, out, steps=1))
    before = (out / "checkpoint.pt").read_bytes()
    for other in ({"model": '{"width": 16, "heads": 1}'}, {"architecture": "stroke_unet"}):
        with pytest.raises(ValueError, match="another network or other classes than asked for. Use another"):
            train(config(data, out, **other))
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for name, path in zip("ab", data.glob("*.npz"), strict=True):
        (renamed / f"{name}.npz").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="other classes than asked for"):
        train(config(renamed, out))
    assert (out / "checkpoint.pt").read_bytes() == before
    (out / "checkpoint.pt").write_bytes(before[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read .* Delete it to start anew"):
        train(config(data, out))


def test_checkpoints_and_sheets_appear_as_it_goes(data, tmp_path):
    sheets = []
    train(
        config(data, tmp_path, steps=3, checkpoint_minutes=0.0, sheet_minutes=0.0),
        draw_sheet=lambda weights, png: sheets.append((read_metadata(weights).training["steps"], png)),
    )
    assert sheets == [(step, tmp_path / f"sheet-{step:07d}.png") for step in (1, 2, 3)]


def test_minutes_are_those_of_the_clock(data, tmp_path):
    """A clock that is five seconds on at every look: one at the start, two a step."""
    seconds = iter(range(0, 1000, 5))
    reports = []
    options = config(data, tmp_path, steps=0, minutes=1.0, checkpoint_minutes=0.0)
    run = train(
        options, clock=lambda: next(seconds), on_step=lambda run, report: reports.append(report["done"])
    )
    assert run.step == 6
    assert reports == pytest.approx([(10 * k + 5) / 60 for k in range(6)])
    assert run.seconds == 60
    assert read_metadata(tmp_path / "weights.safetensors").training["seconds"] == 60


def test_every_hundredth_step_is_logged(data, tmp_path, monkeypatch):
    shares, one_step = [], Trainer.one_step

    def heard(self, factor):
        shares.append(one_step(self, factor))
        return shares[-1]

    monkeypatch.setattr(Trainer, "one_step", heard)
    reports = []
    options = config(data, tmp_path, steps=100, tokens=64)
    train(options, on_step=lambda run, report: reports.append((run.step, report["done"])))
    assert reports == [(step, (step - 1) / 100) for step in range(1, 101)]
    (line,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["points"] == pytest.approx(float(sum(loss.points for loss in shares)) / 100, abs=1e-5)
    assert line["step"] == 100
    assert line.keys() >= {"pen", "place", "seconds", "drawings", "drawings_per_second", "lr_factor"}


def test_the_weights_say_all_about_themselves(data, tmp_path):
    extra = tmp_path / "made by machine"
    extra.mkdir()
    write_npz(extra / "square.npz", {"train": [shape(4, 99)]})
    run = train(config(data, tmp_path / "run", steps=2, extra=str(extra), drop=0.0))
    found = read_metadata(tmp_path / "run/weights.safetensors")
    empty = {name for name in Metadata.__dataclass_fields__ if not getattr(found, name)}
    # `evaluate` measures; a student says how it is sampled; nothing was converted
    assert empty == {"figures", "sampling", "source", "source_sha256"}
    assert found.architecture == "stroke_transformer"
    assert found.config == dataclasses.asdict(run.network.config)
    assert found.scale == pytest.approx(run.train.scale())
    assert found.classes == ("square", "the circle")
    assert [len(counts) for counts in found.lengths] == [33, 33]
    assert (found.lengths[0][6], found.lengths[1][20]) == (25, 24)
    assert found.trained_on == "48 Quick, Draw! drawings and 1 of made by machine, 2 classes, train split"
    assert found.license == "CC-BY-4.0"
    assert found.training["steps"] == 2
    assert found.training["drawings_seen"] == run.drawings
    assert str(tmp_path) not in found.command
    words = shlex.split(found.command)
    assert words[:4] == ["python", "-m", "sketch_core", "train"]
    again = vars(command.parser().parse_args(words[4:]))
    same = dataclasses.asdict(run.config) | {"data": "quickdraw", "extra": extra.name, "out": again["out"]}
    assert again == same


@every
def test_drawings_come_from_the_weights(data, tmp_path, architecture):
    train(config(data, tmp_path, architecture=architecture, steps=2))
    model = knitter.load(tmp_path / "weights.safetensors")
    sketches = model.draw(["square", "the circle"], count=2, steps=3, guidance=2.0)
    assert [sketch.label for sketch in sketches] == ["square", "square", "the circle", "the circle"]
    assert [sum(map(len, sketch.strokes)) for sketch in sketches] == [7, 7, 21, 21]
    command.draw_sheet(tmp_path / "weights.safetensors", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


# ---- starting from weights


def test_init_goes_on_from_weights(data, tmp_path):
    first = train(config(data, tmp_path / "first", steps=3))
    weights = str(tmp_path / "first/weights.safetensors")
    second = trainer(data, init=weights, model="{}")
    assert_same(dict(second.network.named_parameters()), first.average)
    assert second.scale == first.scale
    assert second.step == 0
    before = second.network.blocks[0].up.weight.detach().clone()
    second.one_step()
    assert not torch.equal(second.network.blocks[0].up.weight, before)


def test_weights_with_noise_on_offsets_begin_a_network_with_noise_on_places(data, tmp_path):
    train(config(data, tmp_path / "first", steps=3))
    weights = str(tmp_path / "first/weights.safetensors")
    second = trainer(data, init=weights, model='{"noise": "places"}')
    learned, network = load_weights(weights).model, second.network
    assert network.config == dataclasses.replace(learned.config, noise="places", spread=network.config.spread)
    assert network.config.spread == pytest.approx(second.train.spread(), abs=1e-4)
    assert_same(network.blocks.state_dict(), learned.blocks.state_dict())
    x = torch.randn(1, 5, network.embed_point.in_features, generator=torch.Generator().manual_seed(0))
    own = x.clone()
    own[..., :2] /= network.config.spread
    torch.testing.assert_close(network.embed_point(own), learned.embed_point(x))
    assert not network.to_first.weight.any()
    second.one_step()
    with pytest.raises(ValueError, match="another network than --model asks for"):
        trainer(data, init=weights, model='{"noise": "places", "width": 64}')


def test_init_refuses_what_does_not_fit(data, tmp_path):
    train(config(data, tmp_path, steps=1))
    weights = str(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="knows other classes than"):
        train(config(data, tmp_path / "out", init=weights, classes="square"))
    with pytest.raises(ValueError, match="holds another network than --model asks for"):
        trainer(data, init=weights, model='{"width": 64}')
    with pytest.raises(ValueError, match="is a stroke_transformer, wanted a stroke_unet"):
        trainer(data, init=weights, architecture="stroke_unet")
    judge = tmp_path / "judge.safetensors"
    write_weights(judge, SketchClassifier(SketchClassifierConfig(classes=2)), {"license": "CC-BY-4.0"})
    with pytest.raises(ValueError, match="is a sketch_classifier, wanted a stroke_transformer. Set"):
        trainer(data, init=str(judge))
    with pytest.raises(ValueError, match="there is no weight file"):
        trainer(data, init=str(tmp_path / "none.safetensors"))
    assert not (tmp_path / "out").exists()


# ---- several processes

WORKER = """
import json, os, sys
import torch, torch.distributed as dist
from sketch_core.train.config import TrainConfig
from sketch_core.train.loop import train
torch.set_num_threads(1)
rank, store, options = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
from sketch_core.train.trainer import Trainer
shares, one_step = [], Trainer.one_step
def heard(self, factor):
    loss = one_step(self, factor)
    shares.append([float(loss.points), float(loss.pen), float(loss.place)])
    return loss
Trainer.one_step = heard
train(TrainConfig(**options))
with open(f"{store}.{rank}", "w") as file:
    json.dump(shares, file)
dist.barrier()
os._exit(0)  # gloo's threads now and then abort a process that tears them down
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_follow_one(data, tmp_path, monkeypatch):
    options = config(data, tmp_path / "two", steps=50, decay=0.3)
    environment = os.environ | {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", WORKER]
    processes = [
        subprocess.Popen(
            [*words, str(rank), str(tmp_path / "store"), json.dumps(dataclasses.asdict(options))],
            env=environment | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    alone, one_step = [], Trainer.one_step

    def heard(self, factor):
        loss = one_step(self, factor)
        alone.append([float(loss.points), float(loss.pen), float(loss.place)])
        return loss

    monkeypatch.setattr(Trainer, "one_step", heard)
    one = train(dataclasses.replace(options, out=str(tmp_path / "one")))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    shares = [json.loads(Path(f"{tmp_path / 'store'}.{rank}").read_text()) for rank in range(2)]
    assert len(alone) == 50
    np.testing.assert_allclose(np.sum(shares, axis=0), alone, rtol=0, atol=1e-4)
    assert np.min(np.divide(shares[0], alone)) < 0.45  # each process had its own rows, of uneven number
    weights = load_weights(tmp_path / "two/weights.safetensors").model.state_dict()
    for name, value in one.average.items():
        torch.testing.assert_close(
            weights[name], value, rtol=0, atol=3e-3, msg=name
        )  # Muon amplifies rounding


# ---- the command


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.partition("options:")[2].split())
    for option in dataclasses.fields(TrainConfig):
        name = "--" + option.name.replace("_", "-")
        switch = f"{name}, --no-{option.name}" if option.default is False else f"{name} [A-Z]+"
        assert re.search(rf" {switch} (?!--)\S+", shown), name
    assert "share of drawings that lose their class, for classifier-free guidance (default 0.1)" in shown


def failure(capsys, data, *options, status=1):
    """The one line that a refused command leaves on standard error."""
    try:
        found = cli.main(["train", "--data", str(data), *map(str, options)])
    except SystemExit as stop:
        found = stop.code
    out, err = capsys.readouterr()
    assert (found, out) == (status, "")
    assert err.startswith("sketch_core: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "neither minutes nor steps is given"),
        (["--minutes", "nan"], "minutes is nan, wanted a number from 0"),
        (["--steps", "-1"], "steps is -1, wanted a number from 0"),
        (["--steps", "1", "--known", "1.5"], "known is 1.5, wanted a number from 0 to 1."),
        (["--steps", "1", "--tokens", "0"], "tokens is 0, wanted a number from 1"),
        (["--steps", "1", "--precision", "fp8"], "precision is 'fp8', wanted bf16 or fp32"),
        (["--steps", "1", "--architecture", "gan"], "Known: stroke_transformer, stroke_unet, stroke_birnn."),
        (["--steps", "1", "--architecture", "sketch_classifier"], "unknown architecture 'sketch_classifier'"),
        (["--steps", "1", "--device", "warp"], "device 'warp' cannot be used here: "),
        (["--steps", "1", "--model", "{width: 3}"], "model is '{width: 3}', wanted JSON such as"),
        (["--steps", "1", "--model", "[3]"], "wanted JSON such as"),
        (["--steps", "1", "--model", '{"breadth": 3}'], "stroke_transformer has no setting breadth. Known: "),
        (["--steps", "1", "--model", '{"width": "wide"}'], "cannot be built"),
        (["--steps", "1", "--model", '{"width": 33}'], "width 33 does not split into"),
        (
            ["--steps", "1", "--model", '{"prediction": "noise"}'],
            "prediction is 'noise', wanted v, eps or x0",
        ),
        (["--steps", "1", "--model", '{"schedule": "steep"}'], "schedule is 'steep', wanted "),
        (["--steps", "1", "--model", '{"num_classes": 7}'], "num_classes is 7, training makes it 2"),
        (["--steps", "1", "--classes", "square,owl"], "no file for owl"),
        (["--steps", "1", "--extra", "nowhere"], "nowhere holds no .npz files"),
        (["--steps", "1", "--init", "none.safetensors"], "there is no weight file none.safetensors"),
    ],
)
def test_bad_options_are_one_sentence(data, tmp_path, capsys, options, message):
    assert message in failure(capsys, data, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-points", "64"], "max_points is 64, but the network has 32 points. Lower --max-points"),
        (["--max-points", "32", "--model", '{"pen_states": 2}'], "pen_states is 2, training makes it 3"),
        (["--max-points", "32", "--model", '{"points": 33}'], "StrokeUNetConfig.points is 33, wanted a mul"),
    ],
)
def test_bad_options_of_the_unet_are_one_sentence(data, tmp_path, capsys, options, message):
    usual = ["--steps", "1", "--architecture", "stroke_unet", "--model", SMALL["stroke_unet"]]
    assert message in failure(capsys, data, "--out", tmp_path / "out", *usual, *options)
    assert not (tmp_path / "out").exists()


def test_words_in_place_of_numbers_and_a_blocked_folder_are_one_sentence(data, tmp_path, capsys):
    assert "--steps" in failure(capsys, data, "--steps", "many", status=2)
    assert "--stops" in failure(capsys, data, "--stops", "3", status=2)
    (tmp_path / "file").write_text("mine")
    failure(capsys, data, "--steps", 1, "--tokens", 64, "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_every_number_has_bounds():
    numbers = {f.name for f in dataclasses.fields(TrainConfig) if type(f.default) in (int, float)}
    assert numbers == set(RANGES)


def command_line(data, out, *options) -> list[str]:
    words = ["train", "--data", data, "--out", out, "--model", SMALL["stroke_transformer"]]
    return [*map(str, words), *"--precision fp32 --tokens 128 --max-points 32".split(), *options]


def test_ctrl_c_saves_and_the_same_command_goes_on(data, tmp_path, capsys, monkeypatch):
    handlers = [signal.getsignal(number) for number in command.Interrupt.SIGNALS]
    hear = command.Progress.__call__

    def impatient(self, trainer, report):
        hear(self, trainer, report)
        if trainer.step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command.Progress, "__call__", impatient)
    argv = command_line(data, tmp_path, "--steps", "6")
    assert cli.main(argv) == 130
    printed, err = capsys.readouterr()
    assert printed.startswith("step 3, ")
    assert err == "sketch_core: stopped and saved; the same command goes on from there.\n"
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["step"] == 3
    assert read_metadata(tmp_path / "weights.safetensors").training["steps"] == 3
    assert [signal.getsignal(number) for number in command.Interrupt.SIGNALS] == handlers
    assert cli.main(argv) == 0
    printed, err = capsys.readouterr()
    assert printed.startswith("step 6, ")
    assert err == ""


def test_a_second_ctrl_c_does_not_wait():
    with command.Interrupt() as interrupt:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # nothing is to be saved yet
        assert not interrupt()
        signal.raise_signal(signal.SIGTERM)
        assert interrupt()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_progress_is_one_line_on_a_terminal(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli.main(command_line(data, tmp_path, "--steps", "4")) == 0
    shown = capsys.readouterr().err
    assert "\rstep 1    0%" in shown
    assert "\n" not in shown
    assert shown.rsplit("\r", 2)[1].strip() == ""
    assert shown.endswith("\r")
