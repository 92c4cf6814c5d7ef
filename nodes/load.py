"""Models from disk and from the Hub: Load Sketch Model, Load from Hub.

A file that is not here is fetched while the node runs. What a saved graph holds is a model's name: that the
list of choices marks a name as not here yet is no part of it.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from . import host
from .downloads import Cancelled, Fetch, downloads, progress_text
from .wires import Model, advanced, io, schema

EMBEDDED = "default"  # the name by which the library knows the model that comes with the pack
MARK = re.compile(r" \(download[^()]*\)$")
PAUSE = 0.1  # seconds between two looks at a download and at whether the user has cancelled


# --- names


def marked(name: str, size: int | None) -> str:
    """How a model that is not here yet is listed."""
    from ..sketch_core.hub import readable_size

    return f"{name} (download {readable_size(size)})" if size else f"{name} (download)"


def bare(choice: str) -> str:
    """The name in a choice, marked or not: the mark goes when the file comes, and old graphs may hold it."""
    return MARK.sub("", choice)


def choices() -> list[str]:
    """The embedded model, the manifest's others that draw, files of the user's, then what is not here."""
    from ..sketch_core.manifest import ALIASES

    known = weights()
    ours = [status for status in known if status.purpose == "draw" and status.name != ALIASES[EMBEDDED]]
    paths = {status.path for status in known if status.path is not None}
    files = [name for name in host.model_files() if (path := host.model_path(name)) and path not in paths]
    return [
        EMBEDDED,
        *(status.name for status in ours if status.state in ("bundled", "here")),
        *(name for name in files if draws(host.model_path(name))),
        *(marked(status.name, status.bytes) for status in ours if status.state == "missing"),
    ]


def draws(path: Path) -> bool:
    """Whether a file may hold a model that draws; one that cannot be read says why when it is loaded."""
    stat = path.stat()
    return _draws(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1024)
def _draws(path: Path, changed: int, size: int) -> bool:
    from ..sketch_core.weight_file import read_file_metadata

    try:
        return bool(read_file_metadata(path).lengths)
    except (OSError, ValueError):
        return True


def weights() -> list:
    """hub.Status of every entry of the manifest."""
    from ..sketch_core import hub

    return hub.list_weights(folders=host.model_folders())


def status_of(name: str):
    """What is known of the file of a manifest name, or None if it is no such name."""
    from ..sketch_core.manifest import ALIASES

    own = ALIASES.get(name, name)
    return next((status for status in weights() if status.name == own), None)


def file_of(name: str) -> Path | None:
    """The file of a name if it is here."""
    status = status_of(name)
    return host.model_path(name) if status is None else status.path


# --- files


def fetched(name: str, fetch: Fetch, *, node_id: str | None = None) -> Path:
    """The file that `fetch` brings, shared with whoever else wants it, with progress on the node.

    node_id  of a node that says it in words as well; Load Sketch Model has a row of its own for them.
    Cancelling the run leaves the transfer to others who want it; if there is nobody, it ends.
    """
    me = object()
    download = downloads.want(name, fetch, me)
    show = host.progress()
    words = None
    try:
        while not download.wait(PAUSE):
            show(download.done, download.total)
            words = progress_text(download.done, download.total)
            host.say(words, node_id)
        return download.result()
    except Cancelled:  # with the button, in this browser or another
        host.interrupt()
    finally:
        downloads.leave(download, me)
        if words:
            host.say("Downloaded" if download.state == "done" else "Not downloaded", node_id)


def fetch_known(name: str) -> Fetch:
    """What brings the file of a manifest name into the first of the user's folders."""
    from ..sketch_core import hub

    return functools.partial(hub.fetch_weights, name, folders=host.model_folders())


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
                    options=choices(),
                    default=EMBEDDED,
                    tooltip="'default' is the embedded model of 345 Quick, Draw! classes; "
                    "stroke_transformer.quickdraw345 is the one it was distilled from, slower and no "
                    "better. Others are .safetensors files in models/sketch_models, and models that are "
                    "downloaded when they are first used.",
                ),
            ],
            outputs=[Model.Output(display_name="model", tooltip="The model, for Sketch Sampler.")],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        from ..sketch_core import hub

        name = bare(model)
        status = status_of(name)
        if status is None:
            if host.model_path(name) is not None:
                return True
            folders = " or ".join(host.model_folders())
            return f"there is no sketch model {name!r} in {folders}. Put the file there, or choose another."
        if status.purpose != "draw":
            return f"{name} is not a model that draws. Use 'default', or another one."
        if status.state == "unpublished":
            try:
                hub.find_weights(name, folders=host.model_folders())
            except ValueError as error:
                return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str) -> str:
        name = bare(model)
        path = file_of(name)
        return name if path is None else f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}"

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        from ..sketch_core import hub, knitter

        name = bare(model)
        status = status_of(name)
        if status is None:
            path = host.model_path(name)
        elif status.state == "missing":
            path = fetched(status.name, fetch_known(status.name))
        else:
            path = hub.find_weights(name, folders=host.model_folders())
        return io.NodeOutput(host.manage(lambda: knitter.load(path)))


