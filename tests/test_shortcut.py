"""The shortcut: constant recognizers are fixed strides, curves place steps, h_phi learns and costs little."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sketch_core.denoisers import Prediction
from sketch_core.knitter import SketchModel, load, recognizability_file
from sketch_core.models import create_model
from sketch_core.models.recognizability import Recognizability, RecognizabilityConfig
from sketch_core.samplers import SAMPLERS, Step, looks
from sketch_core.shortcut import Curve, Recognize, Shortcut, lengths
from sketch_core.weight_file import write_weights
from tests.test_knitter import METADATA, same_drawing
from tests.tiny import normal, tiny_transformer


@pytest.fixture(scope="module")
def model() -> SketchModel:
    return SketchModel("tiny", tiny_transformer(), METADATA)


def network(seed: int = 0) -> Recognizability:
    torch.manual_seed(seed)
    made = Recognizability(RecognizabilityConfig(width=16))
    torch.nn.init.normal_(made.head[0].weight, std=0.5)  # a fresh one looks at the time alone
    return made


def step_of(*length: int, seed: int = 0) -> Step:
    """Sketches of so many points at different times, zero behind them as samplers keep them."""
    B, N = len(length), max(length)
    real = (torch.arange(N) < torch.tensor(length)[:, None])[..., None]
    x, pen = normal(B, N, 2, seed=seed) * real, normal(B, N, 3, seed=seed + 1) * real
    t = torch.linspace(0.1, 0.9, B, dtype=torch.float64)
    return Step(0, torch.arange(B), t, x, Prediction(x, pen, torch.ones(B)))


def rows(step: Step, which: list[int]) -> Step:
    """Some sketches of a step, in a batch as long as the longest of them."""
    N = int(lengths(step.x[which]).max())
    part = Prediction(step.x[which][:, :N], step.prediction.pen[which][:, :N], step.prediction.calls[which])
    return Step(step.index, step.active[which], step.t[which], part.points, part)


# ---- threshold -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("score", "stride"), [(1.0, 1), (0.0, 125)])
def test_a_constant_recognizer_is_a_fixed_stride_bit_for_bit(model, sampler, score, stride, monkeypatch):
    monkeypatch.setattr("sketch_core.shortcut.STEPS", 8 if score else 1000)  # a thousand steps take long
    whole = 8 if score else 1000
    shortcut = Shortcut(0.5, 7 if score else 125, lambda step: torch.full((len(step.t),), score))
    options = {"count": 3, "seed": 2, "sampler": sampler}
    ours = model.sample("cat", schedule=shortcut, **options)
    plain = model.sample(
        "cat",
        schedule=lambda step: torch.full((len(step.t),), stride / whole, dtype=torch.float64),
        **options,
    )
    assert torch.equal(ours.points, plain.points)
    assert torch.equal(ours.pen, plain.pen)
    assert ours.calls == plain.calls
    assert len(set(model.sample("cat", guidance=1.0, schedule=shortcut, **options).calls)) == 1


def test_single_steps_are_thousandths():
    clear = Shortcut(0.5, 40, lambda step: torch.tensor([0.5, 0.49]))  # the threshold itself is recognizable
    strides = clear(step_of(4, 5))
    assert strides.dtype == torch.float64
    assert strides.tolist() == [1 / 1000, 40 / 1000]


def test_every_sketch_keeps_its_own_pace_and_pays_for_itself(model):
    """Cats of an even number of points are recognizable from t = 1/2 on, the others never."""

    def recognize(step):
        return ((lengths(step.x) % 2 == 0) & (step.t < 0.5)).double()

    latent = model.sample("cat", count=6, schedule=Shortcut(0.5, 250, recognize), guidance=1.0, seed=1)
    even = [n % 2 == 0 for n in latent.length.tolist()]
    assert 0 < sum(even) < 6
    assert latent.calls == tuple(3 + 250.0 if own else 4.0 for own in even)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_the_network_a_sketch_is_byte_identical_in_any_batch(model, sampler):
    score = Recognize(network(3))
    middle = float(score(step_of(*range(3, 40, 4))).median())
    options = {"seed": 6, "sampler": sampler, "schedule": Shortcut(middle, 400, score)}
    options["schedule"] = Paced(options["schedule"])
    together = model.sample("cat", count=9, **options)
    assert len(set(together.calls)) > 1  # they do not go the same way
    for batch_size in (2, 4):
        other = model.sample("cat", count=9, batch_size=batch_size, **options)
        assert all(same_drawing(together, i, other, i) for i in range(9))
        assert other.calls == together.calls
    assert same_drawing(together, 7, model.sample("cat", start=7, **options), 0)


@dataclasses.dataclass(frozen=True)
class Paced:
    """A shortcut whose single steps are a twelfth, for tests that cannot wait."""

    shortcut: Shortcut

    def __call__(self, step):
        return self.shortcut(step).clamp(min=1 / 12)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"threshold": 1.5}, r"threshold is 1.5, wanted a recognizability in 0..1"),
        ({"threshold": math.nan}, r"threshold is nan"),
        ({"m": 0}, r"m is 0, wanted a whole number of steps, 1 to 1000"),
        ({"m": 2.5}, r"m is 2.5, wanted a whole number"),
        ({"m": 1001}, r"m is 1001"),
    ],
)
def test_absurd_shortcuts(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Shortcut(**options)


def test_a_shortcut_without_a_network_says_so(model):
    with pytest.raises(ValueError, match="no network to ask. Draw with a model, or give `recognize`"):
        Shortcut()(step_of(3))
    with pytest.raises(ValueError, match="tiny has no recognizability curve, which the shortcut needs. Make"):
        model.draw("cat", schedule=Shortcut())


def test_a_shortcut_reads_as_what_it_is():
    assert str(Shortcut(0.25, 30)) == "shortcut, threshold 0.25, jump 30"


# ---- budget ----------------------------------------------------------------------------------------


def test_steps_lie_at_equal_changes_of_recognizability():
    straight = Curve((1, 0), (0.1, 0.9))
    assert straight.times(4).tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    late = Curve((1, 0.5, 0.1, 0), (0.0, 0.0, 0.8, 0.8))  # all happens between 0.5 and 0.1
    times = late.times(5).tolist()
    assert times[0] == 1
    assert times[-1] == 0
    assert times[1:5] == pytest.approx([0.42, 0.34, 0.26, 0.18], abs=2e-3)
    falling = Curve((1, 0.5, 0), (0.0, 1.0, 0.5))  # what falls changes, too
    assert falling.times(3).tolist() == pytest.approx([1, 0.75, 0.5, 0], abs=2e-3)


@settings(max_examples=60)
@given(
    r=st.lists(st.floats(0, 1), min_size=2, max_size=20).filter(lambda r: max(r[1:]) > 0.05),
    steps=st.integers(1, 40),
)
def test_any_curve_gives_exactly_as_many_steps_as_asked(r, steps):
    curve = Curve(tuple(np.linspace(1, 0, len(r)).tolist()), tuple([0.0, *r[1:]]))
    times = curve.times(steps)
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (1, 0)
    assert (times.diff() < 0).all()


@pytest.mark.parametrize(
    ("t", "r"),
    [
        ((1, 0), (0.1,)),
        ((1,), (0.1,)),
        ((0.9, 0), (0, 1)),
        ((1, 0.5, 0.5, 0), (0, 0, 0, 1)),
        ((1, 0), (0, math.nan)),
    ],
)
def test_a_curve_that_makes_no_sense(t, r):
    with pytest.raises(ValueError, match=r"a recognizability curve of .* makes no sense"):
        Curve(t, r)


def test_a_flat_curve_has_nothing_to_place_by():
    with pytest.raises(ValueError, match=r"changes by 0.002 only .*: there is nothing to place steps by"):
        Curve((1, 0), (0.5, 0.502)).times(3)


@pytest.mark.parametrize("steps", [0, 2.5, 10_001])
def test_absurd_numbers_of_steps(steps):
    with pytest.raises(ValueError, match="wanted a whole number, 1 to 10000"):
        Curve((1, 0), (0, 1)).times(steps)


# ---- h_phi -----------------------------------------------------------------------------------------


def test_it_begins_as_a_function_of_time_alone():
    fresh, step = Recognize(Recognizability(RecognizabilityConfig(width=16))), step_of(5, 9)
    moved = dataclasses.replace(step, x=2 * step.x)
    assert torch.equal(fresh(step), fresh(moved))
    assert not torch.equal(fresh(step), fresh(dataclasses.replace(step, t=step.t / 2)))


def test_gradients_arrive_at_every_weight_and_training_lowers_the_loss():
    net, step = network(), step_of(5, 17, 9, 30)
    wanted = torch.tensor([0.1, 0.9, 0.4, 0.7])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        said = net(step.x, step.prediction.pen, step.t, lengths(step.x))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(said, wanted)
        loss.backward()
        silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == []
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    floor = float(torch.nn.functional.binary_cross_entropy(wanted, wanted))
    assert losses[-1] - floor < 0.2 * (losses[0] - floor)


def test_gradients_arrive_at_the_points():
    net, step = network(), step_of(6, 11)
    x = step.x.clone().requires_grad_()
    net(x, step.prediction.pen, step.t, lengths(step.x)).sum().backward()
    assert (x.grad[0, :6].abs().sum(-1) > 0).all()
    assert not x.grad[0, 6:].any()  # what lies behind the end does not matter


def test_points_pen_and_time_are_heard_and_padding_is_not():
    score, step = Recognize(network()), step_of(7, 16, 23)
    said = score(step)
    assert ((said > 0) & (said < 1)).all()
    longer = dataclasses.replace(
        step,
        x=torch.nn.functional.pad(step.x, (0, 0, 0, 30)),
        prediction=dataclasses.replace(
            step.prediction, pen=torch.nn.functional.pad(step.prediction.pen, (0, 0, 0, 30), value=5.0)
        ),
    )
    torch.testing.assert_close(score(longer), said, rtol=0, atol=1e-6)
    moved = dataclasses.replace(step, x=step.x * 1.5)
    lifted = dataclasses.replace(
        step, prediction=dataclasses.replace(step.prediction, pen=step.prediction.pen.flip(-1))
    )
    later = dataclasses.replace(step, t=step.t / 2)
    for other in (moved, lifted, later):
        assert ((score(other) - said).abs() > 1e-5).all()


def test_what_it_says_of_a_sketch_does_not_depend_on_the_others():
    score, step = Recognize(network()), step_of(*range(3, 60, 5))
    together = score(step)
    for which in ([0], [11], [4, 2], [7, 8, 9, 0, 1]):
        assert torch.equal(score(rows(step, which)), together[which])


def test_the_length_is_read_off_the_points():
    x = torch.zeros(3, 6, 2)
    x[0, :4] = 1
    x[1, 4, 1] = -2.0  # nothing before it moves
    assert lengths(x).tolist() == [4, 5, 0]


@pytest.mark.parametrize("field", ["width", "patch"])
def test_a_config_that_cannot_work_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 0, wanted at least 1"):
        create_model("recognizability", {field: 0})


def test_a_dropout_that_drops_all_is_refused():
    with pytest.raises(ValueError, match=r"dropout is 1.0, wanted a share in \[0, 1\)"):
        RecognizabilityConfig(dropout=1.0)


def test_it_is_small():
    assert sum(p.numel() for p in Recognizability(RecognizabilityConfig()).parameters()) < 60_000


# ---- the file beside the model's -------------------------------------------------------------------


CURVE = {"t": [1.0, 0.5, 0.0], "r": [0.0, 0.1, 0.9]}


@pytest.fixture
def stored(tmp_path):
    """A model in a file, and its shortcut's weights beside it, as the trainer leaves them."""
    path = tmp_path / "tiny.safetensors"
    write_weights(
        path, tiny_transformer(), {k: getattr(METADATA, k) for k in ("scale", "classes", "lengths")}
    )
    from sketch_core.hub import sha256_of

    facts = {"figures": CURVE, "training": {"denoiser": sha256_of(path)}}
    write_weights(recognizability_file(path), network(), facts)
    return path


