"""A second pack for the tests: what only code inside ComfyUI can see."""

import json

import comfy.model_management as management
import torch
from comfy_api.latest import ComfyExtension, io


class Probe(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Probe",
            inputs=[io.Custom("SK_MODEL").Input("model", optional=True), io.Int.Input("nonce", default=0)],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, nonce, model=None):
        import nodes

        seen = {"nodes": nodes.__file__, "loaded": len(management.current_loaded_models)}
        if model is not None:
            network = model.sketch_model.network
            with torch.inference_mode(False), torch.enable_grad():
                one = torch.ones((), requires_grad=True)
                total = sum((parameter.float() * one).sum() for parameter in network.parameters())
                seen["gradients"] = bool(torch.autograd.grad(total, one)[0].isfinite())
            seen["managed"] = any(
                loaded.model is model.patcher for loaded in management.current_loaded_models
            )
        return io.NodeOutput(ui={"probe": [json.dumps(seen)]})


class ProbeExtension(ComfyExtension):
    async def get_node_list(self):
        return [Probe]


async def comfy_entrypoint():
    return ProbeExtension()
