"""What a network is read as, and what is refused by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.bounds import FLOAT32, UntraceableError, crown_margins, interval_bounds, interval_margins, propagate, trace
from bpfc.bounds.operations import Affine, MaxPool, Rectify
from bpfc.models import NETWORKS, Normalise


class Users(nn.Module):
    """A network as somebody might write it, with functions instead of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(5, 4 * 2 * 2))
        self.gain = nn.Parameter(torch.rand(4) + 0.5)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.5) / 0.25
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        y = self.again(x).relu() * self.gain.view(1, -1, 1, 1)
        x = x + y
        x += 1
        x = torch.clamp(F.avg_pool2d(x, 2), 0.1, 3)
        x = torch.flatten(x, 1)
        x = F.dropout(x.view(x.size(0), -1), 0.3, self.training)
        return 1 - F.linear(self.drop(x), self.weight)


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) + x.mean([-2, -1], keepdim=True).reshape(x.shape[0], -1)


def contains_forward(model: nn.Module, shape: tuple[int, int, int]) -> None:
    """The bounds of images alone hold what float32 computes, tightly; those of a box hold what it computes inside."""
    model.eval()
    graph, images = trace(model, shape), torch.rand(2, *shape)
    with torch.no_grad():
        logits = model(images)
    bounds = propagate(graph, images.double(), images.double(), unit=FLOAT32)[-1]
    assert ((bounds.lower <= logits) & (logits <= bounds.upper)).all()
    exact, _ = interval_bounds(graph, images.double(), images.double())
    torch.testing.assert_close(exact.float(), logits, rtol=1e-4, atol=1e-5)
    lower, upper = interval_bounds(graph, (images - 0.01).double(), (images + 0.01).double())
    with torch.no_grad():
        inside = model.double()((images + 0.02 * (torch.rand_like(images) - 0.5)).double())
    assert ((lower <= inside) & (inside <= upper)).all()
    assert (lower < upper).any()


@pytest.mark.parametrize(
    ("name", "shape"), [("m-lenet", (1, 28, 28)), ("net-a", (1, 28, 28)), ("resnet-18", (3, 8, 8))]
)
def test_the_papers_networks_are_read(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](shape[0], 10, shape[1])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -1, 1)
    contains_forward(nn.Sequential(Normalise([0.3] * shape[0], [0.2] * shape[0]), network), shape)


def test_functional_calls_are_read() -> None:
    torch.manual_seed(0)
    contains_forward(Users(), (3, 8, 8))


