"""BatchNorm as part of the convolution before it: the same bounds by half the passes over a network's values."""

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from bpfc.bounds.graph import Graph
from bpfc.bounds.operations import Convolution, Operation, Scale


def merged(graph: Graph) -> Graph:
    """The graph with each scale of whole channels merged into the convolution that it alone reads.

    s (W x + b) + t = (s W) x + (s b + t). Exact but for rounding; parameters are still read where they live. A linear
    layer has more weights than values, so that one there stays. For training alone: `terms` no longer counts all
    roundings, so that bounds with a `unit` would not hold.
    """
    readers = Counter(place for operation in graph.operations for place in operation.inputs)
    operations: list[Operation] = []
    moved: list[int] = []  # where the values of the graph stand now
    for operation in graph.operations:
        here = replace(operation, inputs=tuple(moved[place] for place in operation.inputs))
        before = operations[here.inputs[0]] if here.inputs else None
        alone = before is not None and readers[operation.inputs[0]] == 1
        if alone and isinstance(before, Convolution) and isinstance(here, Scale) and _of_channels(here):
            operations[here.inputs[0]] = _scaled(before, here)
            moved.append(here.inputs[0])
        else:
            moved.append(len(operations))
            operations.append(here)
    return Graph(tuple(operations))


def _of_channels(scale: Scale) -> bool:
    return scale.scale(torch.zeros(())).shape == (scale.shape[0], 1, 1)


def _scaled(layer: Convolution, by: Scale) -> Operation:
    def weight(like: Tensor) -> Tensor:
        return layer.weight(like) * by.scale(like)[..., None]

    def offset(like: Tensor) -> Tensor:
        shift = by.shift(like)
        return (shift if layer.offset is None else layer.bias(like) * by.scale(like) + shift).flatten()

    return replace(layer, weight=weight, offset=offset)
