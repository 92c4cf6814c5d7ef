"""The door for ComfyUI. Nothing heavy happens here: the library is imported when a node first runs.

Outside ComfyUI this file does nothing; scripts use `import sketch_core` or `python -m sketch_core`.
"""

try:
    import comfy_api.latest  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "comfy_api":  # something that ComfyUI itself lacks must stay loud
        raise
else:
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
