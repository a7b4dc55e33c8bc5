"""From torch's functions, methods and layers to the operations that bounds know.

A rule has the signature of the function that it stands for. `Value`s depend on the images, `Constant`s do not.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def _value(x: Any) -> Value:
    if not isinstance(x, Value):
        raise Refused("its first argument must depend on the images")
    return x


def _read(constant: Any) -> Read:
    """Reads a constant as float32 has it; float64 holds that exactly."""
    if isinstance(constant, (Constant, int, float)):
        now = constant.now if isinstance(constant, Constant) else lambda: constant
        return lambda like: torch.as_tensor(now(), device=like.device).to(like)
    raise Refused("one of its arguments must be a constant")


def _of(module: nn.Module, name: str) -> Constant:
    return Constant(lambda: getattr(module, name))


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
    x = _value(input)
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
            _read(weight),
            None if bias is None else _read(bias),
            _pair(stride),
            pads,
            (dilation_h, dilation_w),
            groups,
        )
    )


def dense(builder: Builder, input: Any, weight: Any, bias: Any = None) -> Value:
    x = _value(input)
    if not isinstance(weight, Constant):
        raise Refused("its weights depend on the images")
    offset = None if bias is None else _read(bias)
    source = builder.source(x)
    return builder.add(Dense((x.index,), builder.shape[1:], source, source[-1] + 1, _read(weight), offset))


def _convolution_layer(builder: Builder, layer: nn.Conv2d, input: Any) -> Value:
    if layer.padding_mode != "zeros":
        raise Refused(f"padding_mode={layer.padding_mode!r}")
    bias = None if layer.bias is None else _of(layer, "bias")
    sizes = layer.stride, layer.padding, layer.dilation, layer.groups
    return convolution(builder, input, _of(layer, "weight"), bias, *sizes)


def _dense_layer(builder: Builder, layer: nn.Linear, input: Any) -> Value:
    return dense(builder, input, _of(layer, "weight"), None if layer.bias is None else _of(layer, "bias"))


def _batch_norm(builder: Builder, layer: nn.BatchNorm2d, input: Any) -> Value:
    """γ (x − mean) / √(var + ε) + β with the running statistics, whatever mode the layer is in."""
    if layer.running_mean is None:
        raise Refused("keeps no running statistics, so an answer depends on the batch")
    x = _value(input)
    rest = (1,) * (len(builder.source(x)) - 1)

    def shaped(name: str, like: Tensor, plain: float) -> Tensor:
        found = getattr(layer, name)
        return like.new_tensor(plain) if found is None else found.to(like).view(-1, *rest)

    def scale(like: Tensor) -> Tensor:
        return shaped("weight", like, 1.0) / (shaped("running_var", like, 1.0) + layer.eps).sqrt()

    def shift(like: Tensor) -> Tensor:
        return shaped("bias", like, 0.0) - shaped("running_mean", like, 0.0) * scale(like)

    def shift_magnitude(like: Tensor) -> Tensor:
        return shaped("bias", like, 0.0).abs() + (shaped("running_mean", like, 0.0) * scale(like)).abs()

    # Variance plus ε, root (of up to two units on a GPU), division, times γ; times x or the mean; two sums.
    return builder.add(Scale((x.index,), builder.source(x), builder.source(x), 10, scale, shift, shift_magnitude))


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
    return _scale(builder, _value(x), _one, _read(constant))


def subtract(builder: Builder, input: Any, other: Any, *, alpha: float = 1) -> Value:
    if alpha != 1:
        raise Refused(f"alpha={alpha}")
    if isinstance(input, Value):
        return _scale(builder, input, _one, _minus(_read(other)))
    return _scale(builder, _value(other), _minus(_one), _read(input))


def multiply(builder: Builder, input: Any, other: Any) -> Value:
    x, constant = (input, other) if isinstance(input, Value) else (other, input)
    return _scale(builder, _value(x), _read(constant), _zero)


def divide(builder: Builder, input: Any, other: Any, *, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        raise Refused(f"rounding_mode={rounding_mode!r}")
    by = _read(other)
    return _scale(builder, _value(input), lambda like: 1 / by(like), _zero)


def negate(builder: Builder, input: Any) -> Value:
    return _scale(builder, _value(input), _minus(_one), _zero)


# Rectifiers


def rectify(builder: Builder, input: Any, inplace: bool = False) -> Value:
    x = _value(input)
    builder.in_place = inplace
    return builder.add(Rectify((x.index,), builder.source(x)))


def clamp(builder: Builder, input: Any, min: Any = None, max: Any = None) -> Value:
    """As rectifiers: max(x, a) = a + relu(x − a), and min(x, b) = b − relu(b − x)."""
    x = _value(input)
    if min is not None:
        a = _read(min)
        x = _scale(builder, rectify(builder, _scale(builder, x, _one, _minus(a))), _one, a)
    if max is not None:
        b = _read(max)
        x = _scale(builder, rectify(builder, _scale(builder, x, _minus(_one), b)), _minus(_one), b)
    return x


def _hardtanh_layer(builder: Builder, layer: nn.Hardtanh, input: Any) -> Value:
    builder.in_place = layer.inplace
    return clamp(builder, input, layer.min_val, layer.max_val)


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
    x, kernel = _value(input), _pair(kernel_size)
    step = kernel if stride is None or stride == [] else _pair(stride)
    sizes = kernel, step, _pair(padding), _pair(dilation), ceil_mode
    return builder.add(MaxPool((x.index,), builder.shape[1:], *sizes))


def _max_pool_layer(builder: Builder, layer: nn.MaxPool2d, input: Any) -> Value:
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    return max_pool(builder, input, *sizes)


def _average(builder: Builder, input: Any, function: Callable[[Tensor], Tensor], window: int) -> Value:
    x = _value(input)
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


def _average_pool_layer(builder: Builder, layer: nn.AvgPool2d, input: Any) -> Value:
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad
    return average_pool(builder, input, *sizes, layer.divisor_override)


def adaptive_average_pool(builder: Builder, input: Any, output_size: Any) -> Value:
    _, height, width = builder.source(_value(input))
    return _average(builder, input, lambda x: F.adaptive_avg_pool2d(x, output_size), height * width)


def _adaptive_layer(builder: Builder, layer: nn.AdaptiveAvgPool2d, input: Any) -> Value:
    return adaptive_average_pool(builder, input, layer.output_size)


def mean(builder: Builder, input: Any, dim: Any = None, keepdim: bool = False) -> Value:
    source = builder.source(_value(input))
    over = sorted(each % 4 for each in dim) if isinstance(dim, Sequence) else None
    if len(source) != 3 or over != [2, 3]:
        raise Refused(f"dim={dim}: the mean is known over height and width alone, dim=(2, 3)")
    return _average(builder, input, lambda x: x.mean((2, 3), keepdim=keepdim), source[1] * source[2])


def reshape(builder: Builder, input: Any, *_: Any, **__: Any) -> Value:
    x = _value(input)
    if builder.shape[0] != 2:
        raise Refused("mixes the images of a batch")
    return builder.add(Reshape((x.index,), builder.shape[1:]))


def _reshape_layer(builder: Builder, layer: nn.Module, input: Any) -> Value:
    return reshape(builder, input)


def identity(builder: Builder, input: Any, *_: Any, **__: Any) -> Value:
    return _value(input)


def dropout(builder: Builder, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise Refused("drops out in eval mode too (pass training=self.training)")
    return _value(input)


def _silent_layer(builder: Builder, layer: nn.Module, input: Any) -> Value:
    return _value(input)


def _rectify_layer(builder: Builder, layer: nn.ReLU, input: Any) -> Value:
    return rectify(builder, input, layer.inplace)


MODULES: dict[type[nn.Module], Callable[..., Value]] = {
    nn.Conv2d: _convolution_layer,
    nn.Linear: _dense_layer,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _rectify_layer,
    nn.Hardtanh: _hardtanh_layer,  # ReLU6 is one
    nn.MaxPool2d: _max_pool_layer,
    nn.AvgPool2d: _average_pool_layer,
    nn.AdaptiveAvgPool2d: _adaptive_layer,
    nn.Flatten: _reshape_layer,
    nn.Unflatten: _reshape_layer,
    nn.Identity: _silent_layer,
    nn.Dropout: _silent_layer,
    nn.Dropout2d: _silent_layer,
}

FUNCTIONS: dict[Any, Callable[..., Value]] = {
    F.conv2d: convolution,
    F.linear: dense,
    F.relu: rectify,
    F.relu_: rectify,
    torch.relu: rectify,
    torch.relu_: rectify,
    torch.clamp: clamp,
    torch.clip: clamp,
    F.max_pool2d: max_pool,
    torch.max_pool2d: max_pool,
    F.avg_pool2d: average_pool,
    F.adaptive_avg_pool2d: adaptive_average_pool,
    torch.mean: mean,
    torch.flatten: reshape,
    torch.reshape: reshape,
    F.dropout: dropout,
    operator.add: add,
    operator.iadd: add,
    torch.add: add,
    operator.sub: subtract,
    operator.isub: subtract,
    torch.sub: subtract,
    operator.mul: multiply,
    operator.imul: multiply,
    torch.mul: multiply,
    operator.truediv: divide,
    operator.itruediv: divide,
    torch.div: divide,
    operator.neg: negate,
    torch.neg: negate,
}

METHODS: dict[str, Callable[..., Value]] = {
    "relu": rectify,
    "relu_": rectify,
    "clamp": clamp,
    "clip": clamp,
    "clamp_": clamp,
    "mean": mean,
    "flatten": reshape,
    "view": reshape,
    "reshape": reshape,
    "contiguous": identity,
    "add": add,
    "add_": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
}

IN_PLACE = {
    operator.iadd,
    operator.isub,
    operator.imul,
    operator.itruediv,
    torch.relu_,
    F.relu_,
    "relu_",
    "clamp_",
    "add_",
}
"""What overwrites its first argument, beside what is called with inplace=True."""
