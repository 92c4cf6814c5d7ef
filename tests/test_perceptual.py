"""The perceptual distance: the lpips package's figures, exact answers, gradients, two kinds of features."""

from __future__ import annotations

import math

import pytest
import torch

from sketch_core.hub import find_weights, load_weights
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.models.vgg import VGG16, VGG16Config, from_public
from sketch_core.perceptual import Perceptual, photo_perceptual, sketch_perceptual
from sketch_core.weight_file import write_weights
from tests.tiny import normal

SMALL = VGG16Config(widths=(4, 6, 8), depths=(2, 1, 2))


def same(maps):
    """Features that are their own maps."""
    return maps


def small_vgg(seed: int = 0) -> VGG16:
    network = VGG16(SMALL)
    for i, parameter in enumerate(network.parameters()):
        parameter.data = normal(*parameter.shape, seed=seed + i) * 0.3
    for weight in network.linear_weights():
        weight.data.abs_()
    return network.eval().requires_grad_(False)


def classifier(size: int = 48) -> SketchClassifier:
    torch.manual_seed(0)
    config = SketchClassifierConfig(classes=3, size=size, stem=4, widths=(6, 8), depths=(1, 1))
    return SketchClassifier(config).eval().requires_grad_(False)


# ---- the arithmetic -------------------------------------------------------------------------------


def test_it_is_what_the_lpips_package_gives():
    """Frozen from lpips 0.1.4: its normalize_tensor, NetLinLayer and spatial_average on these numbers."""
    a = [normal(3, 5, 7, 6, seed=1).relu(), normal(3, 9, 3, 4, seed=2).relu()]
    b = [normal(3, 5, 7, 6, seed=3).relu(), normal(3, 9, 3, 4, seed=4).relu()]
    a[0][0, :, 0, 0] = 0
    a[1][0, :, 0, 0] = 0
    weights = [normal(5, seed=5).abs(), normal(9, seed=6).abs()]
    found = Perceptual(same, weights)(a, b)
    torch.testing.assert_close(found, torch.tensor([1.6855078, 1.8146769, 2.2228198]), rtol=0, atol=1e-6)


def test_with_weights_of_1_a_layer_is_2_minus_2_cosines():
    a, b = normal(2, 7, 1, 1), normal(2, 7, 1, 1, seed=1)
    wanted = 2 - 2 * torch.nn.functional.cosine_similarity(a[..., 0, 0], b[..., 0, 0])
    torch.testing.assert_close(Perceptual(same)([a], [b]), wanted)


def test_it_is_0_for_the_same_picture_symmetric_and_blind_to_the_length_of_features():
    a, b = [normal(2, 3, 4, 4)], [normal(2, 3, 4, 4, seed=1)]
    distance = Perceptual(same, [torch.tensor([1.0, 0.0, 2.0])])
    assert distance(a, a).tolist() == [0, 0]
    assert torch.equal(distance(a, b), distance(b, a))
    torch.testing.assert_close(distance([7 * a[0]], b), distance(a, b))
    changed = a[0].clone()
    changed[:, 1] *= 1e-9  # only through the length of the others
    assert (distance(a, b) > 0.1).all()


def test_a_weight_of_0_hides_a_channel():
    a = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    b = torch.tensor([math.sqrt(0.5), math.sqrt(0.5)]).reshape(1, 2, 1, 1)
    hidden = Perceptual(same, [torch.tensor([0.0, 1.0])])([a], [b])
    assert hidden.item() == pytest.approx(0.5)


def test_gradients_are_those_of_finite_differences_and_finite_where_features_are_nothing():
    def distance(a):
        return Perceptual(same, [torch.ones(3)])([a], [normal(2, 3, 2, 2, seed=9).double()])

    a = normal(2, 3, 2, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(distance, (a,))
    nothing = torch.zeros(2, 3, 2, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(Perceptual(same)([nothing.relu()], [normal(2, 3, 2, 2)]).sum(), nothing)
    assert grad.isfinite().all()


def test_a_description_can_be_kept():
    a, b = normal(2, 48, 48).abs(), normal(2, 48, 48, seed=1).abs()
    distance = sketch_perceptual(classifier())
    assert torch.equal(distance(a, b), distance.between(distance.describe(a), distance.describe(b)))


def test_what_is_refused():
    with pytest.raises(ValueError, match="a weight is below 0"):
        Perceptual(same, [torch.tensor([1.0, -0.1])])
    with pytest.raises(ValueError, match="got weights for 1 layers, the features have 2"):
        Perceptual(same, [torch.ones(1)]).describe([torch.ones(1, 1, 1, 1)] * 2)
    with pytest.raises(ValueError, match=r"ink must have shape \(B, H, W\)"):
        sketch_perceptual(classifier()).describe(torch.zeros(1, 1, 48, 48))
    with pytest.raises(ValueError, match=r"ink must have shape \(B, H, W\)"):
        photo_perceptual(small_vgg()).describe(torch.zeros(1, 3, 48, 48))


# ---- the sketch network's features ----------------------------------------------------------------


def test_feature_maps_end_in_the_features():
    network = classifier()
    ink = normal(2, 1, 48, 48).abs()
    maps = network.feature_maps(ink)
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 24, 24), (6, 12, 12), (8, 6, 6)]
    assert torch.equal(maps[-1].mean((2, 3)), network.features(ink))
    assert [m.shape[2] for m in network.feature_maps(normal(1, 1, 128, 128))] == [64, 32, 16]


