"""What training lowers: targets that lead back to the drawing, masks that hide, `place` by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sketch_core.denoisers import clean
from sketch_core.schedules import ALPHA_BARS
from sketch_core.strokes import PenState
from sketch_core.train.losses import masked_losses, noised, random_known, target


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("schedule", sorted(ALPHA_BARS))
@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
def test_a_network_that_hits_its_target_finds_the_drawing(prediction, schedule):
    x0, eps = draw(5, 7, 2), draw(5, 7, 2, seed=1)
    level = ALPHA_BARS[schedule](torch.tensor([0.0, 1e-5, 0.2, 0.5, 0.9]))
    x = noised(x0, eps, level)
    found = clean(prediction, target(prediction, x0, eps, level), x, level)
    torch.testing.assert_close(found, x0, rtol=0, atol=2e-4 if prediction == "eps" else 1e-5)


def test_noise_and_targets_are_the_formulas():
    x0, eps, level = torch.full((1, 1, 2), 2.0), torch.full((1, 1, 2), 3.0), torch.tensor([0.36])
    assert noised(x0, eps, level)[0, 0, 0] == pytest.approx(0.6 * 2 + 0.8 * 3)
    assert target("v", x0, eps, level)[0, 0, 0] == pytest.approx(0.6 * 3 - 0.8 * 2)
    assert torch.equal(target("eps", x0, eps, level), eps)
    assert torch.equal(target("x0", x0, eps, level), x0)
    assert torch.equal(noised(x0, eps, torch.tensor([1.0])), x0)
    assert torch.equal(noised(x0, eps, torch.tensor([0.0])), eps)
    with pytest.raises(ValueError, match="unknown prediction 'noise'. Known: v, eps, x0"):
        target("noise", x0, eps, level)


def batch():
    """Three sketches of 5, 3 and 1 points padded to 6; one prefix, one middle point and nothing known."""
    B, N = 3, 6
    real = torch.arange(N) < torch.tensor([5, 3, 1])[:, None]
    known = torch.zeros(B, N, dtype=torch.bool)
    known[0, :2] = known[1, 1] = True
    pen = torch.randint(0, 3, (B, N), generator=torch.Generator().manual_seed(4))
    return draw(B, N, 2), draw(B, N, 3, seed=1), draw(B, N, 2, seed=2), pen, real & ~known, real


def test_padded_and_known_points_do_not_count():
    points, logits, wanted, pen, free, real = batch()
    before = masked_losses(points, logits, wanted, pen, free, real, 9.0)
    hidden = ~free
    points[hidden], logits[hidden], wanted[hidden], pen[hidden] = 50.0, -30.0, 1e3, 0
    after = masked_losses(points, logits, wanted, pen, free, real, 9.0)
    assert vars(before) == vars(after)
    points[0, 2] += 1
    logits[0, 2, 1] += 1
    changed = masked_losses(points, logits, wanted, pen, free, real, 9.0)
    assert all(a != b for a, b in zip(vars(after).values(), vars(changed).values(), strict=True))


def test_no_gradient_reaches_what_does_not_count():
    points, logits, wanted, pen, free, real = batch()
    points.requires_grad_()
    logits.requires_grad_()
    found = masked_losses(points, logits, wanted, pen, free, real, 9.0)
    (found.points + found.pen + found.place).backward()
    assert not points.grad[~free].any()
    assert not logits.grad[~free].any()
    assert points.grad[free].all()
    assert logits.grad[free].all()


def test_losses_by_hand():
    """Errors of 1, 1 and -1 along x on three of four points, the second one known; 2 sketches' points: 5."""
    points = torch.zeros(1, 4, 2)
    points[0, :, 0] = torch.tensor([1.0, 9.0, 1.0, -1.0])
    real = torch.tensor([[True, True, True, True]])
    free = torch.tensor([[True, False, True, True]])
    pen = torch.tensor([[PenState.DOWN, PenState.UP, PenState.UP, PenState.END]])
    logits = torch.zeros(1, 4, 3)
    found = masked_losses(points, logits, torch.zeros(1, 4, 2), pen, free, real, 5.0)
    assert found.points == pytest.approx(3 / 10)
    assert found.pen == pytest.approx(3 * math.log(3) / 5)
    # where the offsets lead: 1, (known), 2, 1; squared, over the drawing's 4 points
    assert found.place == pytest.approx((1 + 4 + 1) / 4 / 10)


def test_a_batch_in_two_parts_has_the_sum_of_their_losses():
    whole = masked_losses(*batch(), 9.0)
    parts = [masked_losses(*(v[rows] for v in batch()), 9.0) for rows in (slice(0, 1), slice(1, 3))]
    for name, value in vars(whole).items():
        assert value == pytest.approx(float(sum(getattr(part, name) for part in parts)), rel=1e-5)


def test_known_points_are_a_prefix_a_run_or_scattered_or_only_pens_are():
    B, N = 4000, 48
    length = torch.full((B,), 40)
    length[::2] = 33
    real = torch.arange(N) < length[:, None]
    known, pens = random_known(length, N, torch.Generator().manual_seed(0))
    assert not (known | pens)[~real].any()
    only = (pens == real).all(1) & ~known.any(1)  # every pen, of a drawing none of whose points is given
    assert float(only.float().mean()) == pytest.approx(1 / 4, abs=0.03)
    assert torch.equal(pens[~only], known[~only])  # else a point is given whole, or not at all
    again = random_known(length, N, torch.Generator().manual_seed(0))
    assert torch.equal(known, again[0])
    assert torch.equal(pens, again[1])

    known, length = known[~only], length[~only]
    share = known.sum(1) / length
    for low in (0.0, 0.15, 0.3, 0.45, 0.6, 0.75):  # uniform in 0..0.9
        inside = ((share >= low) & (share < low + 0.15)).float().mean()
        assert float(inside) == pytest.approx(1 / 6, abs=0.035)
    assert float((known.sum(1) < length).float().mean()) > 0.99  # something is left to draw
    changes = torch.stack(
        [(row[1:n] != row[: n - 1]).sum() for row, n in zip(known, length.tolist(), strict=True)]
    )
    prefix = known[:, 0] & (changes == 1)
    gap = known[:, 0] & (changes == 2)
    assert 0.25 < float(prefix.float().mean()) < 0.45
    assert 0.15 < float(gap.float().mean()) < 0.4
    assert 0.2 < float((changes > 2).float().mean()) < 0.4
    begins = torch.stack([(~row).int().argmax() for row in known[gap]]) / 40
    assert float(begins.max()) > 0.7  # a gap may lie anywhere


def test_with_noise_on_places_their_errors_count_and_those_of_offsets_beside_them():
    wanted, pen = torch.zeros(1, 4, 2), torch.zeros(1, 4, dtype=torch.long)
    real = torch.tensor([[True, True, True, False]])
    points = torch.zeros(1, 4, 2)
    points[0, :, 0] = torch.tensor([2.0, -2.0, 4.0, 9.0])  # places 0, 2, 0 and 4 off
    found = masked_losses(points, torch.zeros(1, 4, 3), wanted, pen, real, real, 3.0, spread=2.0)
    assert float(found.points) == pytest.approx((1.5**2 + 0.5**2 + 1.5**2 + 2.5**2) / 2**2 / (2 * 3))
    assert float(found.place) == pytest.approx((1 + 1 + 4) / (2 * 3))
