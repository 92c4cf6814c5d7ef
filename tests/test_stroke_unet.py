"""The paper's network: the published one's numbers, its checkpoints, its sizes."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from sketch_core.checkpoints import read_official_checkpoint
from sketch_core.models.stroke_unet import (
    StrokeUNet,
    StrokeUNetConfig,
    config_from_state_dict,
    lift_pen,
    model_time,
    without_module_prefix,
)

GOLDEN = Path(__file__).parent / "data" / "stroke_unet_golden.safetensors"
TINY = StrokeUNetConfig(points=32, num_res_blocks=1, features=16)


def seeded_weights(model: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Weights that are a function of their name, shape and the seed alone; no layer is left at zero.

    PCG64's raw stream is the same on every machine and numpy; uniform in +-sqrt(3 / fan in), vectors +-0.1,
    and the scales of group norms around 1.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        raw = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(parameter.numel())
        uniform = (raw >> np.uint64(11)).astype(np.float64) / 2**52 - 1
        if parameter.ndim == 1:
            owner = model.get_submodule(name.rpartition(".")[0])
            is_scale = isinstance(owner, torch.nn.GroupNorm) and name.endswith("weight")
            values = 0.1 * uniform + is_scale
        else:
            values = uniform * math.sqrt(3 / parameter[0].numel())
        weights[name] = torch.from_numpy(values.astype(np.float32)).reshape(parameter.shape)
    return weights


def tiny(seed: int = 0, config: StrokeUNetConfig = TINY) -> StrokeUNet:
    model = StrokeUNet(config)
    model.load_state_dict(seeded_weights(model, seed))
    return model.eval()


def batch(config: StrokeUNetConfig, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, config.points, 2, generator=generator), torch.linspace(0, 999, count)


def golden() -> dict[str, tuple[dict, dict[str, torch.Tensor]]]:
    with safe_open(GOLDEN, "pt") as file:
        cases = json.loads(file.metadata()["cases"])
        return {
            name: (facts, {key: file.get_tensor(f"{name}.{key}") for key in facts["tensors"]})
            for name, facts in cases.items()
        }


@pytest.mark.parametrize("name", ["two_blocks", "three_blocks_classes", "attention"])
def test_the_published_network_gives_the_same_output(name):
    facts, tensors = golden()[name]
    model = StrokeUNet(StrokeUNetConfig(**facts["config"]))
    model.load_state_dict(seeded_weights(model, facts["seed"]), strict=True)
    assert list(model.state_dict()) == facts["names"]
    with torch.no_grad():
        noise, pen = model.eval()(tensors["x"], tensors["t"], tensors.get("labels"))
    torch.testing.assert_close(noise, tensors["noise"], rtol=0, atol=2e-5)
    torch.testing.assert_close(pen, tensors["pen"], rtol=0, atol=2e-5)
    assert noise.std() > 0.1  # the golden says something
    assert pen.std() > 0.1


@pytest.mark.parametrize(
    ("points", "blocks", "parameters"), [(96, 2, 20_334_276), (96, 3, 26_527_236), (192, 3, 105_953_412)]
)
def test_sizes_are_those_of_the_paper(points, blocks, parameters):
    with torch.device("meta"):
        model = StrokeUNet(StrokeUNetConfig(points=points, num_res_blocks=blocks))
        noise, pen = model(torch.zeros(2, points, 2), torch.zeros(2))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert noise.shape == pen.shape == (2, points, 2)


def test_a_checkpoint_is_read_with_its_config(tmp_path):
    model = tiny()
    path = tmp_path / "ema_0.9999_000100.pt"
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, path)
    loaded = read_official_checkpoint(path)
    assert loaded.config == TINY
    assert not loaded.training
    x, t = batch(TINY)
    with torch.no_grad():
        for ours, theirs in zip(loaded(x, t), model(x, t), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "config",
    [
        StrokeUNetConfig(),
        StrokeUNetConfig(points=192, num_res_blocks=2),
        StrokeUNetConfig(points=64, channel_mult=(1, 1, 2, 4), attention=(2, 3), heads=8, timesteps=100),
        StrokeUNetConfig(points=32, pen_states=3, num_classes=5, channel_mult=(2,)),
    ],
)
def test_config_is_told_by_the_shapes(config):
    with torch.device("meta"):
        state = StrokeUNet(config).state_dict()
    assert config_from_state_dict(state, heads=config.heads, timesteps=config.timesteps) == config


def test_config_survives_json():
    config = StrokeUNetConfig(attention=(1,))
    assert StrokeUNetConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("points", 100),
        ("points", 0),
        ("points", 32_000_000),
        ("points", 96.0),
        ("num_res_blocks", 0),
        ("channel_mult", ()),
        ("channel_mult", (1, 0)),
        ("attention", (4,)),
        ("heads", 5),
        ("features", 100),
        ("pen_states", 1),
        ("num_classes", 0),
        ("timesteps", 0),
        ("prediction", "noise"),
        ("schedule", "sigmoid"),
    ],
)
def test_config_refuses(field, value):
    with pytest.raises(ValueError, match=rf"StrokeUNetConfig\.{field} is .*, wanted .*\. Correct"):
        StrokeUNetConfig(**{field: value})


def test_other_weights_are_refused_by_name():
    state = tiny().state_dict()
    with pytest.raises(ValueError, match="no matrix 'time_embed.0.weight', so they are not a stroke_unet's"):
        config_from_state_dict({"blocks.0.weight": torch.zeros(2, 2)})
    bias, film = "middle_block.1.qkv.bias", "input_blocks.1.0.emb_layers.1.weight"
    with pytest.raises(ValueError, match=rf"1 of \d+ weights do not fit.*'{bias}' has shape none"):
        config_from_state_dict({name: tensor for name, tensor in state.items() if name != bias})
    with pytest.raises(ValueError, match=rf"'{film}' has shape \(32, 128\), wanted \(64, 128\)"):
        config_from_state_dict({**state, film: torch.zeros(32, 128)})
    with pytest.raises(ValueError, match="'penet.weight' has shape .*, wanted none"):
        config_from_state_dict({**state, "penet.weight": torch.zeros(1)})
    cut = {name: tensor for name, tensor in state.items() if not name.startswith("input_blocks.1.")}
    with pytest.raises(ValueError, match="no residual block at level 0, part of a stroke_unet is missing"):
        config_from_state_dict(cut)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    optimizer, text, code = tmp_path / "opt000100.pt", tmp_path / "text.pt", tmp_path / "code.pt"
    torch.save({"state": {}, "param_groups": []}, optimizer)
    text.write_text("not a checkpoint")
    torch.save({"weight": Path("anything")}, code)
    with pytest.raises(ValueError, match="looks like the optimizer's file. Give model"):
        read_official_checkpoint(optimizer)
    for path in (text, code):
        with pytest.raises(ValueError, match="is not a checkpoint of tensors only"):
            read_official_checkpoint(path)
    with pytest.raises(ValueError, match="not a dictionary of tensors by name"):
        without_module_prefix([torch.zeros(1)])


def test_a_tile_of_four_is_the_same_bits_in_any_batch():
    config = StrokeUNetConfig(points=96, num_res_blocks=2, channel_mult=(1, 2, 3))
    model = tiny(config=config)
    x, t = batch(config, 12)
    with torch.no_grad():
        whole = model(x, t)
        tiles = [model(a, b) for a, b in zip(x.split(4), t.split(4), strict=True)]
    for ours, theirs in zip(whole, zip(*tiles, strict=True), strict=True):
        assert torch.equal(ours, torch.cat(theirs))


def test_a_new_network_predicts_no_noise_and_learns():
    torch.manual_seed(0)
    model = StrokeUNet(StrokeUNetConfig(points=32, num_res_blocks=1, pen_states=3, num_classes=4))
    x, t = batch(model.config)
    labels = torch.tensor([0, 3, -1, 1])
    noise, pen = model(x, t, labels)
    assert not noise.any()
    assert pen.shape == (4, 32, 3)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    noise, pen = model(x, t, labels)
    ((noise - x).square().mean() + pen.logsumexp(-1).mean()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_gradients_are_right():
    config = StrokeUNetConfig(points=32, num_res_blocks=1, features=4, channel_mult=(1, 2))
    model = tiny(config=config).double()
    t = torch.tensor([10.0], dtype=torch.float64)
    x = batch(config, 1)[0].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x, t), (x,), fast_mode=True)
    name = "input_blocks.1.0.out_layers.3.weight"
    weight = model.state_dict()[name].clone().requires_grad_()

    def with_weight(weight):
        return torch.func.functional_call(model, {name: weight}, (x.detach(), t))

    assert torch.autograd.gradcheck(with_weight, (weight,), fast_mode=True)


def test_bfloat16_follows_x():
    model = tiny()
    x, t = batch(TINY)
    with torch.no_grad():
        exact = model(x, t)
        rough = model.bfloat16()(x.bfloat16(), t)
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.bfloat16
        torch.testing.assert_close(b.float(), a, rtol=0.05, atol=0.1)


def test_no_class_is_the_same_asked_two_ways():
    model = tiny(config=StrokeUNetConfig(points=32, num_res_blocks=1, features=16, num_classes=3))
    x, t = batch(model.config)
    with torch.no_grad():
        none = model(x, t)
        assert torch.equal(model(x, t, torch.full((4,), -1))[0], none[0])
        assert not torch.equal(model(x, t, torch.full((4,), 2))[0], none[0])
    with pytest.raises(ValueError, match="labels given to a stroke_unet that knows no classes"):
        tiny()(x, t, torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize(
    ("x", "t"), [((4, 33, 2), (4,)), ((4, 32, 3), (4,)), ((4, 32, 2), (3,)), ((4, 32, 2), (4, 1))]
)
def test_wrong_shapes_are_refused(x, t):
    with pytest.raises(ValueError, match=r"must have shape \("):
        tiny()(torch.zeros(x), torch.zeros(t))


def test_two_pen_states_are_lifted_to_three():
    logits = torch.tensor([[[2.0, -1.0], [0.5, 0.7]]])
    lifted = lift_pen(logits)
    assert lifted.shape == (1, 2, 3)
    assert torch.equal(lifted[..., :2], logits)
    torch.testing.assert_close(lifted.softmax(-1)[..., :2], logits.softmax(-1))
    assert not lifted.softmax(-1)[..., 2].any()
    assert lifted.half().isfinite().all()
    assert lift_pen(lifted) is lifted
    with pytest.raises(ValueError, match=r"pen logits have shape \(1, 2, 4\)"):
        lift_pen(torch.zeros(1, 2, 4))


def test_time_is_counted_as_published():
    thousand, hundred = StrokeUNetConfig(), StrokeUNetConfig(timesteps=100)
    steps = torch.arange(1000.0)
    torch.testing.assert_close(model_time((steps + 1) / 1000, thousand), steps, rtol=0, atol=1e-3)
    steps = steps[:100]
    torch.testing.assert_close(model_time((steps + 1) / 100, hundred), steps * 10, rtol=0, atol=1e-3)
    assert model_time(torch.zeros(1), thousand).item() == 0
