"""The nodes: widgets and wires, no mathematics. ComfyUI asks `comfy_entrypoint` for the list."""

from __future__ import annotations

import logging

from .wires import ComfyExtension


class SketchKnitter(ComfyExtension):
    async def get_node_list(self) -> list[type]:
        try:
            from . import (
                draw,
                edit,
                files,
                host,
                load,
                recognize,
                rectify,
                redraw,
                render,
                routes,
                trace,
                vector,
            )

            host.add_model_folder()
            routes.register()
            nodes = [
                *load.NODES,
                *draw.NODES,
                *render.NODES,
                *edit.NODES,
                *files.NODES,
                *vector.NODES,
                *trace.NODES,
                *recognize.NODES,
                *redraw.NODES,
                *rectify.NODES,
            ]
            for node in nodes:
                node.GET_SCHEMA()
            return nodes
        except Exception:
            logging.exception("SketchKnitter could not be loaded")  # the host alone would print one line
            raise


async def comfy_entrypoint() -> SketchKnitter:
    return SketchKnitter()
