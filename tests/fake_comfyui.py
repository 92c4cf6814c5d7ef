"""As much of ComfyUI 0.3.64 as the nodes touch, so that their schemas and bodies can be tested without it.

Inputs take exactly the arguments that ComfyUI 0.3.64's do. `install` puts the modules into `sys.modules`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from aiohttp import web

INPUT = {"optional", "tooltip", "display_name", "lazy"}
WIDGET = INPUT | {"default", "socketless", "force_input"}
NUMBER = WIDGET | {"min", "max", "step", "display_mode"}
ARGUMENTS = {
    "INT": NUMBER | {"control_after_generate"},
    "FLOAT": NUMBER | {"round"},
    "BOOLEAN": WIDGET | {"label_on", "label_off"},
    "STRING": WIDGET | {"multiline", "placeholder", "dynamic_prompts"},
    "COMBO": WIDGET | {"options", "control_after_generate", "upload", "image_folder", "remote"},
}


class Input:
    def __init__(self, kind: str, id: str, **arguments) -> None:
        unknown = set(arguments) - ARGUMENTS.get(kind, INPUT)
        if unknown:
            raise TypeError(f"ComfyUI 0.3.64: {kind} input takes no {sorted(unknown)}")
        self.kind, self.id, self.arguments = kind, id, arguments

    def __getattr__(self, name: str):
        return self.__dict__["arguments"].get(name)


@dataclass
class Output:
    kind: str
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


def wire(kind: str) -> SimpleNamespace:
    return SimpleNamespace(
        Input=lambda id, **arguments: Input(kind, id, **arguments),
        Output=lambda **arguments: Output(kind, **arguments),
    )


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False


class ComfyNode:
    hidden = SimpleNamespace(unique_id="1")

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        return cls.define_schema()


class NodeOutput:
    def __init__(self, *values, ui: dict | None = None) -> None:
        self.values, self.ui = values, ui


class ComfyExtension:
    pass


class SVG:
    def __init__(self, data: list) -> None:
        self.data = data


class Interrupted(Exception):
    pass


class ProgressBar:
    made: list[ProgressBar] = []

    def __init__(self, total: int) -> None:
        self.updates = [(0, total, None)]
        ProgressBar.made.append(self)

    def update_absolute(self, value, total=None, preview=None) -> None:
        self.updates.append((value, total, preview))


class Host:
    """Folders and switches of the fake."""

    def __init__(self, base) -> None:
        self.base, self.cancelled, self.loaded = base, False, []
        self.said, self.pushed, self.routes = [], [], web.RouteTableDef()
        for folder in ("input", "output", "models/sketch_models"):
            (base / folder).mkdir(parents=True)
        self.models: dict[str, tuple[list[str], set[str]]] = {}

    def stop(self) -> None:
        if self.cancelled:
            raise Interrupted

    def add_model_folder_path(self, name, path, is_default=False) -> None:
        self.models.setdefault(name, ([], set()))[0].append(path)

    def get_filename_list(self, name) -> list[str]:
        return sorted(path.name for path in (self.base / "models" / name).iterdir())

    def get_full_path(self, name, file) -> str | None:
        path = self.base / "models" / name / os.path.relpath(os.path.join("/", file), "/")
        return str(path) if path.is_file() else None

    def annotated_filepath(self, name) -> tuple[str, str | None]:
        for mark in ("output", "input"):
            if name.endswith(f"[{mark}]"):
                return name[: -len(mark) - 3], str(self.base / mark)
        return name, None

    def get_save_image_path(self, prefix, output) -> tuple:
        target = self.base / "output" / prefix
        target.parent.mkdir(parents=True, exist_ok=True)
        return str(target.parent), target.name, 1, "", prefix


def install(monkeypatch, base) -> Host:
    host = Host(base)
    io = SimpleNamespace(
        Schema=Schema,
        ComfyNode=ComfyNode,
        NodeOutput=NodeOutput,
        Input=Input,
        Custom=wire,
        Hidden=SimpleNamespace(unique_id="UNIQUE_ID"),
        Int=wire("INT"),
        Float=wire("FLOAT"),
        Boolean=wire("BOOLEAN"),
        String=wire("STRING"),
        Combo=wire("COMBO"),
        Image=wire("IMAGE"),
        Mask=wire("MASK"),
        SVG=SimpleNamespace(**vars(wire("SVG")), Type=SVG),
    )
    cpu = torch.device("cpu")
    modules = {
        "comfy_api": {},
        "comfy_api.latest": {"io": io, "ComfyExtension": ComfyExtension},
        "comfy": {},
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy.model_patcher": {
            "ModelPatcher": lambda model, **devices: SimpleNamespace(model=model, **devices)
        },
        "comfy.model_management": {
            "get_torch_device": lambda: cpu,
            "unet_offload_device": lambda: cpu,
            "intermediate_device": lambda: cpu,
            "load_models_gpu": host.loaded.append,
            "throw_exception_if_processing_interrupted": host.stop,
            "InterruptProcessingException": Interrupted,
            "OOM_EXCEPTION": torch.cuda.OutOfMemoryError,
        },
        "folder_paths": {
            "models_dir": str(base / "models"),
            "folder_names_and_paths": host.models,
            "get_input_directory": lambda: str(base / "input"),
            "get_output_directory": lambda: str(base / "output"),
            "get_folder_paths": lambda name: host.models[name][0],
            **{
                name: getattr(host, name)
                for name in (
                    "add_model_folder_path",
                    "get_filename_list",
                    "get_full_path",
                    "annotated_filepath",
                    "get_save_image_path",
                )
            },
        },
        "server": {
            "PromptServer": SimpleNamespace(
                instance=SimpleNamespace(
                    send_progress_text=lambda text, node: host.said.append(text),
                    send_sync=lambda event, data: host.pushed.append((event, data)),
                    routes=host.routes,
                )
            )
        },
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    return host


@contextmanager
def loaded_pack(monkeypatch, base: Path):
    """The pack as ComfyUI loads it: by path, under a name that cannot be imported absolutely.

    Yields the module, its nodes by id, the fake host, `run(id, **inputs)`, and `part("nodes.load")`: a module
    of the pack's own.
    """
    host = install(monkeypatch, base)
    ProgressBar.made.clear()
    name = str(base / "custom_nodes" / "ComfyUI-SketchKnitter")
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        extension = asyncio.run(module.comfy_entrypoint())
        nodes = {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}
        yield SimpleNamespace(
            module=module,
            nodes=nodes,
            host=host,
            run=lambda id, **inputs: run(nodes[id], **inputs),
            part=lambda part: importlib.import_module(f"{name}.{part}"),
            name=name,
        )
    finally:
        for loaded in [other for other in sys.modules if other == name or other.startswith(name + ".")]:
            del sys.modules[loaded]


def run(node, **inputs):
    """Executes a node with its widgets' defaults; one output comes bare."""
    defaults = {i.id: i.default for i in node.define_schema().inputs if i.default is not None}
    result = node.execute(**defaults | inputs)
    return result.values[0] if len(result.values) == 1 else result.values
