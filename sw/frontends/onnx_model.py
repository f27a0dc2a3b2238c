"""ONNX models: 8-bit products, convolutions, poolings and sums on the machine, all else on the host through ONNX's reference evaluator.

Nodes run one after the other. The list of nodes says where each ran, and why on the host.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import load_op

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.frontends.onnx_operators import OPERATORS, Lowered, NotOnMachine, OnnxError, lower
from sw.frontends.onnx_quantised import ISLANDS, Island, islands, lower_island, only_for_islands
from sw.runtime import product

if TYPE_CHECKING:
    from sw.runtime.board import Board


def load_model(data: bytes, name: str) -> onnx.ModelProto:
    """A model from the bytes of a file. Raises OnnxError."""
    try:
        return onnx.load_model_from_string(data)
    except Exception:       # the parser has its own kinds
        raise OnnxError(f"model = {name!r} is not an ONNX file") from None


@dataclass(frozen=True)
class NodeRun:
    """A node as it ran: on the machine with its multiply-adds and cycles, or on the host; `reason` says why, or what is particular."""

    name: str
    operator: str
    place: str              # "machine" or "host"
    reason: str = ""
    macs: int = 0
    cycles: int = 0


class OnnxModel:
    """A model on a machine, by the engine "rtl", "model", "golden" or "board". `runs` are the nodes of the last run, in order.

    Raises OnnxError for a model that is broken, has dynamic shapes, or an operator without a fall-back.
    """

    def __init__(self, model: onnx.ModelProto, config: Config, *, engine: str = "rtl", board: "Board | None" = None):
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise OnnxError(f"the model is not valid: {str(error).splitlines()[0]}") from None
        self.config, self.engine, self.board = config, engine, board
        self.model = model = deepcopy(model)
        self.runs: list[NodeRun] = []
        for item in (*model.opset_import, *model.graph.node):
            item.domain = "" if item.domain == "ai.onnx" else item.domain       # two names of one domain
        self.opsets = {item.domain: item.version for item in model.opset_import}
        self.initializers = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self.inputs = [item for item in model.graph.input if item.name not in self.initializers]
        self.defaults = [item for item in model.graph.input if item.name in self.initializers]
        self.outputs = [item.name for item in model.graph.output]
        for item in self.inputs:
            check_shape(item)
        self.host: dict[int, ReferenceEvaluator] = {}
        self.islands = islands(model.graph)
        self.waiting = {index for island in self.islands.values() for index in island.nodes[:-1]} | only_for_islands(
            model.graph, self.islands)                          # nodes that run only if their island cannot
        functions = {(item.domain, item.name) for item in model.functions}
        for index, node in enumerate(model.graph.node):
            if (node.domain, node.op_type) not in functions:
                check_operator(index, node, self.opsets)

    def run(self, given: Mapping[str, np.ndarray], progress: Callable[[str], None] | None = None) -> dict[str, np.ndarray]:
        """The model's outputs by name for its inputs by name; an input with a default may be left out.

        Raises OnnxError for values that do not fit, MachineError where the machine stops, MismatchError where it computes something else.
        """
        values: dict[str, np.ndarray] = {"": None} | self.initializers          # type: ignore[dict-item]
        for item in (*self.inputs, *(item for item in self.defaults if item.name in given)):
            values[item.name] = check_input(item, given)
        known = [item.name for item in (*self.inputs, *self.defaults)]
        for name in given:
            if name not in known:
                raise OnnxError(f"input {name!r} is none of {', '.join(known)}")
        self.runs = []
        self.refused: dict[int, str] = {}       # why an island's operator runs on the host
        tell = progress or (lambda text: None)
        for index, node in enumerate(self.model.graph.node):
            tell(f"node {index + 1} of {len(self.model.graph.node)}: {label(index, node)} ({node.op_type})")
            if index in self.waiting or (index in self.islands and self._island(self.islands[index], values)):
                continue
            todo = [index]
            if index in self.islands:
                island, nodes = self.islands[index], self.model.graph.node
                todo = [*(each for each in dict.fromkeys(island.sources) if nodes[each].output[0] not in values), *island.nodes]
            for each in todo:
                one = self.model.graph.node[each]
                for name, value in zip(one.output, self._node(each, one, values)):
                    values[name] = value
        return {name: values[name] for name in self.outputs}

    def _island(self, island: Island, values: dict[str, np.ndarray]) -> bool:
        """A float operator between quantised numbers, on the machine; returns whether that could be."""
        place = next(number for number in island.nodes if self.model.graph.node[number].op_type in ISLANDS)
        name = label(place, island.node)
        try:
            lowered, remark = lower_island(island, attributes_of(island.node), values)
            values[island.output] = self._on_machine(name, island.node.op_type, lowered, remark)
        except (NotOnMachine, CompileError) as reason:
            self.refused[place] = str(reason)
            return False
        return True

    def _on_machine(self, name: str, operator: str, lowered: Lowered, remark: str = "") -> np.ndarray:
        runs = product.run(self.config, lowered.works, engine=self.engine, board=self.board)
        self.runs.append(NodeRun(name, operator, "machine", remark, macs=sum(work.product.macs for work in lowered.works),
                                 cycles=sum(run.counters["cycles"] for run in runs)))
        return lowered.join([run.result for run in runs])

    def _node(self, index: int, node: onnx.NodeProto, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        name = label(index, node)
        try:
            if node.domain:
                raise NotOnMachine(f"the machine does not know the domain {node.domain}")
            if index in self.refused:
                raise NotOnMachine(self.refused[index])
            if node.op_type in OPERATORS and len(node.output) > 1:
                raise NotOnMachine("the machine has no second output")
            attributes = attributes_of(node) if node.op_type in OPERATORS else {}
            lowered = lower(self.config, node.op_type, attributes, [values[item] for item in node.input])
            return [self._on_machine(name, node.op_type, lowered)]
        except OnnxError as error:
            raise OnnxError(f"node {name!r}: {error}") from None
        except (NotOnMachine, CompileError) as reason:
            self.runs.append(NodeRun(name, node.op_type, "host", str(reason)))
            return self._on_host(index, node, values)

    def _on_host(self, index: int, node: onnx.NodeProto, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The node by ONNX's reference evaluator. A node with subgraphs sees all values."""
        if index not in self.host:
            names = [name for name in dict.fromkeys([*node.input, *outer_names(node)]) if name]
            kind = onnx.TypeProto()
            graph = onnx.helper.make_graph([node], "node", [onnx.helper.make_value_info(name, kind) for name in names],
                                           [onnx.helper.make_value_info(name, kind) for name in node.output if name])
            one = onnx.helper.make_model(graph, opset_imports=self.model.opset_import, functions=self.model.functions)
            self.host[index] = ReferenceEvaluator(one)
        evaluator = self.host[index]
        try:
            found = iter(evaluator.run(None, {str(name): values[str(name)] for name in evaluator.input_names}))
        except Exception as error:      # what operators raise for values that do not fit has no common kind
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise OnnxError(f"node {label(index, node)!r} ({node.op_type}) on the host: {text}") from None
        return [next(found) if name else None for name in node.output]      # type: ignore[misc]


