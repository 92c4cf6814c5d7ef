"""The architectures, and how one is made from the config its weights carry."""

from __future__ import annotations

from dataclasses import fields

from torch import nn

from .recognizability import Recognizability, RecognizabilityConfig
from .sketch_classifier import SketchClassifier, SketchClassifierConfig
from .stroke_birnn import StrokeBiRNN, StrokeBiRNNConfig
from .stroke_classifier import StrokeClassifier, StrokeClassifierConfig
from .stroke_transformer import StrokeTransformer, StrokeTransformerConfig
from .stroke_unet import StrokeUNet, StrokeUNetConfig
from .vgg import VGG16, VGG16Config

MODELS: dict[str, tuple[type[nn.Module], type]] = {
    "stroke_transformer": (StrokeTransformer, StrokeTransformerConfig),
    "stroke_unet": (StrokeUNet, StrokeUNetConfig),
    "stroke_birnn": (StrokeBiRNN, StrokeBiRNNConfig),
    "sketch_classifier": (SketchClassifier, SketchClassifierConfig),
    "stroke_classifier": (StrokeClassifier, StrokeClassifierConfig),
    "recognizability": (Recognizability, RecognizabilityConfig),
    "vgg16": (VGG16, VGG16Config),
}


def create_model(architecture: str, config: dict) -> nn.Module:
    """A network with fresh weights; unknown architectures and unknown config fields are ValueErrors."""
    if architecture not in MODELS:
        raise ValueError(f"unknown architecture {architecture!r}. Known: {', '.join(sorted(MODELS))}.")
    Model, Config = MODELS[architecture]
    known = {field.name for field in fields(Config)}
    if unknown := sorted(set(config) - known):
        raise ValueError(
            f"{architecture} has no setting {', '.join(unknown)}. Known: {', '.join(sorted(known))}."
        )
    return Model(Config(**config))


def architecture_of(network: nn.Module) -> str:
    """The name under which `network`'s class is registered."""
    for name, (Model, _) in MODELS.items():
        if type(network) is Model:
            return name
    raise ValueError(f"{type(network).__name__} is not a registered architecture. Add it to models.MODELS.")
