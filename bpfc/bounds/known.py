"""Which layers, functions and methods are known, and by which rule.

A layer calls the rule of its function, with parameters that are read where they live.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.bounds.operations import Scale
from bpfc.bounds.rules import (
    Builder,
    Constant,
    Refused,
    Value,
    adaptive_average_pool,
    add,
    average_pool,
    clamp,
    convolution,
    dense,
    divide,
    dropout,
    identity,
    max_pool,
    mean,
    multiply,
    negate,
    rectify,
    reshape,
    subtract,
    value,
)


def _of(module: nn.Module, name: str) -> Constant:
    return Constant(lambda: getattr(module, name))


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
    x = value(input)
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


def _rectify_layer(builder: Builder, layer: nn.ReLU, input: Any) -> Value:
    return rectify(builder, input, layer.inplace)


def _hardtanh_layer(builder: Builder, layer: nn.Hardtanh, input: Any) -> Value:
    clamped = clamp(builder, input, layer.min_val, layer.max_val)
    builder.in_place = layer.inplace  # after the clamp, whose rectifiers overwrite nothing
    return clamped


def _max_pool_layer(builder: Builder, layer: nn.MaxPool2d, input: Any) -> Value:
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    return max_pool(builder, input, *sizes)


def _average_pool_layer(builder: Builder, layer: nn.AvgPool2d, input: Any) -> Value:
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad
    return average_pool(builder, input, *sizes, layer.divisor_override)


def _adaptive_layer(builder: Builder, layer: nn.AdaptiveAvgPool2d, input: Any) -> Value:
    return adaptive_average_pool(builder, input, layer.output_size)


def _reshape_layer(builder: Builder, layer: nn.Module, input: Any) -> Value:
    return reshape(builder, input)


def _silent_layer(builder: Builder, layer: nn.Module, input: Any) -> Value:
    return value(input)


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
