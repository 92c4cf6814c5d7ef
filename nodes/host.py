"""What the nodes ask of ComfyUI: folders, devices, progress, previews, interruption. No other file does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import comfy.model_management as management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher

from .wires import LoadedModel

MODELS = "sketch_models"
SKETCHES = "sketch"  # folder below input/ and output/
PREVIEW_SIDE = 512  # pixels
PREVIEW_PAUSE = 0.1  # seconds from one live preview to the next, at least ...
PREVIEW_SHARE = 8  # ... and this many times what drawing one takes


# --- models


def add_model_folder() -> None:
    """models/sketch_models, behind whatever extra_model_paths.yaml says for the same key."""
    folder_paths.add_model_folder_path(MODELS, os.path.join(folder_paths.models_dir, MODELS))
    paths, suffixes = folder_paths.folder_names_and_paths[MODELS]
    folder_paths.folder_names_and_paths[MODELS] = (paths, set(suffixes) | {".safetensors"})


def model_files() -> list[str]:
    return folder_paths.get_filename_list(MODELS)


def model_path(name: str) -> Path | None:
    path = folder_paths.get_full_path(MODELS, name)
    return None if path is None else Path(path)


def model_folders() -> list[str]:
    return folder_paths.get_folder_paths(MODELS)


def manage(load: Callable) -> LoadedModel:
    """Runs `load() -> SketchModel` so that its weights can take gradients later, and hands it to the host."""
    with torch.inference_mode(False):  # nodes run in inference mode, and its tensors stay what they are
        sketch_model = load()
    patcher = ModelPatcher(
        sketch_model.network,
        load_device=management.get_torch_device(),
        offload_device=management.unet_offload_device(),
    )
    return LoadedModel(sketch_model, patcher)


# --- a run


def stop_if_cancelled() -> None:
    management.throw_exception_if_processing_interrupted()


def interrupt() -> NoReturn:
    """Ends the run as the user's own cancel does."""
    raise management.InterruptProcessingException


def progress() -> Callable:
    """`show(done, total)`: how far the node is that runs, total None until it is known; ends it on cancel."""
    bar = None

    def show(done: int, total: int | None) -> None:
        nonlocal bar
        stop_if_cancelled()
        if total:
            bar = bar or comfy.utils.ProgressBar(total)
            bar.update_absolute(done, total)

    return show


@contextmanager
def running(loaded: LoadedModel, total: int) -> Iterator[Callable]:
    """Puts the network on its device and yields `tick(done, picture)`: progress, live preview, cancel.

    total    value of `done` at the end.
    picture  draws what there is to see as a PIL image, called now and then; or None.
    """
    with torch.inference_mode(False):
        management.load_models_gpu([loaded.patcher])
    bar = comfy.utils.ProgressBar(total)
    next_preview = 0.0

    def tick(done: int, picture: Callable | None) -> None:
        nonlocal next_preview
        stop_if_cancelled()
        shown = None
        began = time.monotonic()
        if picture is not None and began >= next_preview:
            shown = ("JPEG", picture(), PREVIEW_SIDE)
            ended = time.monotonic()
            next_preview = ended + max(PREVIEW_PAUSE, PREVIEW_SHARE * (ended - began))
        bar.update_absolute(done, total, shown)

    try:
        yield tick
    except management.OOM_EXCEPTION as error:
        if management.OOM_EXCEPTION is Exception:  # what the host puts where torch has no such exception
            raise
        raise RuntimeError("Not enough memory to draw so many sketches at once. Lower `count`.") from error


# --- values


def tensor(array: np.ndarray) -> torch.Tensor:
    """(B, H, W[, 3]) float32 in 0..1 as the host wants images and masks: its device and dtype."""
    dtype = getattr(management, "intermediate_dtype", lambda: torch.float32)()
    return torch.from_numpy(np.ascontiguousarray(array)).to(management.intermediate_device(), dtype)


# --- the server


def server():
    """The host's PromptServer, or None where there is none: its tests and scripts load packs without."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def say(text: str, node_id: str | None) -> None:
    """A line of text on the node."""
    if (here := server()) is not None and node_id is not None:
        here.send_progress_text(text, node_id)


def push(event: str, data: dict) -> None:
    """Tells every front end that is open; from any thread."""
    if (here := server()) is not None:
        here.send_sync(event, data)


# --- files of the user


def new_output_file(prefix: str, suffix: str) -> Path:
    """output/PREFIX_00001_SUFFIX with the next free number; never outside the output folder."""
    output = folder_paths.get_output_directory()
    _inside(output, prefix, "filename_prefix")
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
    path = Path(folder, f"{name}_{counter:05}_{suffix}")
    while path.exists():  # the host counts files of its own naming only
        counter += 1
        path = Path(folder, f"{name}_{counter:05}_{suffix}")
    return path


def sketch_files(suffix: str | tuple[str, ...]) -> list[str]:
    """Files of input/ and input/sketch/**, then those of output/ marked ' [output]', as core's loaders do.

    The host asks often and an output folder may be huge, so other subfolders are not walked.
    """
    names = []
    for folder, mark in (
        (folder_paths.get_input_directory(), ""),
        (folder_paths.get_output_directory(), " [output]"),
    ):
        found = [Path(folder, name) for name in (os.listdir(folder) if os.path.isdir(folder) else [])]
        found += Path(folder, SKETCHES).rglob("*")
        shown = [path.relative_to(folder).as_posix() for path in found if path.name.lower().endswith(suffix)]
        names += [name + mark for name in sorted(shown)]
    return names


def check_file(file: str) -> bool | str:
    """For `validate_inputs`: True, or what is wrong with a file that was chosen."""
    try:
        path = sketch_file(file)
    except ValueError as error:
        return str(error)
    if not path.is_file():
        return f"there is no file {file!r} in the input or output folder. Put it there and press R."
    return True


def file_state(file: str) -> str:
    """For `fingerprint_inputs`: another text when the file is another."""
    stat = sketch_file(file).stat()
    return f"{stat.st_mtime_ns} {stat.st_size}"


def sketch_file(name: str) -> Path:
    """The file that an entry of `sketch_files` names. Never outside the folders of the host."""
    bare, folder = folder_paths.annotated_filepath(name)
    folder = folder or folder_paths.get_input_directory()
    return _inside(folder, bare.strip(), "file")


def _inside(folder: str, name: str, widget: str) -> Path:
    path = Path(os.path.abspath(os.path.join(folder, name)))
    if not path.is_relative_to(os.path.abspath(folder)):
        raise ValueError(
            f"{widget} is {name!r}, which lies outside of {folder}. Give a name "
            f"that stays inside, with subfolders if you like."
        )
    return path
