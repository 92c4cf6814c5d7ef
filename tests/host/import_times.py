"""Median of ComfyUI's own import times for the pack, by starting each ComfyUI of COMFYUI_PATH a few times.

python -m tests.host.import_times [STARTS]
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
from pathlib import Path

from tests.host.comfyui import ComfyUI, hosts


def main(starts: int = 5) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for path, python in hosts():
        times = []
        for _ in range(starts):
            with tempfile.TemporaryDirectory() as folder:
                server = ComfyUI(path, python, Path(folder) / "base")
                try:
                    server.wait_until_ready()
                    times.append(server.import_seconds())
                finally:
                    server.stop()
        logging.info("ComfyUI %s: median %.2f s of %s", server.version, statistics.median(times), times)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
