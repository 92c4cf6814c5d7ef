"""The differentiable raster: its formula written out, gradients, `raster.py`, the same bits in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sketch_core import soft_raster as module
from sketch_core.data.ndjson import read_ndjson
from sketch_core.raster import sketch_to_array
from sketch_core.soft_raster import SHARP, soft_raster
from sketch_core.strokes import Sketch, fit
from tests.tiny import normal

DATA = Path(__file__).parent / "data"
SHARPNESS = [(2.0, SHARP), (1.0, 3.0), (4.0, 2.0)]  # line width and blur, pixels


def scribbles(B: int = 2, N: int = 9, side: float = 30.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (B, N, 2) all over a picture and somewhat beyond, pen probabilities (B, N); float64."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(B, N, 2, generator=generator, dtype=torch.float64) * (side + 8) - 4
    return points, torch.rand(B, N, generator=generator, dtype=torch.float64)


def written_out(points: Tensor, down: Tensor, size: int, line_width: float, blur: float) -> Tensor:
    """1 - exp(sum log1p(-p c)) over every pixel and segment, (B, size, size), by autograd's own hand."""
    row, column = torch.meshgrid(*2 * [torch.arange(size, dtype=points.dtype) + 0.5], indexing="ij")
    pixel = torch.stack([column, row], -1)[None, None]
    go = torch.nn.functional.pad(down[:, :-1], (1, 1))
    ink = torch.cat([down[:, :-1], (1 - go[:, 1:]) * (1 - go[:, :-1])], 1)[..., None, None]
    a, b = (
        torch.cat([part, points], 1)[:, :, None, None] for part in (points[:, :-1], points[:, 1:])
    )  # a dot leads from a point to itself
    length2 = (b - a).square().sum(-1)
    along = (((pixel - a) * (b - a)).sum(-1) / length2.clamp(min=1e-30)).clamp(0, 1)[..., None]
    d = ((pixel - a - along * (b - a)).square().sum(-1) + 1e-24).sqrt()

    def rise(u: Tensor) -> Tensor:
        u = u.clamp(-1, 1)
        return 0.5 + 15 / 16 * (u - 2 * u**3 / 3 + u**5 / 5)

    c = rise((line_width / 2 + d) / blur) + rise((line_width / 2 - d) / blur) - 1
    return 1 - torch.log1p(-ink * c * (1 - 1e-6)).sum(1).exp()


# ---- the formula ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("line_width", "blur"), SHARPNESS)
@pytest.mark.parametrize("size", [8, 29])
def test_it_is_the_formula_written_out_with_its_gradients(line_width, blur, size):
    points, down = (part.requires_grad_() for part in scribbles())
    ours = soft_raster(points, down, size, line_width=line_width, blur=blur)
    dense = written_out(points, down, size, line_width, blur)
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-12)
    weight = normal(2, size, size).double()
    found = torch.autograd.grad((ours * weight).sum(), (points, down))
    wanted = torch.autograd.grad((dense * weight).sum(), (points, down))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)
        assert mine.abs().max() > 1e-2