def test_gradients_reach_the_ink():
    ink = normal(2, 48, 48).abs().requires_grad_()
    (grad,) = torch.autograd.grad(
        sketch_perceptual(classifier())(ink, normal(2, 48, 48, seed=1).abs()).sum(), ink
    )
    assert grad.isfinite().all()
    assert (grad.abs().amax((1, 2)) > 0).all()


@pytest.mark.weights
def test_to_the_embedded_network_a_drawing_looks_more_like_itself_bent_than_like_another():
    try:
        find_weights("recognizer")
    except ValueError:
        pytest.skip("the embedded weights are not there")
    from sketch_core.soft_raster import soft_raster

    box = torch.tensor([[8.0, 8.0], [40.0, 8.0], [40.0, 40.0], [8.0, 40.0], [8.0, 8.0]])
    bent = box + normal(5, 2)
    cross = torch.tensor([[8.0, 8.0], [40.0, 40.0], [24.0, 24.0], [40.0, 8.0], [8.0, 40.0]])
    ink = soft_raster(torch.stack([box, bent, cross]), torch.ones(3, 5), 48, line_width=1.5)
    distance = sketch_perceptual(load_weights("recognizer").model)
    near, far = distance(ink[[0, 0]], ink[[1, 2]])
    assert 0 < near < 0.6 * far


# ---- VGG-16 ---------------------------------------------------------------------------------------


def test_vgg_has_torchvision_s_keys_and_lpips_s_layers():
    network = VGG16(VGG16Config())
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # of torchvision's features
    expected = {f"features.{i}.{part}" for i in convolutions for part in ("weight", "bias")}
    expected |= {f"lin{i}.model.1.weight" for i in range(5)}
    assert set(network.state_dict()) == expected
    assert sum(p.numel() for name, p in network.named_parameters() if "features" in name) == 14_714_688
    assert [w.shape[0] for w in network.linear_weights()] == [64, 128, 256, 512, 512]


def test_maps_are_taken_after_the_last_relu_of_a_stage_of_scaled_colours():
    network, rgb = small_vgg(), normal(2, 3, 12, 12).clamp(-1, 1)
    maps = network(rgb)
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 12, 12), (6, 6, 6), (8, 3, 3)]
    assert all((m >= 0).all() for m in maps)
    x = (rgb - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
        :, None, None
    ]
    torch.testing.assert_close(maps[0], network.features[:4](x))
    torch.testing.assert_close(maps[2], network.features(x))


def test_photo_distance_weighs_the_stages_of_black_on_white():
    network = small_vgg()
    a, b = normal(2, 16, 16).abs().clamp(0, 1), normal(2, 16, 16, seed=1).abs().clamp(0, 1)

    def maps(ink):
        return network(1 - 2 * torch.stack([ink] * 3, 1))

    wanted = Perceptual(same, network.linear_weights())(maps(a), maps(b))
    torch.testing.assert_close(photo_perceptual(network)(a, b), wanted)
    assert (wanted > 0).all()


def test_public_weights_load_by_their_own_names():
    state = small_vgg(seed=7).state_dict()
    linear = {key: value for key, value in state.items() if key.startswith("lin")}
    vgg = {key: value for key, value in state.items() if key.startswith("features")}
    network = from_public({**vgg, "classifier.0.weight": torch.zeros(2, 2)}, linear, SMALL)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not network.training
    with pytest.raises(ValueError, match=r"lin0.model.1.weight is missing, wanted \(1, 4, 1, 1\)"):
        from_public(vgg, {}, SMALL)
    with pytest.raises(ValueError, match=r"features.0.weight has shape \(4, 3, 3, 3\), wanted \(64, 3"):
        from_public(vgg, linear)


def test_vgg_refuses():
    with pytest.raises(ValueError, match="as many numbers of 1 or more each"):
        VGG16Config(widths=(4, 5), depths=(1,))
    with pytest.raises(ValueError, match=r"a picture is \(3, 9\) pixels, wanted 4 or more a side"):
        small_vgg()(torch.zeros(1, 3, 3, 9))
    with pytest.raises(ValueError, match=r"rgb must have shape \(B, 3, H, W\)"):
        small_vgg()(torch.zeros(1, 1, 9, 9))


def test_vgg_is_a_file_like_any_other(tmp_path):
    state = small_vgg(seed=7)
    write_weights(tmp_path / "vgg.safetensors", state, {"license": "BSD-3-Clause"})
    found = load_weights(tmp_path / "vgg.safetensors").model
    a, b = normal(2, 16, 16).abs().clamp(0, 1), normal(2, 16, 16, seed=1).abs().clamp(0, 1)
    assert torch.equal(photo_perceptual(found)(a, b), photo_perceptual(state)(a, b))
