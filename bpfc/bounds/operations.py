"""What a traced network is made of: a handful of operations, each on the outputs of earlier ones.

Parameters are read where they live each time they are needed, so that bounds differentiate to the weights and follow
them as they are trained.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Read = Callable[[Tensor], Tensor]
"""Gives a constant of the network in the dtype and on the device of the given tensor."""

Pair = tuple[int, int]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One value of the network.

    Attributes:
        inputs: which earlier values it is made of, by their places in the graph.
        shape: of the value for one image, without the batch.
    """

    inputs: tuple[int, ...]
    shape: Shape


class Input(Operation):
    """The images."""


class Rectify(Operation):
    """max(x, 0), elementwise."""


class Add(Operation):
    """The sum of two values of one shape."""


class Reshape(Operation):
    """The same numbers in another shape, image by image."""


@dataclass(frozen=True)
class MaxPool(Operation):
    """The largest of each window of a value (C, H, W); what is padded never wins."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil: bool

    def pool(self, x: Tensor) -> Tensor:
        """Of x (N, C, H, W)."""
        return F.max_pool2d(x, self.kernel, self.stride, self.padding, self.dilation, self.ceil)

    def places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of each window of x (N, C, H, W), and where it stands in the flattened H · W."""
        return F.max_pool2d(x, self.kernel, self.stride, self.padding, self.dilation, self.ceil, return_indices=True)

    def windows(self, x: Tensor) -> Tensor:
        """The numbers of each window of x (N, C, H, W), as (N, C, window, H', W'); −∞ where it leaves the image."""
        spans = [
            (out - 1) * stride + dilation * (kernel - 1) + 1
            for out, stride, dilation, kernel in zip(
                self.shape[1:], self.stride, self.dilation, self.kernel, strict=True
            )
        ]
        (height, width), (top, left) = x.shape[2:], self.padding
        # Where a window of a pooling that rounds down ends before the image does, the pad is negative: it cuts.
        padded = F.pad(x, (left, spans[1] - width - left, top, spans[0] - height - top), value=-torch.inf)
        columns = F.unfold(padded, self.kernel, dilation=self.dilation, stride=self.stride)
        return columns.view(len(x), x.shape[1], -1, *self.shape[1:])


@dataclass(frozen=True)
class Affine(Operation):
    """x ↦ L x + b for one input.

    Attributes:
        source: shape of the input for one image.
        terms: how many roundings a number of the output may take part in, when L x + b is computed in any order of
            summation: for a sum of n products and a bias, n + 1.
    """

    source: Shape
    terms: int

    @abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """L x, of x (N, *source)."""

    @abstractmethod
    def absolute(self, x: Tensor) -> Tensor:
        """|L| x, with the absolute values of L's entries."""

    @abstractmethod
    def transposed(self, a: Tensor) -> Tensor:
        """Lᵀ a, of a (N, *shape)."""

    def bias(self, like: Tensor) -> Tensor:
        """b, of a shape that broadcasts to (N, *shape)."""
        return like.new_zeros(())

    def bias_magnitude(self, like: Tensor) -> Tensor:
        """The absolute values of the numbers that b is summed up from."""
        return self.bias(like).abs()


@dataclass(frozen=True)
class Convolution(Affine):
    """A two-dimensional convolution; `padding` is left, right, top, bottom, with zeros."""

    weight: Read
    offset: Read | None
    stride: Pair
    padding: tuple[int, int, int, int]
    dilation: Pair
    groups: int

    def linear(self, x: Tensor) -> Tensor:
        return self._convolve(x, self.weight(x))

    def absolute(self, x: Tensor) -> Tensor:
        return self._convolve(x, self.weight(x).abs())

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        left, right, top, bottom = self.padding
        if (left, top) == (right, bottom):
            return F.conv2d(x, weight, None, self.stride, (top, left), self.dilation, self.groups)
        return F.conv2d(F.pad(x, self.padding), weight, None, self.stride, 0, self.dilation, self.groups)

    def transposed(self, a: Tensor) -> Tensor:
        weight = self.weight(a)
        (height, width), (left, right, top, bottom) = self.source[1:], self.padding
        # What the last window does not reach, in the padded image.
        rest = [
            size - ((out - 1) * stride + dilation * (kernel - 1) + 1)
            for size, out, stride, dilation, kernel in zip(
                (height + top + bottom, width + left + right),
                self.shape[1:],
                self.stride,
                self.dilation,
                weight.shape[2:],
                strict=True,
            )
        ]
        padded = F.conv_transpose2d(a, weight, None, self.stride, 0, rest, self.groups, self.dilation)
        return padded[:, :, top : top + height, left : left + width]

    def bias(self, like: Tensor) -> Tensor:
        return like.new_zeros(()) if self.offset is None else self.offset(like).view(-1, 1, 1)


@dataclass(frozen=True)
class Dense(Affine):
    """A linear layer, on the last dimension."""

    weight: Read
    offset: Read | None

    def linear(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight(x))

    def absolute(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight(x).abs())

    def transposed(self, a: Tensor) -> Tensor:
        return a @ self.weight(a)

    def bias(self, like: Tensor) -> Tensor:
        return like.new_zeros(()) if self.offset is None else self.offset(like)

    def differences(self, labels: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (N, classes, source) and biases (N, classes) of logit_label − logit_j for each label and class j."""
        weight, bias = self.weight(like), self.bias(like).expand(self.shape)
        return weight[labels][:, None] - weight, bias[labels][:, None] - bias


@dataclass(frozen=True)
class Scale(Affine):
    """scale · x + shift, elementwise; both broadcast to the value's shape."""

    scale: Read
    shift: Read
    shift_magnitude: Read

    def linear(self, x: Tensor) -> Tensor:
        return x * self.scale(x)

    def absolute(self, x: Tensor) -> Tensor:
        return x * self.scale(x).abs()

    def transposed(self, a: Tensor) -> Tensor:
        return a * self.scale(a)

    def bias(self, like: Tensor) -> Tensor:
        return self.shift(like)

    def bias_magnitude(self, like: Tensor) -> Tensor:
        return self.shift_magnitude(like).abs()


@dataclass(frozen=True)
class AveragePool(Affine):
    """A mean over windows, as `function` computes it: linear, with weights that are not negative."""

    function: Callable[[Tensor], Tensor]

    def linear(self, x: Tensor) -> Tensor:
        return self.function(x)

    def absolute(self, x: Tensor) -> Tensor:
        return self.function(x)

    def transposed(self, a: Tensor) -> Tensor:
        pull = torch.func.vjp(self.function, a.new_zeros(len(a), *self.source))[1]
        return pull(a)[0]
