"""The network that a training run begins with: a fresh one as data and options ask, or a weight file's."""

from __future__ import annotations

import dataclasses

from torch import nn

from ..data.dataset import StrokeDataset
from ..hub import load_weights
from ..models import create_model
from ..models.stroke_unet import GROUPS
from ..strokes import PenState
from .config import TrainConfig


def fresh_network(c: TrainConfig, data: StrokeDataset) -> nn.Module:
    """The network that the options describe, for the classes and lengths of the data."""
    settled = settled_by(c, data)
    if c.architecture == "stroke_unet":  # points are its channels, in whole groups
        settings = {"points": -(-c.max_points // GROUPS) * GROUPS}
    else:
        settings = {"max_points": c.max_points}
    settings |= c.settings()
    if settings.get("noise") == "places":
        settings.setdefault("spread", round(data.spread(), 4))
    for name, value in settled.items():
        if settings.get(name, value) != value:
            raise ValueError(
                f"model says {name} is {settings[name]!r}, training makes it {value}. Leave it out."
            )
    try:
        network = create_model(c.architecture, settings | settled)
    except TypeError as error:  # a text where a number belongs
        raise ValueError(
            f"model {c.model} cannot be built: {error}. See {c.architecture}'s config."
        ) from None
    _check_points(c, network)
    return network


def stored_network(c: TrainConfig, data: StrokeDataset) -> tuple[nn.Module, float]:
    """The network and scale of the weights that `init` names; other classes or networks are refused.

    Weights with noise on offsets may begin a network with noise on places: see `on_places`.
    """
    weights = load_weights(c.init)
    found = weights.metadata
    if found.architecture != c.architecture:
        raise ValueError(
            f"{c.init} is a {found.architecture}, wanted a {c.architecture}. "
            f"Set --architecture, or leave --init out."
        )
    if found.classes != data.classes:
        raise ValueError(f"{c.init} knows other classes than {c.data}. Start without --init.")
    config = dataclasses.asdict(weights.model.config)
    wanted = config | c.settings() | settled_by(c, data)
    if wanted.get("noise") == "places" and config["noise"] == "offsets":
        wanted["spread"] = c.settings().get("spread", round(data.spread(), 4))
        if describes(wanted | {name: config[name] for name in ("noise", "spread")}, weights.model):
            return on_places(create_model(c.architecture, wanted), weights.model), data.scale()
    if not describes(wanted, weights.model):
        raise ValueError(f"{c.init} holds another network than --model asks for. Leave one of the two out.")
    _check_points(c, weights.model)
    return weights.model.requires_grad_(True), found.scale


def on_places(network: nn.Module, learned: nn.Module) -> nn.Module:
    """A fresh network with noise on places, with all that one of the same shape learned on offsets.

    Offsets are in units of `spread` to it, and it says places instead of them, which it has yet to learn;
    what its blocks know of drawings is there. After 200 steps (30,000 drawings of 345 classes) its losses
    were those that a fresh network had after 700.
    """
    state, spread = dict(learned.state_dict()), network.config.spread
    state["embed_point.weight"] = state["embed_point.weight"].clone()
    state["embed_point.weight"][:, :2] *= spread
    for name in ("to_points.weight", "to_points.bias"):
        state[name] = state[name] / spread
    network.load_state_dict(network.state_dict() | state)
    return network


def settled_by(c: TrainConfig, data: StrokeDataset) -> dict:
    """Fields of the network's config that are not the user's to choose."""
    settled = {"num_classes": len(data.classes)}
    return settled | ({"pen_states": len(PenState)} if c.architecture == "stroke_unet" else {})


def describes(settings: dict, network: nn.Module) -> bool:
    """Whether a config's fields are those of `network`."""
    try:
        return type(network.config)(**settings) == network.config
    except (TypeError, ValueError):
        return False


def _check_points(c: TrainConfig, network: nn.Module) -> None:
    points = getattr(network.config, "points", c.max_points)
    if c.max_points > points:
        raise ValueError(
            f"max_points is {c.max_points}, but the network has {points} points. "
            f"Lower --max-points, or raise points in --model."
        )