def test_in_float32_it_is_that_but_for_rounding():
    points, down = scribbles(B=3, N=20, side=64)
    wanted = written_out(points, down, 64, 2.0, SHARP)
    found = soft_raster(points.float(), down.float(), 64, line_width=2.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


def test_a_line_s_profile_is_a_blurred_box():
    """Across a long horizontal line, coverage is the share of the blurring kernel that falls on it."""
    points = torch.tensor([[[-40.0, 10.5], [80.0, 10.5]]], dtype=torch.float64)
    image = soft_raster(points, torch.ones(1, 2).double(), 32, line_width=3.0, blur=2.5)
    at = torch.linspace(-12, 12, 480001, dtype=torch.float64)
    kernel = 15 / 16 * (1 - (at / 2.5).clamp(-1, 1).square()).square() / 2.5
    wanted = [float(torch.trapezoid(kernel * ((at - d).abs() <= 1.5), at)) for d in range(6)]
    for d in range(6):
        for row in (10 + d, 10 - d):
            torch.testing.assert_close(
                image[0, row], torch.full((32,), wanted[d] * module.OPAQUE).double(), rtol=0, atol=1e-4
            )


def test_every_sketch_may_have_its_own_width_and_blur():
    points, down = scribbles()
    width, blur = torch.tensor([1.0, 4.0]), torch.tensor([SHARP, 5.0])
    both = soft_raster(points, down, 32, line_width=width, blur=blur)
    for i in range(2):
        one = soft_raster(points[i, None], down[i, None], 32, line_width=float(width[i]), blur=blur[i, None])
        torch.testing.assert_close(both[i], one[0], rtol=0, atol=1e-6)


def test_height_and_width_may_differ():
    points, down = scribbles()
    whole = soft_raster(points, down, 40, line_width=2.0)
    assert torch.equal(soft_raster(points, down, (40, 17), line_width=2.0), whole[:, :17])


# ---- the exact raster -----------------------------------------------------------------------------


def drawn(sketch: Sketch, size: int, line_width: float) -> Tensor:
    """A sketch through the soft raster, with a certain pen: (size, size)."""
    points = torch.tensor(np.concatenate(sketch.strokes)) * size / sketch.canvas[0]
    down = torch.cat([torch.arange(len(stroke)) < len(stroke) - 1 for stroke in sketch.strokes]).float()
    return soft_raster(points[None], down[None], size, line_width=line_width)[0]


@pytest.mark.parametrize(("size", "line_width"), [(48, 1.5), (128, 1.5), (128, 3.0), (256, 3.0)])
def test_a_sharp_drawing_is_that_of_the_exact_raster_within_tolerance(size, line_width):
    sketches = [fit(sketch, (255.0, 255.0), padding=20.0) for sketch in read_ndjson(DATA / "drawings.ndjson")]
    sketches = sketches[:: len(sketches) // 6]
    assert len(sketches) > 5
    errors = []
    for sketch in sketches:
        exact = torch.from_numpy(sketch_to_array(sketch, size, line_width=line_width, padding=None))
        errors.append((drawn(sketch, size, line_width) - exact).abs())
    error = torch.stack(errors)
    assert error.mean() < 0.01
    assert error.amax((1, 2)).max() < 0.5  # where a joint is counted twice
    assert (error > 0.1).double().mean() < 0.03


def test_dots_and_strokes_of_the_pen():
    dots = Sketch(([[60.0, 60.0]], [[180.0, 60.0]], [[60.0, 180.0], [180.0, 180.0]]))
    image = drawn(dots, 64, 4.0)
    exact = torch.from_numpy(sketch_to_array(dots, 64, line_width=4.0, padding=None))
    assert (image - exact).abs().max() < 0.12
    assert image[15, 15] > 0.9
    assert image[15, 30] == 0  # no line from dot to dot


# ---- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line_width", "blur", "pairs"), [*((*pair, 2**12) for pair in SHARPNESS), (2.0, SHARP, 11)]
)
def test_gradients_are_those_of_finite_differences(monkeypatch, pairs, line_width, blur):
    monkeypatch.setattr(module, "PAIRS", pairs)  # all at once, and in many small parts
    points, down = scribbles(N=4, side=14)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    seen = normal(15 * 15, 2).double()  # some mixtures of the pixels: a row of the Jacobian each

    def draw(points, down):
        return soft_raster(points, down, 15, line_width=line_width, blur=blur, mask=mask).flatten(1) @ seen

    assert torch.autograd.gradcheck(draw, (points.requires_grad_(), down.requires_grad_()))


def test_gradients_of_a_segment_without_length():
    """Its distance has a kink; ours is the mean of the two one-sided slopes, as a central difference is."""
    points = torch.tensor([[[5.2, 5.1], [5.2, 5.1], [9.0, 4.0], [2.0, 11.3]]], dtype=torch.float64)
    down = torch.tensor([[0.7, 0.4, 0.0, 0.0]], dtype=torch.float64)  # the last point is a dot

    seen = normal(15 * 15, 2).double()

    def draw(points, down):
        return soft_raster(points, down, 15, line_width=1.5, blur=2.0).flatten(1) @ seen

    assert torch.autograd.gradcheck(draw, (points.requires_grad_(), down.requires_grad_()), atol=1e-4)
    grad = torch.autograd.grad(draw(points, down).sum(), points)[0]
    assert grad[0, 0].abs().max() > 1e-3


def test_an_image_pulls_a_line_onto_its_own():
    """Descent from a line elsewhere, blur falling from coarse to fine, ends on the target's line."""
    wanted = torch.tensor([[[5.0, 22.0], [16.0, 9.0], [28.0, 16.0]]], dtype=torch.float64)
    down = torch.ones(1, 3, dtype=torch.float64)
    points = (wanted + torch.tensor([[[3.0, -2.0], [-2.0, 3.0], [-3.0, -3.0]]])).requires_grad_()
    descent = torch.optim.Adam([points], lr=0.5)
    for blur in (5.0, 2.5, 1.5):
        target = soft_raster(wanted, down, 32, line_width=2.0, blur=blur)
        for _ in range(15):
            found = soft_raster(points, down, 32, line_width=2.0, blur=blur)
            descent.zero_grad()
            (found - target).square().sum().backward()
            descent.step()
    assert (points - wanted).norm(dim=-1).max() < 0.5


def test_a_pen_is_pulled_towards_what_is_drawn():
    points = torch.tensor([[[4.0, 4.0], [28.0, 4.0], [28.0, 28.0]]])
    down = torch.tensor([[0.5, 0.5, 0.0]], requires_grad=True)
    target = soft_raster(points, torch.tensor([[1.0, 0.0, 0.0]]), 32, line_width=2.0)
    (soft_raster(points, down, 32, line_width=2.0) - target).square().sum().backward()
    assert down.grad[0, 0] < -1  # descent raises the first
    assert down.grad[0, 1] > 1  # and lifts the pen from the second
    assert down.grad[0, 2] == 0


# ---- masks, batches, memory -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30, 3.0])
def test_masked_points_are_not_looked_at(value):
    points, down = scribbles(N=9)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    spoilt = torch.where(mask[..., None], points, value).requires_grad_()
    odd = torch.where(mask, down, torch.nan).requires_grad_()
    image = soft_raster(spoilt, odd, 32, line_width=2.0, mask=mask)
    assert torch.equal(image[1], soft_raster(points[1:, :4], down[1:, :4], 32, line_width=2.0)[0])
    image.sum().backward()
    for grad in (spoilt.grad, odd.grad):
        assert not grad[1, 4:].any()
        assert grad[0].isfinite().all()
        assert grad[1, 0].any()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_and_its_gradient_are_the_same_bits_in_any_batch(threads):
    points, down = (part.float() for part in scribbles(B=7, N=12, side=50))
    weight = normal(7, 50, 50)

    def run(rows):
        p, d = (part[rows].clone().requires_grad_() for part in (points, down))
        image = soft_raster(p, d, 50, line_width=2.0, blur=3.0)
        return image, *torch.autograd.grad((image * weight[rows]).sum(), (p, d))

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = run(torch.arange(7))
        for rows in ([0], [3], [6], [5, 2], [6, 5, 4, 3, 2, 1, 0]):
            for alone, all_of_them in zip(run(rows), together, strict=True):
                assert torch.equal(alone, all_of_them[rows])
    finally:
        torch.set_num_threads(before)


def test_parts_change_no_bit(monkeypatch):
    points, down = (part.float().requires_grad_() for part in scribbles(B=2, N=8, side=30))
    results = []
    for pairs in (2**12, 7):
        monkeypatch.setattr(module, "PAIRS", pairs)
        image = soft_raster(points, down, 30, line_width=2.0)
        results.append((image, *torch.autograd.grad(image.square().sum(), (points, down))))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_what_is_kept_for_backward_does_not_grow_with_pixels_times_segments():
    points, down = scribbles(B=2, N=100, side=250)
    kept = []

    def pack(value):
        kept.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        soft_raster(points.requires_grad_(), down.requires_grad_(), 250, line_width=2.0)
    assert sum(kept) < 4 * 2 * 256**2  # a few images; pixels times segments is 100 of them


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_what_lies_off_the_picture_leaves_no_ink(x, y):
    points = torch.tensor([[[x, y], [x + 10, y]]], dtype=torch.float64)
    image = soft_raster(points, torch.ones(1, 2).double(), 16, line_width=2.0)
    near = -2 < y < 18 and -12 < x < 18
    assert near or not image.any()
    assert image.isfinite().all()


def test_nothing_to_draw():
    assert not soft_raster(torch.zeros(2, 0, 2), torch.zeros(2, 0), 16, line_width=2.0).any()
    assert soft_raster(torch.zeros(0, 5, 2), torch.zeros(0, 5), 16, line_width=2.0).shape == (0, 16, 16)
    nobody = torch.zeros(1, 3, dtype=torch.bool)
    points = torch.ones(1, 3, 2, requires_grad=True)
    image = soft_raster(points, torch.ones(1, 3), 16, line_width=2.0, mask=nobody)
    assert not image.any()
    image.sum().backward()
    assert not points.grad.any()


# ---- what is refused ------------------------------------------------------------------------------


def test_what_is_refused():
    points, down = scribbles()
    with pytest.raises(ValueError, match=r"points must have shape \(B, N, 2\), got \(9, 2\)"):
        soft_raster(points[0], down, 16, line_width=2.0)
    with pytest.raises(ValueError, match=r"down must have shape \(2, 9\), got \(2, 8\)"):
        soft_raster(points, down[:, 1:], 16, line_width=2.0)
    with pytest.raises(ValueError, match=r"line_width is 0.0, wanted a number of pixels above 0"):
        soft_raster(points, down, 16, line_width=0.0)
    with pytest.raises(ValueError, match=r"blur is \[1.0, 2.0, 3.0\], wanted .* each of 2 sketches"):
        soft_raster(points, down, 16, line_width=1.0, blur=torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"size is 0 x 0 pixels, wanted 1 to 8192 each"):
        soft_raster(points, down, 0, line_width=1.0)
    points[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match=r"a coordinate that is no finite number. Mask it, or lower"):
        soft_raster(points, down, 16, line_width=1.0)