def test_the_budget_of_a_model_is_its_curve_s(stored):
    model, seen = load(stored), []
    latent = model.sample("cat", count=2, schedule="shortcut", steps=6, guidance=1.0, on_step=seen.append)
    assert latent.calls == (6.0, 6.0)
    wanted = Curve(**CURVE).times(6)[:-1]
    assert [float(step.t[0]) for step in seen] == pytest.approx(wanted.tolist())
    heun = model.sample("cat", schedule="shortcut", steps=6, guidance=1.0, sampler="heun")
    assert heun.calls == (looks("heun", 6),)


def test_the_threshold_asks_the_model_s_own_network(stored):
    latent = load(stored).sample("cat", count=2, schedule=Shortcut(1.0, 200), guidance=1.0)
    assert latent.calls == (5.0, 5.0)  # nothing is ever sure


def test_weights_that_were_replaced_need_a_new_curve(stored):
    write_weights(
        stored, tiny_transformer(5), {k: getattr(METADATA, k) for k in ("scale", "classes", "lengths")}
    )
    with pytest.raises(ValueError, match=r"recognizability.tiny.safetensors was made from other weights"):
        load(stored).draw("cat", schedule="shortcut")


def test_a_model_without_a_curve_says_so_in_one_sentence(stored):
    recognizability_file(stored).unlink()
    with pytest.raises(
        ValueError, match=r"^tiny has no recognizability curve.* --model .*tiny.safetensors`.$"
    ):
        load(stored).draw("cat", schedule="shortcut")


def test_where_the_file_lies(tmp_path):
    assert recognizability_file(tmp_path / "stroke_transformer.quickdraw345.safetensors").name == (
        "recognizability.quickdraw345.safetensors"
    )
    assert recognizability_file(tmp_path / "mine.safetensors").name == "recognizability.mine.safetensors"
