"""The widgets of every node that samples: one default, one range and one order of choices for each."""

from __future__ import annotations

from .wires import advanced, io

MAX_SEED = 2**64 - 1
SAMPLERS = ["ddim", "ddpm", "heun", "dpmpp_2m"]


def seed_input(tooltip: str) -> io.Input:
    return io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, tooltip=tooltip)


def steps_input(tooltip: str) -> io.Input:
    return io.Int.Input("steps", default=12, min=1, max=1000, tooltip=tooltip)


def guidance_input(tooltip: str) -> io.Input:
    return io.Float.Input("guidance", default=2.1, min=0.0, max=20.0, step=0.1, tooltip=tooltip)


def sampler_input(tooltip: str) -> io.Input:
    return io.Combo.Input("sampler", options=SAMPLERS, default="ddpm", tooltip=tooltip)


def detail_input(tooltip: str) -> io.Input:
    return io.Int.Input("detail", default=0, min=0, max=512, tooltip=tooltip)


def start_input(tooltip: str) -> io.Input:
    return advanced(io.Int.Input("start", default=0, min=0, max=2**31 - 1, tooltip=tooltip))


def preview_input() -> io.Input:
    return advanced(
        io.Boolean.Input(
            "preview",
            default=True,
            optional=True,
            tooltip="Show the drawings emerging while they are made.",
        )
    )
