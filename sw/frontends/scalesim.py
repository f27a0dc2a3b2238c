"""SCALE-Sim's topology files: convolutions (images with their padding included) or matrix products, one a line.

A convolution is `name, image height, width, kernel height, width, channels, kernels, stride`, a product `name, M, N, K`; further columns (a
sparsity, notes) are not read. The header tells which of the two a file has, by its number of columns with a name.
"""

import csv
import io
from dataclasses import dataclass
from math import prod

from sw.workloads.network import Conv, Linear, Network

CONVOLUTION = ("image height", "image width", "kernel height", "kernel width", "channels", "kernels", "stride")
PRODUCT = ("M", "N", "K")
LARGEST = (1 << 31) - 1


class TopologyError(ValueError):
    """A file that is no topology; the text is one line that names the line, the field, its value and what is allowed."""


@dataclass(frozen=True)
class Row:
    """A layer as a product: M rows, N columns, K deep."""

    name: str
    m: int
    n: int
    k: int

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.m * self.n * self.k


def read_topology(text: str) -> list[Row]:
    """The layers of a file. Raises TopologyError."""
    return [row_of(number, name, values) for number, name, values in records(text)]


def network_of(text: str, name: str) -> Network:
    """The layers of a file as a network, each behind the one before it. Raises TopologyError."""
    layers: list[Conv | Linear] = []
    taken: dict[str, int] = {}
    for number, label, values in records(text):
        row = row_of(number, label, values)
        taken[label] = taken.get(label, 0) + 1
        common = {"name": label if taken[label] == 1 else f"{label} ({taken[label]})", "inputs": (layers[-1].name if layers else "input",)}
        if len(values) == len(PRODUCT):
            layers.append(Linear(**common, shape=(row.n, row.m, 1), features=row.k, bias=False))
            continue
        height, width, kernel_height, kernel_width, channels, kernels, stride = values
        out = outputs(values)
        below, beside = (out[0] - 1) * stride + kernel_height - height, (out[1] - 1) * stride + kernel_width - width
        layers.append(Conv(**common, shape=(kernels, *out), source=(channels, height, width), kernel=(kernel_height, kernel_width),
                           stride=(stride, stride), padding=(0, 0, below, beside)))      # the last position begun counts
    first = layers[0]
    return Network(name, first.source if isinstance(first, Conv) else (first.features, first.shape[1], 1), tuple(layers))


def records(text: str) -> list[tuple[int, str, list[int]]]:
    """Line number, name and numbers of each layer: those of a convolution or of a product. Raises TopologyError."""
    lines = list(csv.reader(io.StringIO(text)))
    if not lines:
        raise TopologyError("line 1: the header is missing")
    named = sum(bool(column.strip()) for column in lines[0])
    fields = PRODUCT if named <= 1 + len(PRODUCT) + 1 else CONVOLUTION          # a sparsity may follow
    if named < 1 + len(fields):
        raise TopologyError(f"line 1: {named} columns, not {1 + len(PRODUCT)} (name, {', '.join(PRODUCT)}) "
                            f"or {1 + len(CONVOLUTION)} (name, {', '.join(CONVOLUTION)})")
    found = [_record(number, [column.strip() for column in line], fields) for number, line in enumerate(lines[1:], 2)
             if any(column.strip() for column in line)]
    if not found:
        raise TopologyError("line 2: there is no layer")
    return found


def _record(number: int, columns: list[str], fields: tuple[str, ...]) -> tuple[int, str, list[int]]:
    values = []
    for place, field in enumerate(fields, 1):
        where = f"line {number} ({columns[0]}): {field}"
        if place >= len(columns) or not columns[place]:
            raise TopologyError(f"{where} is missing")
        try:
            value = int(columns[place])
        except ValueError:
            raise TopologyError(f"{where} = {columns[place]!r} is not an integer in 1..{LARGEST}") from None
        if not 1 <= value <= LARGEST:
            raise TopologyError(f"{where} = {value} is outside 1..{LARGEST}")
        values.append(value)
    return number, columns[0], values


def row_of(number: int, name: str, values: list[int]) -> Row:
    """A record as a product. Raises TopologyError for a kernel larger than its image."""
    if len(values) == len(PRODUCT):
        return Row(name, *values)
    height, width, kernel_height, kernel_width, channels, kernels, _ = values
    for side, size, kernel in (("height", height, kernel_height), ("width", width, kernel_width)):
        if kernel > size:
            raise TopologyError(f"line {number} ({name}): kernel {side} = {kernel} is outside 1..{size}, the image's")
    return Row(name, prod(outputs(values)), kernels, channels * kernel_height * kernel_width)


def outputs(values: list[int]) -> tuple[int, int]:
    """Output lines and columns of a convolution: the last position that is begun counts."""
    height, width, kernel_height, kernel_width, _, _, stride = values
    return -(-(height - kernel_height + stride) // stride), -(-(width - kernel_width + stride) // stride)


def weight_stationary(row: Row, side: int) -> int:
    """SCALE-Sim's cycles on a side x side array that keeps the weights (the tool prints one less)."""
    return -(-row.k // side) * -(-row.n // side) * (3 * side + row.m - 2)


def input_stationary(row: Row, side: int) -> int:
    """The same for an array that keeps the inputs."""
    return -(-row.k // side) * -(-row.m // side) * (3 * side + row.n - 2)


def output_stationary(row: Row, side: int) -> int:
    """The same for an array that keeps the outputs."""
    return -(-row.m // side) * -(-row.n // side) * (2 * side + row.k - 2)


def overlapped(row: Row, side: int) -> int:
    """An array that keeps the weights and loads each tile behind the one before: the bound of what ours can reach."""
    return -(-row.k // side) * -(-row.n // side) * max(row.m, side) + 3 * side - 2
