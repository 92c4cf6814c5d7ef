"""Distillation: a student's step leads where its teacher's steps lead; the file says how it is sampled."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from sketch_core import knitter
from sketch_core.data import write_npz
from sketch_core.denoisers import Condition, Prediction, bind, clean
from sketch_core.hub import read_metadata
from sketch_core.models.stroke_transformer import Known
from sketch_core.samplers import sample_ddim
from sketch_core.schedules import alpha_bar_cosine, placed
from sketch_core.train import command
from sketch_core.train.config import TrainConfig
from sketch_core.train.distil import DistilConfig, Distiller
from sketch_core.train.loop import train
from sketch_core.train.losses import masked_losses
from sketch_core.weight_file import load_file, write_weights

STUDENT = 4  # steps


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    rng = np.random.default_rng(0)
    for name, size in {"short": 9, "long": 20}.items():
        rows = [np.c_[rng.integers(-40, 40, (size, 2)), np.arange(size) == size - 1] for _ in range(24)]
        rows = [row.astype(np.int16) for row in rows]
        write_npz(folder / f"{name}.npz", {"train": rows, "valid": [rows[0]]})
    return folder


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory) -> Path:
    """A network that has learned a little, so that its classes differ."""
    out = tmp_path_factory.mktemp("teacher")
    train(TrainConfig(**usual(data), out=str(out), steps=30, lr=0.02, adam_lr=0.01, ema=0.0))
    return out / "weights.safetensors"


def usual(data: Path) -> dict:
    model = '{"width": 32, "depth": 1, "heads": 2}'
    return {"data": str(data), "precision": "fp32", "tokens": 160, "max_points": 32, "model": model}


def distiller(data: Path, teacher: Path, **options) -> Distiller:
    from sketch_core.data.dataset import StrokeDataset

    settings = {"steps": 1, "student_steps": STUDENT, "teacher": str(teacher), **options}
    c = DistilConfig(**usual(data), **settings)
    return Distiller(c, StrokeDataset.from_folder(data, "train"), None)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("at", range(1, STUDENT + 1))
def test_one_step_of_the_student_leads_where_three_of_the_teacher_s_lead(data, teacher, at, guidance):
    made = distiller(data, teacher, teacher_steps=3, guidance=guidance)
    generator = torch.Generator().manual_seed(at)
    length, label = torch.tensor([16, 9, 12, 16]), torch.tensor([0, 1, 0, 1])
    real = torch.arange(16) < length[:, None]
    x = torch.randn(4, 16, 2, generator=generator) * real[..., None]
    t = torch.full((4,), at / STUDENT)
    told = Condition(
        label, length, Known(torch.zeros(4, 16, 1), torch.zeros(4, 16, 2), torch.zeros(4, 16, 3))
    )
    nothing = torch.zeros(4, 16, dtype=torch.bool)
    points, pen = made.wanted(x, t, told, torch.zeros_like(x), torch.zeros_like(x), None, nothing)
    goal = clean("v", points, x, alpha_bar_cosine(t)) * real[..., None]
    once = step(x, t, (at - 1) / STUDENT, Prediction(goal, torch.zeros(4, 16, 3), torch.ones(4)), 1)
    guided = bind(
        made.teacher,
        told,
        alpha_bar_cosine,
        guidance=guidance,
        interval=(knitter.GUIDED[0], knitter.GUIDED[1]),
    )
    thrice = step(x, t, (at - 1) / STUDENT, guided, 3)
    assert torch.allclose(once.points * real[..., None], thrice.points * real[..., None], atol=2e-5)
    assert torch.allclose(pen[real], thrice.pen[real].softmax(-1), atol=1e-5)


def step(x, t, end, prediction, steps):
    """`steps` DDIM steps from t to `end`, by the sampler; where the points are then, and the last pens."""
    begin, seen = float(t[0]), []
    denoise = prediction if callable(prediction) else lambda x, t, active: prediction
    times = torch.linspace(begin, end, steps + 1, dtype=torch.float64)
    if end > 0:  # the sampler goes on to 0: what it has when it asks at `end` is where it was led
        times = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
    found = sample_ddim(denoise, x, alpha_bar_cosine, placed(times), start=begin, callback=seen.append)
    return found if end == 0 else Prediction(seen[-1].x, seen[-2].prediction.pen, found.calls)


def test_guidance_alone_is_the_guided_teacher_at_any_time(data, teacher):
    made = distiller(data, teacher, student_steps=0, guidance=2.5)
    assert torch.equal(made.times(torch.tensor([0.0, 0.3, 1.0]), shift=1.0), torch.tensor([0.0, 0.3, 1.0]))
    t = torch.tensor([0.02, 0.35, 0.6, 0.93])
    label, length = torch.tensor([0, 1, 2, 1]), torch.full((4,), 16)  # 2 is no class
    told = Condition(label, length, Known(*(torch.zeros(4, 16, width) for width in (1, 2, 3))))
    x = torch.randn(4, 16, 2, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(4, 16, dtype=torch.bool)
    points, pen = made.wanted(x, t, told, x, x, None, nothing)
    guided = bind(made.teacher, told, alpha_bar_cosine, guidance=2.5, interval=knitter.GUIDED)
    seen = guided(x, t, torch.arange(4))
    assert torch.allclose(clean("v", points, x, alpha_bar_cosine(t)), seen.points, atol=1e-5)
    assert torch.allclose(pen, seen.pen.softmax(-1), atol=1e-5)
    assert made.metadata()["sampling"] == {"guidance": 2.5, "guided": 2.5}


def test_a_teacher_with_guidance_in_it_is_guided_no_more(data, teacher, tmp_path):
    stored = load_file(teacher)
    facts = {name: getattr(stored.metadata, name) for name in ("scale", "classes", "lengths")}
    facts["sampling"] = {"guidance": 2.5, "guided": 2.5}
    write_weights(tmp_path / "guided.safetensors", stored.model, facts)
    again = distiller(data, tmp_path / "guided.safetensors", student_steps=0, guidance=2.5)
    plain = distiller(data, teacher, student_steps=0, guidance=1.0)
    x, t = torch.randn(2, 16, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.6])
    told = Condition(torch.tensor([0, 1]), torch.tensor([16, 16]))
    assert torch.equal(again.teach(x, t, told)[0], plain.teach(x, t, told)[0])


def test_what_is_known_leads_the_teacher(data, teacher):
    made = distiller(data, teacher, teacher_steps=2, guidance=1.0)
    x, truth = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(0)), torch.ones(2, 8, 2)
    told = Condition(
        torch.tensor([0, 1]),
        torch.tensor([8, 8]),
        Known(torch.ones(2, 8, 1), truth, torch.eye(3)[0].expand(2, 8, 3)),
    )
    t = torch.tensor([0.5, 0.25])
    all_known = torch.ones(2, 8, dtype=torch.bool)
    points, _ = made.wanted(x, t, told, truth, torch.zeros_like(x), None, all_known)
    assert torch.allclose(clean("v", points, x, alpha_bar_cosine(t)), truth, atol=1e-5)


def test_the_student_trains_at_its_own_times(data, teacher):
    made = distiller(data, teacher)
    u = torch.tensor([0.0, 0.1, 0.2499, 0.25, 0.6, 0.9999, 1.0])
    assert (made.times(u, shift=3.0) * STUDENT).tolist() == [1, 1, 1, 2, 3, 4, 4]


def test_probabilities_count_as_pens():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    pen = torch.tensor([[0, 1, 2, 0, 0], [2, 0, 0, 1, 1]])
    zero, real = torch.zeros(2, 5, 2), torch.ones(2, 5, dtype=torch.bool)
    hard = masked_losses(zero, logits, zero, pen, real, real, 10.0)
    soft = masked_losses(zero, logits, zero, torch.eye(3)[pen], real, real, 10.0)
    assert torch.allclose(hard.pen, soft.pen)


def test_a_student_begins_as_its_teacher_comes_nearer_and_says_how_it_is_drawn(data, teacher, tmp_path):
    losses = []
    options = {"student_steps": 2, "teacher_steps": 4, "guidance": 3.0, "teacher": str(teacher)}
    c = DistilConfig(
        **usual(data), **options, out=str(tmp_path), steps=60, warmup=1, place_weight=0.0, ema=0.5
    )
    made = train(c, Distiller, on_step=lambda run, report: losses.append(far(run)))
    assert np.mean(losses[-10:]) < 0.6 * losses[0]
    found = read_metadata(tmp_path / "weights.safetensors")
    own = {"sampler": "ddim", "schedule": "uniform", "steps": 2, "guidance": 3.0, "guided": 3.0}
    assert found.sampling == own
    assert found.trained_on.endswith("; distilled from weights.safetensors")
    words = shlex.split(found.command)
    assert words[:5] == ["python", "-m", "sketch_core", "train", "distil"]
    again = command.options_of(DistilConfig, "").parse_args(words[5:])
    assert (again.student_steps, again.teacher, again.guidance) == (2, "weights.safetensors", 3.0)
    model = knitter.load(tmp_path / "weights.safetensors")
    drawn = model.sample("short", count=2)
    assert drawn.calls == (2, 2)
    # resumed, it goes on as the same student
    assert train(DistilConfig(**{**vars(c), "steps": 61}), Distiller).step == made.step + 1


def far(run: Distiller) -> float:
    """The loss on one fixed batch."""
    with torch.no_grad():
        batch = run.batches[10**6]
        return float(run.losses(batch, slice(None), torch.Generator().manual_seed(0)).points)


def test_what_cannot_be_distilled_is_said(data, teacher, tmp_path):
    with pytest.raises(ValueError, match="student_steps is -1, wanted a whole number from 0 to 1000"):
        DistilConfig(data="x", steps=1, student_steps=-1)
    for guidance in (-1, 0):
        with pytest.raises(ValueError, match=f"guidance is {guidance}, wanted above 0, 100 at most"):
            DistilConfig(data="x", steps=1, guidance=guidance)
    for name in ("a", "b"):
        write_npz(tmp_path / f"{name}.npz", {"train": [np.ones((6, 3), np.int16)]})
    with pytest.raises(ValueError, match=r"weights.safetensors knows other classes than"):
        distiller(tmp_path, teacher)
    with pytest.raises(ValueError, match="is a sketch_classifier"):
        distiller(data, Path("recognizer"))
