"""A network as a list of operations, read off its forward by torch.fx."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from bpfc.bounds.known import FUNCTIONS, IN_PLACE, METHODS, MODULES
from bpfc.bounds.operations import Operation, Reshape, Shape
from bpfc.bounds.rules import Builder, Constant, Refused, Value
from bpfc.modes import eval_mode

BATCH = 2
"""Images of the example that tells the shapes."""


class UntraceableError(ValueError):
    """The network holds something that no bound is known for."""


@dataclass(frozen=True)
class Graph:
    """A network in eval mode.

    Attributes:
        operations: in the order they are computed; the first is the images, the last the logits.
    """

    operations: tuple[Operation, ...]

    @property
    def shape(self) -> Shape:
        """(C, H, W) of an image."""
        return self.operations[0].shape

    @property
    def numbers(self) -> int:
        """How many numbers all values of an image hold."""
        return sum(prod(operation.shape) for operation in self.operations)

    @property
    def widest(self) -> int:
        """How many numbers the largest value of an image holds."""
        return max(prod(operation.shape) for operation in self.operations)

    @property
    def classes(self) -> int:
        return self.operations[-1].shape[0]


def trace(model: nn.Module, shape: Sequence[int]) -> Graph:
    """The operations of a network in eval mode, whose parameters and buffers stay where they are: trace once, train on.

    Layers: Conv2d, Linear, BatchNorm (as its running statistics have it), ReLU, ReLU6, Hardtanh, MaxPool2d, AvgPool2d,
    AdaptiveAvgPool2d, Flatten, Identity, Dropout (which does nothing in eval mode). Between and instead of them: their
    functional forms, view, reshape, flatten, the sum of two branches, clamp by constants, the mean over height and
    width, and + − · ÷ with constants.

    Args:
        model: from images in [0, 1] to logits. It is left as it was found.
        shape: (C, H, W) of an image.

    Raises:
        UntraceableError: anything else; it names the module and the operation.
    """
    if hasattr(model, "_orig_mod"):
        raise UntraceableError("the model is from torch.compile; hand in the one that was compiled, model._orig_mod")
    with eval_mode(model):
        before = set(vars(model))
        graph = _symbolic(model)
        shapes = _shapes(model, graph, tuple(shape))
        made = {name: vars(model)[name] for name in set(vars(model)) - before}
    builder = Builder(tuple(shape))
    values: dict[fx.Node, Value | Constant | Any] = {}
    for node in graph.nodes:
        try:
            values[node] = _value(node, model, made, values, shapes, builder)
        except Refused as reason:
            raise UntraceableError(_told(node, model, str(reason))) from reason
    for name in made:  # tensors that a forward makes anew, which fx leaves on the model
        delattr(model, name)
    last = values[next(node for node in graph.nodes if node.op == "output")]
    if not isinstance(last, Value) or len(builder.operations[last.index].shape) != 1:
        raise UntraceableError("the network must give one tensor of logits (N, classes)")
    return Graph(tuple(builder.operations[: last.index + 1]))


class _Tracer(fx.Tracer):
    """Remembers in which module tracing is, to name it if it fails."""

    where: tuple[str, nn.Module] | None = None

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """The images alone: whatever else a forward takes has its default, as where a model is called with images."""
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        outer, self.where = self.where, (self.path_of_module(m), m)
        result = super().call_module(m, forward, args, kwargs)
        self.where = outer  # not where tracing has failed: the innermost module is the one to name
        return result


def _symbolic(model: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except Exception as error:  # whatever a forward raises when it meets a symbol instead of a tensor
        path, module = tracer.where or ("", model)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UntraceableError(
            f"{_name(path, module)}: its forward cannot be read by torch.fx ({reason}); take branches that depend "
            "on an image or its shape (if, for, int(), .item()) out of it"
        ) from error


class _Shapes(fx.Interpreter):
    """Runs the network on an example and keeps the shape of each tensor; None for what is no tensor."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.seen: dict[fx.Node, Shape | None] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.seen[n] = tuple(result.shape) if isinstance(result, Tensor) else None
        return result


def _shapes(model: nn.Module, graph: fx.Graph, shape: Shape) -> dict[fx.Node, Shape | None]:
    found = _Shapes(model, graph)
    some = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(()))
    try:
        with torch.no_grad():
            found.run(some.new_zeros(BATCH, *shape))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UntraceableError(f"the network does not take images of shape {shape} ({reason})") from error
    return found.seen