def attributes_of(node: onnx.NodeProto) -> dict:
    """A node's attributes by name."""
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def outer_names(node: onnx.NodeProto) -> list[str]:
    """What the subgraphs of a node read from outside."""
    names: list[str] = []
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else list(attribute.graphs):
            inner = {item.name for item in (*graph.input, *graph.initializer)} | {name for one in graph.node for name in one.output}
            used = [name for one in graph.node for name in (*one.input, *outer_names(one))] + [item.name for item in graph.output]
            names += [name for name in used if name and name not in inner]
    return names


def label(index: int, node: onnx.NodeProto) -> str:
    """A node's name, or what it makes where it has none."""
    return node.name or (node.output[0] if node.output else "") or f"node {index}"


def check_operator(index: int, node: onnx.NodeProto, opsets: Mapping[str, int]):
    """Raises OnnxError for an operator that neither the machine nor the host knows."""
    try:
        load_op(node.domain, node.op_type, opsets.get(node.domain, 1))
    except Exception:       # the evaluator has its own kinds
        full = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise OnnxError(f"node {label(index, node)!r}: operator {full} is not supported and has no fall-back") from None


def check_shape(item: onnx.ValueInfoProto):
    """Raises OnnxError for an input with a dynamic shape."""
    if not item.type.HasField("tensor_type"):
        return
    for axis, dimension in enumerate(item.type.tensor_type.shape.dim):
        if not dimension.HasField("dim_value"):
            raise OnnxError(f"input {item.name!r}: dimension {axis} is dynamic ({dimension.dim_param or 'unknown'}); give it a fixed size")


def check_input(item: onnx.ValueInfoProto, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """The value given for an input. Raises OnnxError if it is missing or of another type or shape."""
    if item.name not in given:
        raise OnnxError(f"input {item.name!r} is missing")
    value = given[item.name]
    if not isinstance(value, np.ndarray) or not item.type.HasField("tensor_type"):
        return value
    kind, shape = item.type.tensor_type, tuple(one.dim_value for one in item.type.tensor_type.shape.dim)
    wanted = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if value.dtype != wanted:
        raise OnnxError(f"input {item.name!r} has type {value.dtype}, the model takes {wanted}")
    if value.shape != shape:
        raise OnnxError(f"input {item.name!r} has shape {value.shape}, the model takes {shape}")
    return value
