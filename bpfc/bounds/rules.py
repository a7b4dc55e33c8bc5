"""From torch's functions, methods and layers to the operations that bounds know.

A rule has the signature of the function that it stands for. `Value`s depend on the images, `Constant`s do not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bpfc.bounds.operations import (
    Add,
    AveragePool,
    Convolution,
    Dense,
    Input,
    MaxPool,
    Operation,
    Pair,
    Read,
    Rectify,
    Reshape,
    Scale,
    Shape,
)


class Refused(Exception):  # noqa: N818
    """No bound is known, and why."""


@dataclass(frozen=True)
class Value:
    """The output of the operation at that place."""

    index: int


@dataclass(frozen=True)
class Constant:
    """A tensor or number of the network; `now` computes it as the network does, at the time of the call."""

    now: Callable[[], Any]


class Builder:
    """The operations so far; `shape` is the batch's shape that the node at hand had in the example."""

    def __init__(self, images: Shape) -> None:
        self.operations: list[Operation] = [Input((), images)]
        self.shape: Shape = ()
        self.in_place = False  # whether the node at hand overwrites its input

    def add(self, operation: Operation) -> Value:
        self.operations.append(operation)
        return Value(len(self.operations) - 1)

    def source(self, x: Value) -> Shape:
        return self.operations[x.index].shape


def value(x: Any) -> Value:
    """x, if it depends on the images."""
    if not isinstance(x, Value):
        raise Refused("its first argument must depend on the images")
    return x


def read(constant: Any) -> Read:
    """Reads a constant as float32 has it; float64 holds that exactly."""
    if isinstance(constant, (Constant, int, float)):
        now = constant.now if isinstance(constant, Constant) else lambda: constant
        return lambda like: torch.as_tensor(now(), device=like.device).to(like)
    raise Refused("one of its arguments must be a constant")


def _pair(number: Any) -> Pair:
    first, second = (number, number) if isinstance(number, int) else (number[0], number[-1])
    return int(first), int(second)


# Linear layers