def _value(
    node: fx.Node,
    model: nn.Module,
    made: dict[str, Tensor],
    values: dict[fx.Node, Any],
    shapes: dict[fx.Node, Shape | None],
    builder: Builder,
) -> Any:
    """What a node stands for: a value that depends on the images, a constant, or a number that says a shape."""
    if node.op == "placeholder":
        return Value(0)
    if node.op == "get_attr":
        return _attribute(model, str(node.target), made)
    arguments = [values[each] for each in node.all_input_nodes]
    args = fx.map_arg(node.args, lambda each: values[each])
    kwargs = fx.map_arg(node.kwargs, lambda each: values[each])
    if node.op == "output":
        return args[0]
    if not any(isinstance(each, Value) for each in arguments) and node.op != "call_module":
        if arguments and all(isinstance(each, Constant) for each in arguments):
            return Constant(_folded(node, args, kwargs))
        return _Size()  # what was made of a shape, or of nothing
    if shapes[node] is None:
        return _Size()
    builder.shape = shapes[node] or ()
    builder.in_place = False
    rule, layer = _rule(node, model)
    try:
        result = rule(builder, *args, **kwargs) if layer is None else rule(builder, layer, *args, **kwargs)
    except TypeError as error:
        raise Refused(f"is called in a way that is not known ({error})") from error
    if builder.in_place or node.target in IN_PLACE:
        _check_overwriting(node.all_input_nodes[0], values, builder)
    return result


class _Size:
    """A number that follows from a value's shape: good for a reshape, which looks at the example's shape instead."""


def _rule(node: fx.Node, model: nn.Module) -> tuple[Callable[..., Any], nn.Module | None]:
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if module._forward_hooks or module._forward_pre_hooks:
            raise Refused("its hooks may change what it computes")
        for kind, rule in MODULES.items():
            if isinstance(module, kind):
                return rule, module
    elif node.op == "call_method" and node.target in METHODS:
        return METHODS[str(node.target)], None
    elif node.op == "call_function" and node.target in FUNCTIONS:
        return FUNCTIONS[node.target], None
    raise Refused("no bound is known for it")


def _check_overwriting(node: fx.Node, values: dict[fx.Node, Any], builder: Builder) -> None:
    """Raises where an operation in place would change a value that is read again, under this name or as a view."""
    while True:
        if len(node.users) > 1:
            raise Refused("works in place on a value that is used again (make it inplace=False)")
        if not node.all_input_nodes:
            return
        earlier = node.all_input_nodes[0]
        same = isinstance(builder.operations[values[node].index], Reshape) or values[node] == values[earlier]
        if not same:
            return
        node = earlier


def _attribute(model: nn.Module, path: str, made: dict[str, Tensor]) -> Constant:
    if path in made:
        tensor = made[path]
        return Constant(lambda: tensor)
    owner, _, name = path.rpartition(".")
    module = model.get_submodule(owner)
    return Constant(lambda: getattr(module, name))


def _folded(node: fx.Node, args: Any, kwargs: Any) -> Callable[[], Any]:
    """A function of constants, computed as the network computes it, each time that it is needed."""

    def compute() -> Any:
        given = torch.utils._pytree.tree_map(lambda each: each.now() if isinstance(each, Constant) else each, args)
        named = torch.utils._pytree.tree_map(lambda each: each.now() if isinstance(each, Constant) else each, kwargs)
        if node.op == "call_method":
            return getattr(given[0], str(node.target))(*given[1:], **named)
        assert callable(node.target)
        return node.target(*given, **named)

    return compute


def _name(path: str, module: nn.Module) -> str:
    return f"{path} ({type(module).__name__})" if path else f"the network ({type(module).__name__})"


def _told(node: fx.Node, model: nn.Module, reason: str) -> str:
    if node.op == "call_module":
        where, what = _name(str(node.target), model.get_submodule(str(node.target))), ""
    else:
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        path = stack[-1] if stack else ""
        where = _name(path, model.get_submodule(path))
        what = f" {node.target if isinstance(node.target, str) else getattr(node.target, '__name__', node.target)}:"
    return (
        f"{where}:{what} {reason}; bounds are known for convolution, linear, BatchNorm, ReLU, clamp, max- and average-"
        "pooling, flatten, sums of branches and arithmetic with constants: put one of these in its place"
    )