class LoadFromHub(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SK_LoadFromHub",
            display_name="Load from Hub",
            category="sketch/models",
            description="Loads anyone's model from the Hugging Face Hub: a .safetensors file of this pack's "
            "training, or a checkpoint of the published SketchKnitter code. Downloaded once, then used from "
            "disk.",
            search_aliases=["huggingface", "download", "sketchknitter", "checkpoint"],
            inputs=[
                io.String.Input(
                    "repo_id",
                    default="",
                    placeholder="owner/name",
                    tooltip="The repository, as the heading of its page says: 'owner/name'. A private or "
                    "gated one needs your token: run 'hf auth login' once, or set HF_TOKEN.",
                ),
                io.String.Input(
                    "filename",
                    default="weights.safetensors",
                    tooltip="The file in it, with its folders: a .safetensors, or a .pt of the published "
                    "SketchKnitter code, which is read without unpickling and converted.",
                ),
                io.String.Input(
                    "revision",
                    default="",
                    optional=True,
                    placeholder="commit, tag or branch",
                    tooltip="Which version: a commit (40 digits), a tag or a branch. Empty: the one that is "
                    "here, or if none is, the newest.",
                ),
                advanced(
                    io.Float.Input(
                        "scale",
                        default=0.0,
                        min=0.0,
                        max=1000.0,
                        step=0.1,
                        optional=True,
                        tooltip="For a .pt: canvas units per model unit, the number that its training "
                        "divided by. 0: one with which drawings are about as large as people's.",
                    )
                ),
                advanced(
                    io.String.Input(
                        "class_name",
                        default="",
                        optional=True,
                        tooltip="For a .pt: what it draws, as Sketch Sampler will call it. Empty: 'sketch'.",
                    )
                ),
            ],
            outputs=[Model.Output(display_name="model", tooltip="The model, for Sketch Sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, repo_id: str, filename: str, revision: str = "", scale: float = 0.0, class_name: str = ""
    ) -> io.NodeOutput:
        from ..sketch_core import hub, knitter

        wanted = [text.strip() for text in (repo_id, filename, revision, class_name)]
        repo_id, filename, revision, label = wanted
        fetch = functools.partial(
            hub.fetch_from_hub,
            repo_id,
            filename,
            revision or None,
            folders=host.model_folders(),
            scale=scale or None,
            label=label or None,
        )
        name = " ".join(filter(None, [f"{repo_id}/{filename}", revision, f"{scale or ''}", label]))
        path = fetched(name, fetch, node_id=cls.hidden.unique_id)
        return io.NodeOutput(host.manage(lambda: knitter.load(path)))


NODES = [LoadSketchModel, LoadFromHub]
