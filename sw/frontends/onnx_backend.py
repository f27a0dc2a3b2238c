"""FlexWave as an ONNX backend: `prepare(model).run(inputs)`, and what ONNX's own conformance tests call.

The environment chooses the engine, FLEXWAVE_ENGINE (rtl, model or golden; default rtl), and the machine, FLEXWAVE_CONFIG (a preset or a
TOML file; default base).
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from gen.config import Config
from sw.frontends.onnx_model import OnnxError, OnnxModel
from sw.runtime import product

ENGINES = tuple(engine for engine in product.ENGINES if engine != "board")


class FlexWaveRep(BackendRep):
    """A prepared model. `model.runs` says where each node of the last run ran."""

    def __init__(self, model: OnnxModel):
        self.model = model

    def run(self, inputs: Any, **_options) -> tuple[Any, ...]:
        """Outputs in the model's order, for inputs in the model's order."""
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        names = [item.name for item in self.model.inputs]
        if len(inputs) != len(names):
            raise OnnxError(f"inputs: {len(inputs)} given, the model takes {len(names)}: {', '.join(names)}")
        found = self.model.run(dict(zip(names, inputs)))
        return tuple(found[name] for name in self.model.outputs)


class FlexWaveBackend(Backend):
    """Integer products and convolutions on the machine, everything else on the host (see `sw.frontends.onnx_model`)."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_options) -> bool:
        """Whether every operator runs, on the machine or on the host, and every shape is known."""
        try:
            OnnxModel(model, _config(), engine=_engine())
        except OnnxError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **options) -> FlexWaveRep:
        """Check a model. Options: `engine` and `config` (a gen.config.Config) instead of the environment's. Raises OnnxError."""
        if not cls.supports_device(device):
            raise OnnxError(f"device = {device!r} is none of CPU")
        return FlexWaveRep(OnnxModel(model, options.get("config") or _config(), engine=options.get("engine") or _engine()))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **options) -> tuple[Any, ...]:
        """`prepare` and `run`."""
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU",
                 outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None, **options) -> tuple[Any, ...]:
        """One node, of the newest operator set unless `opset_version` says otherwise."""
        names = [name for name in node.input if name]
        infos = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                 for name, value in zip(names, inputs)]
        version = options.pop("opset_version", onnx.defs.onnx_opset_version())
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        kinds = onnx.shape_inference.infer_node_outputs(schema, node, {info.name: info.type for info in infos})
        graph = onnx.helper.make_graph([node], "node", infos, [onnx.helper.make_value_info(name, kinds[name]) for name in node.output])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, list(inputs), device, **options)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The machine is simulated, so there is only "CPU"."""
        return device == "CPU"


def _engine() -> str:
    engine = os.environ.get("FLEXWAVE_ENGINE", "rtl")
    if engine not in ENGINES:
        raise OnnxError(f"FLEXWAVE_ENGINE = {engine!r} is none of {', '.join(ENGINES)}")
    return engine


def _config() -> Config:
    return Config.load(os.environ.get("FLEXWAVE_CONFIG", "base"))


is_compatible, prepare, supports_device = FlexWaveBackend.is_compatible, FlexWaveBackend.prepare, FlexWaveBackend.supports_device
run_model, run_node = FlexWaveBackend.run_model, FlexWaveBackend.run_node
