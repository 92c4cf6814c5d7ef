"""Models from disk: Load Sketch Model."""

from __future__ import annotations

from . import host
from .wires import Model, io, schema

EMBEDDED = "default"  # the name by which the library knows the model that comes with the pack


class LoadSketchModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_LoadModel",
            display_name="Load Sketch Model",
            category="sketch/models",
            description="Loads a model that draws vector sketches. 'default' comes with the pack and needs "
            "no download.",
            search_aliases=["quickdraw", "doodle", "sketchknitter", "vector"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[EMBEDDED, *host.model_files()],
                    default=EMBEDDED,
                    tooltip="'default' is the embedded model of 345 Quick, Draw! classes. Others are "
                    ".safetensors files in models/sketch_models.",
                ),
            ],
            outputs=[Model.Output(display_name="model", tooltip="The model, for Sketch Sampler.")],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        if model == EMBEDDED or host.model_path(model) is not None:
            return True
        folders = " or ".join(host.model_folders())
        return f"there is no sketch model {model!r} in {folders}. Put the file there, or choose another."

    @classmethod
    def fingerprint_inputs(cls, model: str) -> str:
        path = None if model == EMBEDDED else host.model_path(model)
        return model if path is None else f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}"

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        from ..sketch_core import knitter

        name = model if model == EMBEDDED else host.model_path(model)
        return io.NodeOutput(host.manage(lambda: knitter.load(name)))


NODES = [LoadSketchModel]
