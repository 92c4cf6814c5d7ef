"""A real ComfyUI, started on a temporary folder, driven over HTTP and websocket, and ended.

COMFYUI_PATH    checkouts of ComfyUI, separated by os.pathsep.
COMFYUI_PYTHON  the Python of each, in the same order, or one for all; if unset, the virtual environment
                `.venv` or `venv` in the checkout.

The pack is linked into the `custom_nodes` of a temporary base directory: nobody's own folders are touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACK = "ComfyUI-SketchKnitter"
START_SECONDS = 180
RUN_SECONDS = 120

PATHS = [Path(path) for path in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if path]
PYTHONS = [path for path in os.environ.get("COMFYUI_PYTHON", "").split(os.pathsep) if path]


def hosts() -> list[tuple[Path, str]]:
    """(checkout, Python) of every ComfyUI the environment names; a checkout without a Python is left out."""
    pythons = PYTHONS * len(PATHS) if len(PYTHONS) == 1 else PYTHONS or [own_python(path) for path in PATHS]
    return [(path, python) for path, python in zip(PATHS, pythons, strict=False) if python]


def own_python(path: Path) -> str | None:
    names = ("bin/python", "Scripts/python.exe", "python.exe")
    found = (path / folder / name for folder in (".venv", "venv") for name in names)
    return next((str(python) for python in found if python.is_file()), None)


def version(path: Path) -> str:
    return re.search(r'__version__ = "(.*)"', (path / "comfyui_version.py").read_text())[1]


@dataclass
class Run:
    """What one prompt gave: events in order, previews (JPEG bytes), status, outputs by node, its error."""

    events: list[tuple[float, str, dict]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    node_errors: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    error: str | None = None

    def of(self, kind: str) -> list[dict]:
        return [data for _, name, data in self.events if name == kind]

    @property
    def cached(self) -> set[str]:
        return {node for data in self.of("execution_cached") for node in data["nodes"]}


class ComfyUI:
    """One running server."""

    def __init__(
        self, path: Path, python: str, base: Path, *options: str, pack: Path = ROOT, **environment: str
    ) -> None:
        """options  of its command line;  pack  the folder to link;  environment  variables of the server."""
        self.version = version(path)
        self.base = base
        for folder in ("custom_nodes", "input", "output", "models/sketch_models", "temp", "user/default"):
            (base / folder).mkdir(parents=True)
        settings = {"Comfy.TutorialCompleted": True}  # or the first visit begins with a dialog
        (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps(settings))
        (base / "custom_nodes" / PACK).symlink_to(pack, target_is_directory=True)
        (base / "custom_nodes" / "probe").symlink_to(
            Path(__file__).parent / "probe", target_is_directory=True
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = base / "comfyui.log"
        command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(base), "--disable-api-nodes", "--disable-auto-launch", *options]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=path,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
                    "OMP_NUM_THREADS": "1",
                    "SKETCHKNITTER_CACHE": str(base / "cache"),
                    "HF_HOME": str(base / "huggingface"),
                    **environment,
                },
            )

    @property
    def log(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log_file.read_text("utf-8", "replace"))

    def wait_until_ready(self) -> None:
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"ComfyUI {self.version} did not start:\n{self.log[-4000:]}")

    def import_seconds(self) -> float:
        """What ComfyUI's own line of import times says of the pack, to a tenth of a second."""
        found = re.findall(rf"([\d.]+) seconds: .*{PACK}$", self.log, re.MULTILINE)
        if len(found) != 1:
            raise RuntimeError(f"ComfyUI {self.version} did not load the pack:\n{self.log[-4000:]}")
        return float(found[0])

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)

    def get(self, path: str):
        return asyncio.run(self._request("GET", path))

    def post(self, path: str, data: dict, headers: dict | None = None):
        return asyncio.run(self._request("POST", path, data, headers))

    async def _request(self, method: str, path: str, data: dict | None = None, headers: dict | None = None):
        import aiohttp

        async with aiohttp.ClientSession() as session:
            async with session.request(method, self.url + path, json=data, headers=headers) as reply:
                body = await reply.read()
        if "json" in reply.content_type:
            return reply.status, json.loads(body)
        return reply.status, body

    def run(self, graph: dict, *, interrupt_at: int | None = None) -> Run:
        """Runs an API-format graph to its end; posts /interrupt once progress reaches `interrupt_at`."""
        return asyncio.run(asyncio.wait_for(self._run(graph, interrupt_at), RUN_SECONDS))

    async def _run(self, graph: dict, interrupt_at: int | None) -> Run:
        import aiohttp

        client, run = uuid.uuid4().hex, Run()
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as socket_:
                async with session.post(
                    self.url + "/prompt", json={"prompt": graph, "client_id": client}
                ) as reply:
                    answer = await reply.json()
                run.node_errors = answer.get("node_errors", {})
                if reply.status != 200:
                    run.error = json.dumps(answer)
                    return run
                interrupted = False
                async for message in socket_:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        if struct.unpack(">I", message.data[:4])[0] == 1:  # PREVIEW_IMAGE
                            run.previews.append(message.data[8:])
                        continue
                    event = json.loads(message.data)
                    kind, data = event["type"], event.get("data", {})
                    run.events.append((time.monotonic(), kind, data))
                    if kind == "progress" and interrupt_at is not None and not interrupted:
                        if data["value"] >= interrupt_at:
                            interrupted = True
                            await session.post(self.url + "/interrupt", json={})
                            run.events.append((time.monotonic(), "interrupt sent", data))
                    if kind == "executed":
                        run.outputs[data["node"]] = data["output"]
                    if kind == "execution_error":
                        run.error = data["exception_message"]
                    if kind in ("execution_error", "execution_interrupted", "execution_success"):
                        return run
        return run