class Normalised(nn.Module):
    """With constants of a batch's shape, as many write it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("std", torch.rand(1, 3, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def test_constants_of_a_batch_s_shape_are_read_backwards_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Normalised(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    contains_forward(model.float(), (3, 4, 4))
    x, labels = torch.rand(2, 3, 4, 4).double(), torch.tensor([0, 2])
    graph, logits = trace(model, (3, 4, 4)), model(x)
    found = crown_margins(graph, propagate(graph, x, x), labels)
    torch.testing.assert_close(found, logits.gather(1, labels[:, None]) - logits)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(2, 4, 2, padding="same"), nn.ReLU6(), nn.Flatten(), nn.Linear(4 * 49, 3)],
        [
            nn.Conv2d(2, 4, 3, stride=3, dilation=2, groups=2, padding=(2, 1), bias=False),
            nn.Flatten(),
            nn.Linear(24, 3),
        ],
        [nn.MaxPool2d(3, 2, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3), nn.BatchNorm1d(3)],
        [nn.MaxPool2d(2, 3, ceil_mode=True), nn.Flatten(), nn.Linear(18, 4), nn.Hardtanh(-0.25, 0.125)],
        [nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Identity(), nn.Flatten(), nn.Linear(32, 3)],
        [nn.AdaptiveAvgPool2d((3, None)), nn.Flatten(), nn.Unflatten(1, (2, 21)), nn.Flatten(), nn.Linear(42, 3)],
        [nn.Conv2d(2, 3, 3), Pooled()],
    ],
    ids=lambda layers: type(layers[0]).__name__,
)
def test_layers_with_their_settings_are_read(layers: list[nn.Module]) -> None:
    model = nn.Sequential(*layers)
    torch.manual_seed(0)
    for module in model.modules():  # pytest made them before any seed
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    contains_forward(model, (2, 7, 7))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, (3, 2), padding="same", dilation=(1, 3)),
        nn.Conv2d(2, 6, 3, stride=(2, 3), padding=1, groups=2),
        nn.Linear(9, 4),
        nn.AvgPool2d(3, 2, 1),
        nn.AdaptiveAvgPool2d(4),
        nn.BatchNorm2d(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_an_affine_operation_and_its_transpose_belong_together(layer: nn.Module) -> None:
    operation = trace(nn.Sequential(layer, nn.Flatten()), (2, 8, 9)).operations[1]
    assert isinstance(operation, Affine)
    x, a = torch.randn(3, *operation.source).double(), torch.randn(3, *operation.shape).double()
    torch.testing.assert_close((operation.linear(x) * a).sum(), (x * operation.transposed(a)).sum())
    wide = operation.absolute(x.abs())
    assert (wide >= operation.linear(x).abs() - 1e-12).all()
    reached = layer.double().eval()(x)
    torch.testing.assert_close(operation.linear(x) + operation.bias(x), reached)


@pytest.mark.parametrize("pool", [(2, 2, 0, 1, False), (3, 2, 1, 1, False), (2, 3, 0, 1, True), (2, 2, 1, 2, False)])
def test_windows_hold_what_is_pooled(pool: tuple[int, int, int, int, bool]) -> None:
    operation = trace(nn.Sequential(nn.MaxPool2d(*pool[:4], ceil_mode=pool[4]), nn.Flatten()), (2, 8, 9)).operations[1]
    assert isinstance(operation, MaxPool)
    x = torch.randn(3, 2, 8, 9)
    assert torch.equal(operation.windows(x).amax(dim=2), operation.pool(x))


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Mixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, -1)


class Overwritten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x.view(x.shape), inplace=True) + x


class Clamped(nn.Module):
    """Reads what ReLU6 has overwritten: proofs would be of x + relu6(x), the network gives 2 relu6(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.clamp = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        doubled = 2 * x
        clamped: Tensor = self.clamp(doubled)
        return clamped + doubled


class Optional(nn.Module):
    """Takes more than images, if one likes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)

    def forward(self, x: Tensor, features: bool = False, *more: Tensor, scale: float = 2.0, **rest: Tensor) -> Tensor:
        x = torch.flatten(x, 1) * scale
        if features or more or rest:
            return x
        logits: Tensor = self.layer(x)
        return logits


class Second(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.flatten(x + y, 1)


def test_what_a_forward_takes_besides_images_has_its_default() -> None:
    model, x = Optional().eval(), torch.rand(3, 1, 4, 4)
    torch.testing.assert_close(interval_bounds(trace(model, (1, 4, 4)), x, x)[0], model(x))
    with pytest.raises(UntraceableError, match="missing 1 required positional argument: 'y'"):
        trace(Second(), (1, 4, 4))


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class Widened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


def hooked() -> nn.Module:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    return layer


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (nn.GELU(), "body.1 (GELU): no bound is known"),
        (Turned(), "body.1 (Turned): permute: no bound is known"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "padding_mode='circular'"),
        (nn.BatchNorm2d(1, track_running_stats=False), "keeps no running statistics"),
        (Branch(), "body.1 (Branch): its forward cannot be read"),
        (Mixed(), "body.1 (Mixed): reshape: mixes the images of a batch"),
        (Overwritten(), "body.1 (Overwritten): relu: works in place on a value that is used again"),
        (Clamped(), "body.1.clamp (ReLU6): works in place on a value that is used again"),
        (Squared(), "body.1 (Squared): mul: one of its arguments must be a constant"),
        (Noisy(), "body.1 (Noisy): dropout: drops out in eval mode too"),
        (Widened(), r"body.1 (Widened): sub: a constant that turns the shape (1, 8, 8) into (3, 8, 8)"),
        (hooked(), "body.1 (ReLU): its hooks may change what it computes"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_has_no_bound_is_named(layer: nn.Module, told: str) -> None:
    model = nn.Sequential()
    model.add_module("body", nn.Sequential(nn.ReLU(), layer))
    with pytest.raises(UntraceableError) as error:
        trace(model, (1, 8, 8))
    assert told in str(error.value)


def test_what_gives_no_logits_or_takes_other_images_is_refused() -> None:
    with pytest.raises(UntraceableError, match="from torch.compile; hand in the one that was compiled"):
        trace(torch.compile(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), backend="eager"), (1, 2, 2))
    with pytest.raises(UntraceableError, match=r"must give one tensor of logits"):
        trace(nn.Conv2d(1, 2, 3), (1, 8, 8))
    with pytest.raises(UntraceableError, match=r"does not take images of shape \(3, 8, 8\)"):
        trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), (3, 8, 8))


def test_the_model_is_left_as_it_was_found() -> None:
    class Constants(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.tensor([[[0.25]]])

    model = nn.Sequential(Constants(), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten()).train()
    model[3].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = set(vars(model))
    graph = trace(model, (1, 4, 4))
    assert [module.training for module in model] == [True, True, True, False, True]
    assert set(vars(model)) == attributes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(interval_bounds(graph, x, x)[0], model.eval()(x))


def test_parameters_are_followed_and_differentiated() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).eval()
    graph, x, labels = trace(model, (1, 4, 4)), torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 3, 0])
    assert sum(isinstance(operation, Rectify) for operation in graph.operations) == 1

    def loss(*_: Tensor) -> Tensor:
        bounds = propagate(graph, x.double() - 0.1, x.double() + 0.1)
        return interval_margins(graph, bounds, labels).sum()

    model.double()
    before = loss()
    before.backward()
    weights = list(model.parameters())
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in weights if parameter.ndim > 1
    )
    assert torch.autograd.gradcheck(loss, weights)
    with torch.no_grad():
        model[0].weight.add_(1)
    assert loss() != before