def convolution(
    builder: Builder,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    x = value(input)
    if not isinstance(weight, Constant):
        raise Refused("its weights depend on the images")
    shape = weight.now().shape
    (kernel_h, kernel_w), (dilation_h, dilation_w) = shape[2:], _pair(dilation)
    if padding == "same":  # as torch splits it: the odd pixel goes right and down
        across, down = dilation_w * (kernel_w - 1), dilation_h * (kernel_h - 1)
        pads = (across // 2, across - across // 2, down // 2, down - down // 2)
    else:
        top, left = (0, 0) if padding == "valid" else _pair(padding)
        pads = (left, left, top, top)
    return builder.add(
        Convolution(
            (x.index,),
            builder.shape[1:],
            builder.source(x),
            shape[1:].numel() + 1,
            read(weight),
            None if bias is None else read(bias),
            _pair(stride),
            pads,
            (dilation_h, dilation_w),
            groups,
        )
    )


def dense(builder: Builder, input: Any, weight: Any, bias: Any = None) -> Value:
    x = value(input)
    if not isinstance(weight, Constant):
        raise Refused("its weights depend on the images")
    offset = None if bias is None else read(bias)
    source = builder.source(x)
    return builder.add(Dense((x.index,), builder.shape[1:], source, source[-1] + 1, read(weight), offset))


# Arithmetic with constants, and sums of branches


def _scale(builder: Builder, x: Value, scale: Read, shift: Read) -> Value:
    source = builder.source(x)
    if builder.shape[1:] != source:
        raise Refused(f"a constant that turns the shape {source} into {builder.shape[1:]}")
    # The constant itself, and its inverse, may be rounded before it is used.
    return builder.add(Scale((x.index,), source, source, 4, scale, shift, shift))


def _one(like: Tensor) -> Tensor:
    return like.new_ones(())


def _zero(like: Tensor) -> Tensor:
    return like.new_zeros(())


def _minus(read: Read) -> Read:
    return lambda like: -read(like)


def add(builder: Builder, input: Any, other: Any, *, alpha: float = 1) -> Value:
    if alpha != 1:
        raise Refused(f"alpha={alpha}")
    if isinstance(input, Value) and isinstance(other, Value):
        if builder.source(input) != builder.source(other):
            raise Refused(f"branches of shapes {builder.source(input)} and {builder.source(other)}")
        return builder.add(Add((input.index, other.index), builder.source(input)))
    x, constant = (input, other) if isinstance(input, Value) else (other, input)
    return _scale(builder, value(x), _one, read(constant))


def subtract(builder: Builder, input: Any, other: Any, *, alpha: float = 1) -> Value:
    if alpha != 1:
        raise Refused(f"alpha={alpha}")
    if isinstance(input, Value):
        return _scale(builder, input, _one, _minus(read(other)))
    return _scale(builder, value(other), _minus(_one), read(input))


def multiply(builder: Builder, input: Any, other: Any) -> Value:
    x, constant = (input, other) if isinstance(input, Value) else (other, input)
    return _scale(builder, value(x), read(constant), _zero)


def divide(builder: Builder, input: Any, other: Any, *, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        raise Refused(f"rounding_mode={rounding_mode!r}")
    by = read(other)
    return _scale(builder, value(input), lambda like: 1 / by(like), _zero)


def negate(builder: Builder, input: Any) -> Value:
    return _scale(builder, value(input), _minus(_one), _zero)


# Rectifiers


def rectify(builder: Builder, input: Any, inplace: bool = False) -> Value:
    x = value(input)
    builder.in_place = inplace
    return builder.add(Rectify((x.index,), builder.source(x)))


def clamp(builder: Builder, input: Any, min: Any = None, max: Any = None) -> Value:
    """As rectifiers: max(x, a) = a + relu(x − a), and min(x, b) = b − relu(b − x)."""
    x = value(input)
    if min is not None:
        a = read(min)
        x = _scale(builder, rectify(builder, _scale(builder, x, _one, _minus(a))), _one, a)
    if max is not None:
        b = read(max)
        x = _scale(builder, rectify(builder, _scale(builder, x, _minus(_one), b)), _minus(_one), b)
    return x


# Poolings and shapes


def max_pool(
    builder: Builder,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if return_indices:
        raise Refused("return_indices=True")
    x, kernel = value(input), _pair(kernel_size)
    strides = kernel if stride is None or stride == [] else _pair(stride)
    sizes = kernel, strides, _pair(padding), _pair(dilation), ceil_mode
    return builder.add(MaxPool((x.index,), builder.shape[1:], *sizes))


def _average(builder: Builder, input: Any, function: Callable[[Tensor], Tensor], window: int) -> Value:
    x = value(input)
    return builder.add(AveragePool((x.index,), builder.shape[1:], builder.source(x), window + 2, function))


def average_pool(
    builder: Builder,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    if divisor_override is not None:
        raise Refused(f"divisor_override={divisor_override}")
    sizes = kernel_size, stride, padding, ceil_mode, count_include_pad
    height, width = _pair(kernel_size)
    return _average(builder, input, lambda x: F.avg_pool2d(x, *sizes), height * width)


def adaptive_average_pool(builder: Builder, input: Any, output_size: Any) -> Value:
    _, height, width = builder.source(value(input))
    return _average(builder, input, lambda x: F.adaptive_avg_pool2d(x, output_size), height * width)


def mean(builder: Builder, input: Any, dim: Any = None, keepdim: bool = False) -> Value:
    source = builder.source(value(input))
    over = sorted(each % 4 for each in dim) if isinstance(dim, Sequence) else None
    if len(source) != 3 or over != [2, 3]:
        raise Refused(f"dim={dim}: the mean is known over height and width alone, dim=(2, 3)")
    return _average(builder, input, lambda x: x.mean((2, 3), keepdim=keepdim), source[1] * source[2])


def reshape(builder: Builder, input: Any, *_: Any, **__: Any) -> Value:
    x = value(input)
    if builder.shape[0] != 2:
        raise Refused("mixes the images of a batch")
    return builder.add(Reshape((x.index,), builder.shape[1:]))


def identity(builder: Builder, input: Any, *_: Any, **__: Any) -> Value:
    return value(input)


def dropout(builder: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise Refused("drops out in eval mode too (pass training=self.training)")
    return value(input)
