"""The paper's denoiser: a 1-D U-Net over the features of each point, with the points in the channel axis.

SketchKnitter (Wang et al., ICLR 2023) lifts every offset from 2 to 128 numbers and then runs a U-Net
(Dhariwal & Nichol, 2021, arXiv:2105.05233) over `(B, N, 128)` with N as *channels*: convolutions slide along
the 128 features, never along the drawing. Names and shapes of the parameters are those of the published
training code, so its checkpoints load by key (`from_official_state`).

Limits: N is fixed by the weights and must be a multiple of 32; the cost grows with N squared; there is no
mask and no length, so a shorter drawing is padded with zeros. Published checkpoints know two pen states, have
no end of sketch, and do not say the scale of their offsets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schedules import ALPHA_BARS
from ..strokes import PenState, check_shape

GROUPS = 32  # of every group norm
NEVER = -1e4  # a logit no softmax can see, finite so that guidance and half precision may handle it


@dataclass(frozen=True)
class StrokeUNetConfig:
    points: int = 96  # N, points of a drawing and channels of the first level
    num_res_blocks: int = 3  # of a level on the way down, one more on the way up; published: 2 and 3
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)  # channels of each level, in multiples of N
    attention: tuple[int, ...] = ()  # levels with attention besides the middle; published: none
    heads: int = 4  # attention heads
    features: int = 128  # numbers a point is lifted to
    pen_states: int = 2  # 2: down, up (published); 3: down, up, end
    num_classes: int | None = None  # None: unconditional (published)
    timesteps: int = 1000  # T the noise was cut into in training; the network always sees 0..1000
    prediction: str = "eps"  # what the network's two numbers a point are: eps (published), v or x0
    schedule: str = "linear"  # alpha_bar it was trained with (published: linear); see schedules.ALPHA_BARS

    def __post_init__(self) -> None:
        for name in ("channel_mult", "attention"):  # JSON has no tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        levels = len(self.channel_mult)
        self._require(1 <= levels <= 6 and all(_whole(m, 1, 16) for m in self.channel_mult), "channel_mult")
        self._require(_whole(self.points, GROUPS, 512) and self.points % GROUPS == 0, "points")
        self._require(_whole(self.num_res_blocks, 1, 4), "num_res_blocks")
        distinct = len(set(self.attention)) == len(self.attention)
        self._require(distinct and all(_whole(level, 0, levels - 1) for level in self.attention), "attention")
        attended = {self.channel_mult[level] * self.points for level in (*self.attention, levels - 1)}
        divides = _whole(self.heads, 1, 64) and all(width % self.heads == 0 for width in attended)
        self._require(divides, "heads")
        self._require(_whole(self.features, 1, 1024) and self.features % 2**levels == 0, "features")
        self._require(_whole(self.pen_states, 2, 3), "pen_states")
        self._require(self.num_classes is None or _whole(self.num_classes, 1, 100_000), "num_classes")
        self._require(_whole(self.timesteps, 1, 1_000_000), "timesteps")
        self._require(self.prediction in ("eps", "v", "x0"), "prediction")
        self._require(self.schedule in list(ALPHA_BARS), "schedule")

    def _require(self, fits: bool, name: str) -> None:
        if not fits:
            raise ValueError(
                f"StrokeUNetConfig.{name} is {getattr(self, name)!r}, wanted {_WANTED[name]}. "
                f"Correct it in the config of the weights."
            )


_WANTED = {
    "points": "a multiple of 32, 32 to 512",
    "num_res_blocks": "1 to 4",
    "channel_mult": "one to six whole numbers, 1 to 16 each",
    "attention": "different levels counted from 0",
    "heads": "a divisor of the channels of every level with attention",
    "features": "up to 1024, and divisible by 2 once a level",
    "pen_states": "2 (down, up) or 3 (down, up, end)",
    "num_classes": "None, or 1 to 100000",
    "timesteps": "1 to 1000000",
    "prediction": "eps, v or x0",
    "schedule": " or ".join(ALPHA_BARS),
}


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


class Pointwise(nn.Conv1d):
    """A convolution of width 1, one matrix product a sketch.

    oneDNN's own splits its sums by the size of the batch; here a sketch is the same bits in any batch.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 1)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x (B, C, F), onto (B, C', F) to add to -> (B, C', F)"""
        weight, bias = self.weight.squeeze(-1).expand(len(x), -1, -1), self.bias.unsqueeze(-1)
        return torch.baddbmm(bias, weight, x) if onto is None else torch.baddbmm(onto, weight, x).add_(bias)


class ResBlock(nn.Module):
    """Two convolutions with the time between them (FiLM), added to the way past them.

    In place where autograd allows it: fresh memory costs more than the arithmetic on it.
    """

    def __init__(self, channels: int, out_channels: int, time_channels: int) -> None:
        super().__init__()
        # The numbers are part of the weights' names; those left out are steps without weights.
        self.in_layers = nn.ModuleDict(
            {"0": nn.GroupNorm(GROUPS, channels), "2": nn.Conv1d(channels, out_channels, 3, padding=1)}
        )
        self.emb_layers = nn.ModuleDict({"1": nn.Linear(time_channels, 2 * out_channels)})
        last = _zeroed(nn.Conv1d(out_channels, out_channels, 3, padding=1))
        self.out_layers = nn.ModuleDict({"0": nn.GroupNorm(GROUPS, out_channels), "3": last})
        self.skip_connection = None if channels == out_channels else Pointwise(channels, out_channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, C, F), time (B, 4N) after its activation -> (B, C', F)."""
        h = self.in_layers["2"](F.silu(self.in_layers["0"](x), inplace=True))
        scale, shift = self.emb_layers["1"](time).unsqueeze(-1).chunk(2, dim=1)
        h = torch.addcmul(shift, self.out_layers["0"](h), 1 + scale)
        h = self.out_layers["3"](F.silu(h, inplace=True))
        return h.add_(x) if self.skip_connection is None else self.skip_connection(x, h)


class Attention(nn.Module):
    """Self-attention over the features of one level, C channels each."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = Pointwise(channels, 3 * channels)
        self.proj_out = _zeroed(Pointwise(channels, channels))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, C, F) -> (B, C, F)"""
        qkv = self.qkv(self.norm(x)).unflatten(1, (self.heads, -1)).transpose(2, 3)
        q, k, v = qkv.chunk(3, dim=-1)  # (B, heads, F, C / heads) each
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj_out(h.transpose(2, 3).flatten(1, 2), x)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv1d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, C, F) -> (B, C, F / 2)"""
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, C, F) -> (B, C, 2 F)"""
        return self.conv(x.repeat_interleave(2, dim=-1))


class Lift(nn.Linear):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, N, 2) -> (B, N, F)"""
        return super().forward(x)


def _zeroed(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class StrokeUNet(nn.Module):
    """SketchKnitter's noise predictor: noisy offsets in, their noise and the pen out."""

    def __init__(self, config: StrokeUNetConfig) -> None:
        super().__init__()
        self.config = config
        n, time_channels = config.points, 4 * config.points
        self.time_embed = nn.Sequential(
            nn.Linear(n, time_channels), nn.SiLU(), nn.Linear(time_channels, time_channels)
        )
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, time_channels)

        def level_block(level: int, channels: int) -> list[nn.Module]:
            width = n * config.channel_mult[level]
            block: list[nn.Module] = [ResBlock(channels, width, time_channels)]
            if level in config.attention:
                block.append(Attention(width, config.heads))
            return block

        last = len(config.channel_mult) - 1
        down: list[list[nn.Module]] = [[Lift(2, config.features)]]
        widths = [n]  # of what every block on the way down hands across
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                down.append(level_block(level, widths[-1]))
                widths.append(n * mult)
            if level < last:
                down.append([Downsample(n * mult)])
                widths.append(n * mult)

        channels = widths[-1]
        middle = [
            ResBlock(channels, channels, time_channels),
            Attention(channels, config.heads),
            ResBlock(channels, channels, time_channels),
        ]

        up: list[list[nn.Module]] = []
        for level in range(last, -1, -1):
            for i in range(config.num_res_blocks + 1):
                block = level_block(level, channels + widths.pop())
                channels = n * config.channel_mult[level]
                if level > 0 and i == config.num_res_blocks:
                    block.append(Upsample(channels))
                up.append(block)

        self.input_blocks = nn.ModuleList(map(nn.ModuleList, down))
        self.middle_block = nn.ModuleList(middle)
        self.output_blocks = nn.ModuleList(map(nn.ModuleList, up))
        # Read by both heads: the channels are points again, the features run along the last axis.
        lower = _zeroed(nn.Linear(config.features, 2))
        self.out = nn.ModuleDict({"0": nn.GroupNorm(GROUPS, channels), "2": lower})
        self.pen_state_out = nn.ModuleDict({"0": nn.Linear(config.features, config.pen_states)})

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x       (B, N, 2) noisy offsets, zeros after the end of a shorter drawing.
        t       (B,) time as `model_time` counts it, 0..1000.
        labels  (B,) class numbers, below 0 for no class; None for no class at all.
        returns noise (B, N, 2) and pen logits (B, N, K), K = config.pen_states (see `lift_pen`).
        """
        check_shape("x", x, f"B {self.config.points} 2")
        check_shape("t", t, f"{len(x)}")
        time = self.time_embed(_sinusoids(t, self.config.points).to(x.dtype))
        if labels is not None:
            time = time + self._embed(labels, len(x))
        time = F.silu(time)  # every block begins with it

        handed: list[Tensor] = []
        h = x
        for block in self.input_blocks:
            h = _through(block, h, time)
            handed.append(h)
        h = _through(self.middle_block, h, time)
        for block in self.output_blocks:
            h = _through(block, torch.cat((h, handed.pop()), dim=1), time)
        return self.out["2"](F.silu(self.out["0"](h))), self.pen_state_out["0"](h)

    def _embed(self, labels: Tensor, count: int) -> Tensor:
        if self.config.num_classes is None:
            raise ValueError(
                "labels given to a stroke_unet that knows no classes. Leave them out, or load another."
            )
        check_shape("labels", labels, f"{count}")
        return self.label_emb(labels.clamp(min=0)) * (labels >= 0).unsqueeze(-1)


def _through(block: nn.ModuleList, h: Tensor, time: Tensor) -> Tensor:
    for layer in block:
        h = layer(h, time)
    return h


def _sinusoids(t: Tensor, dim: int) -> Tensor:
    """t (B,) -> (B, dim): cosines, then sines, of dim / 2 frequencies from 1 down to 1/10000 (exclusive)."""
    half = dim // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32)
    angles = t.float().unsqueeze(-1) * torch.exp(steps * (-math.log(10_000) / half))
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def model_time(t: Tensor, config: StrokeUNetConfig) -> Tensor:
    """t (B,) in [0, 1] -> (B,), what the network calls that time.

    Step i = 0 .. T - 1 of the published process has the noise of our t = (i + 1) / T, and the network is told
    i * 1000 / T.
    """
    return (t * config.timesteps - 1).clamp(min=0) * (1000 / config.timesteps)


def lift_pen(logits: Tensor) -> Tensor:
    """(B, N, 2) down, up or (B, N, 3) down, up, end -> (B, N, 3), columns by `PenState`.

    With two states the end is given a logit of `NEVER`: its probability is exactly 0.
    """
    if logits.ndim != 3 or logits.shape[-1] not in (2, 3):
        raise ValueError(
            f"pen logits have shape {tuple(logits.shape)}, wanted (B, N, 2) or (B, N, 3). "
            f"Give what the pen head returns."
        )
    if logits.shape[-1] == len(PenState):
        return logits
    return F.pad(logits, (0, 1), value=NEVER)


def from_official_state(state: object, *, heads: int = 4, timesteps: int = 1000) -> StrokeUNet:
    """The network of what a checkpoint of the published training code holds; `checkpoints.py` reads the file.

    heads, timesteps  what a checkpoint does not say: `--num_heads` and `--diffusion_steps` of its training.
    """
    weights = without_module_prefix(state)
    model = StrokeUNet(config_from_state_dict(weights, heads=heads, timesteps=timesteps))
    model.load_state_dict(weights)
    return model.eval()


def without_module_prefix(state: object) -> dict[str, Tensor]:
    """Weights by name, the `module.` of a data-parallel run taken off."""
    named = isinstance(state, Mapping) and all(isinstance(key, str) for key in state)
    if not named or not state or not all(isinstance(value, Tensor) for value in state.values()):
        hint = " It looks like the optimizer's file." if named and "param_groups" in state else ""
        raise ValueError(
            f"checkpoint is not a dictionary of tensors by name.{hint} "
            f"Give model*.pt or ema_*.pt of that run."
        )
    return {key.removeprefix("module."): value for key, value in state.items()}


def config_from_state_dict(
    state: Mapping[str, Tensor], *, heads: int = 4, timesteps: int = 1000
) -> StrokeUNetConfig:
    """The config whose network has exactly these names and shapes; an error names the first that differs."""
    for name in ("time_embed.0.weight", "input_blocks.0.0.weight", "pen_state_out.0.weight"):
        if name not in state or state[name].ndim != 2 or not state[name].numel():
            raise ValueError(
                f"weights have no matrix {name!r}, so they are not a stroke_unet's. "
                f"Give model*.pt or ema_*.pt of the published training code."
            )
    points = state["time_embed.0.weight"].shape[1]
    widths, counts, attention = _levels(state)
    if 0 in counts:
        raise ValueError(
            f"weights have no residual block at level {counts.index(0)}, part of a stroke_unet is missing. "
            f"Get the whole checkpoint again."
        )
    config = StrokeUNetConfig(
        points=points,
        num_res_blocks=counts[0],
        channel_mult=tuple(width // points for width in widths),
        attention=attention,
        heads=heads,
        features=state["input_blocks.0.0.weight"].shape[0],
        pen_states=state["pen_state_out.0.weight"].shape[0],
        num_classes=len(state["label_emb.weight"]) if "label_emb.weight" in state else None,
        timesteps=timesteps,
    )
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in StrokeUNet(config).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{len(wrong)} of {len(found)} weights do not fit a stroke_unet of {points} points: "
            f"{name!r} has shape {found.get(name, 'none')}, wanted {wanted.get(name, 'none')}. "
            f"Only the published U-Net with scale-shift norm and learned resampling can be loaded."
        )
    return config


def _levels(state: Mapping[str, Tensor]) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Channels and residual blocks of each level on the way down, and the levels with attention."""
    widths, counts, attention = [0], [0], []
    for i in range(1, len(state)):
        if f"input_blocks.{i}.0.op.weight" in state:
            widths.append(0)
            counts.append(0)
        elif (convolution := state.get(f"input_blocks.{i}.0.in_layers.2.weight")) is not None:
            widths[-1] = len(convolution)
            counts[-1] += 1
            if f"input_blocks.{i}.1.qkv.weight" in state and len(widths) - 1 not in attention:
                attention.append(len(widths) - 1)
        else:
            break
    return widths, counts, tuple(attention)
