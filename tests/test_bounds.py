"""Bounds against what they must never pass: closed forms, exact optima, points, attacks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bpfc.bounds import FLOAT32, Interval, crown_margins, interval_margins, propagate, trace, without_label
from bpfc.models import NETWORKS

METHODS = {"interval": interval_margins, "crown": crown_margins}


def box(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return (x.double() - eps).clamp_min(0), (x.double() + eps).clamp_max(1)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]) - logits


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_network_has_a_closed_form(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    x, labels, eps = torch.rand(6, 3, 2, 2), torch.tensor([0, 1, 2, 3, 0, 1]), 0.3
    graph, (lower, upper) = trace(model, (3, 2, 2)), box(x, eps)
    found = METHODS[method](graph, propagate(graph, lower, upper), labels)
    weight, bias = model[1].weight.double(), model[1].bias.double()
    difference = weight[labels][:, None] - weight
    worst = torch.where(difference > 0, lower.flatten(1)[:, None], upper.flatten(1)[:, None])
    expected = (difference * worst).sum(dim=2) + bias[labels][:, None] - bias
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    slack = expected - METHODS[method](graph, propagate(graph, lower, upper, unit=FLOAT32), labels)
    assert (without_label(slack, labels, 1e-6) > 0).all()
    assert slack.max() < 1e-4


def exact_margin(model: nn.Sequential, lower: Tensor, upper: Tensor, label: int, other: int) -> float:
    """The least logit_label − logit_other in a box, by a mixed-integer program, built from the layers alone."""
    size = lower.numel()
    low, high = [lower.flatten().numpy().copy()], [upper.flatten().numpy().copy()]
    whole = [np.zeros(size)]
    rows: list[tuple[dict[int, float], float, float]] = []
    current, shape = np.arange(size), lower.shape
    a, b = low[0], high[0]

    def new(lows: NDArray[np.float64], highs: NDArray[np.float64], integer: bool = False) -> NDArray[np.int64]:
        nonlocal size
        made = np.arange(size, size + len(lows))
        low.append(lows), high.append(highs), whole.append(np.full(len(lows), float(integer)))
        size += len(lows)
        return made

    for layer in model:
        zero = torch.zeros(1, *shape, dtype=torch.float64)
        reached = layer(zero)
        if isinstance(layer, nn.ReLU):
            made, switch = new(np.maximum(a, 0), np.maximum(b, 0)), new(np.zeros(len(a)), np.ones(len(a)), True)
            for x, y, z, least, most in zip(current, made, switch, a, b, strict=True):
                rows.append(({y: 1, x: -1}, 0, np.inf))  # y ≥ x
                rows.append(({y: 1, x: -1, z: -min(least, 0)}, -np.inf, -min(least, 0)))  # y ≤ x − l (1 − z)
                rows.append(({y: 1, z: -max(most, 0)}, -np.inf, 0))  # y ≤ u z
            a, b = np.maximum(a, 0), np.maximum(b, 0)
        elif isinstance(layer, nn.MaxPool2d):
            places = torch.arange(len(a), dtype=torch.float64).view(1, *shape)
            windows = F.unfold(places.transpose(0, 1), layer.kernel_size, stride=layer.stride).numpy().astype(int)
            windows = windows.transpose(0, 2, 1).reshape(-1, windows.shape[1])  # channels are unfold's batch here
            made = new(a[windows].max(axis=1), b[windows].max(axis=1))
            for y, window in zip(made, windows, strict=True):
                chosen = new(np.zeros(len(window)), np.ones(len(window)), True)
                rows.append(({int(z): 1.0 for z in chosen}, 1, 1))
                for place, z in zip(window, chosen, strict=True):
                    gap = b[window].max() - a[place]
                    rows.append(({y: 1, current[place]: -1}, 0, np.inf))  # y ≥ x
                    rows.append(({y: 1, current[place]: -1, z: gap}, -np.inf, gap))  # y ≤ x + gap (1 − z)
            a, b = a[windows].max(axis=1), b[windows].max(axis=1)
        else:
            offset = reached.flatten().numpy()
            basis = torch.eye(len(a), dtype=torch.float64).view(-1, *shape)
            matrix = (layer(basis) - reached).flatten(1).T.numpy()
            middle, half = matrix @ (a + b) / 2 + offset, abs(matrix) @ (b - a) / 2
            a, b = middle - half, middle + half
            made = new(a, b)
            for y, weights, constant in zip(made, matrix, offset, strict=True):
                rows.append(({y: 1, **{int(x): -w for x, w in zip(current, weights, strict=True)}}, constant, constant))
        current, shape = made, reached.shape[1:]
    matrix = np.zeros((len(rows), size))
    for i, (entries, _, _) in enumerate(rows):
        for column, number in entries.items():
            matrix[i, column] = number
    aim = np.zeros(size)
    aim[current[label]], aim[current[other]] = 1, -1
    result = milp(
        aim,
        constraints=LinearConstraint(matrix, [row[1] for row in rows], [row[2] for row in rows]),
        bounds=Box(np.concatenate(low), np.concatenate(high)),
        integrality=np.concatenate(whole),
    )
    assert result.success
    worst = torch.from_numpy(result.x[: lower.numel()]).view(1, *lower.shape)
    reached = model(worst)[0]
    assert float(reached[label] - reached[other]) == pytest.approx(result.fun, abs=1e-5)  # the program is the network
    return float(result.fun)


def dense() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)
    )  # a dozen rectifiers


def pooled() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 2, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)
    )


@pytest.mark.parametrize("network", [dense, pooled])
def test_never_above_the_exact_optimum_and_not_far_below(network: type[nn.Sequential]) -> None:
    lost, gaps = 0.0, dict.fromkeys(METHODS, 0.0)
    for seed in range(6):
        torch.manual_seed(seed)
        model, x = network().double().requires_grad_(False), torch.rand(1, 1, 3, 3).double()
        for parameter in model.parameters():
            parameter.mul_(2)  # so that many rectifiers bend inside the box
        label = model(x).argmax(dim=1)
        other = (int(label) + 1) % 3
        lower, upper = box(x, 0.1)
        exact = exact_margin(model, lower[0], upper[0], int(label), other)
        lost += float(margins(model(x), label)[0, other]) - exact
        graph = trace(model, (1, 3, 3))
        bounds = propagate(graph, lower, upper)
        for name, method in METHODS.items():
            found = float(method(graph, bounds, label)[0, other])
            assert found <= exact + 1e-6
            gaps[name] += exact - found
    # In multiples of what the perturbations truly cost: 0.6 and 0.2 for CROWN-IBP, 3.0 and 1.5 for intervals.
    assert 0 < gaps["crown"] < 0.7 * lost
    assert gaps["crown"] < gaps["interval"] < 3.2 * lost


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class Curve(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp((x - 0.2) / (0.7 - 0.2), 0, 1)


BLOCKS = {
    "curve": Curve,
    "convolution": lambda: nn.Conv2d(2, 2, 3, padding=1),
    "batch norm": lambda: nn.BatchNorm2d(2),
    "rectifier": nn.ReLU,
    "residual": lambda: Residual(2),
    "max-pool": lambda: nn.MaxPool2d(2, 1, 1),
    "padded max-pool": lambda: nn.MaxPool2d(3, 2, 1),
    "average-pool": lambda: nn.AvgPool2d(2, 1, 1),
}


def small(seed: int, blocks: list[str]) -> nn.Module:
    torch.manual_seed(seed)
    body = nn.Sequential(*[BLOCKS[name]() for name in blocks], nn.Flatten())
    width = body.eval()(torch.zeros(2, 2, 6, 6)).shape[1]
    model = nn.Sequential(body, nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 3))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.3, 2)
    return model.eval()


networks = st.builds(small, st.integers(0, 2**20), st.lists(st.sampled_from(sorted(BLOCKS)), max_size=4))


@given(networks, st.floats(1e-4, 0.3), st.integers(0, 2**20))
def test_no_point_of_the_box_passes_a_bound(model: nn.Module, eps: float, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(2, 2, 6, 6)
    lower, upper = box(x, eps)
    graph = trace(model, (2, 6, 6))
    bounds = propagate(graph, lower, upper, unit=FLOAT32)
    with torch.no_grad():
        labels = model(x).argmax(dim=1)
        lowest = {name: method(graph, bounds, labels) for name, method in METHODS.items()}
    # Points inside, corners of the box, and the corners that gradients say; as float32 computes them.
    points = [lower + (upper - lower) * torch.rand(2, 2, 6, 6) for _ in range(5)]
    points += [torch.where(torch.rand(2, 2, 6, 6) < 0.5, lower, upper) for _ in range(5)]
    for other in range(3):
        some = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(margins(model(some), labels)[:, other].sum() + some.sum() * 0, some)
        points.append(torch.where(gradient > 0, lower, upper))
    for point in points:
        # Rounded to float32 a point may leave the box by less than the box is wider than the judge's.
        inside = point.float().double().clamp(lower, upper).float()
        inside = torch.where((inside < lower) | (inside > upper), x, inside)
        with torch.no_grad():
            logits = model(inside)
        assert ((bounds[-1].lower <= logits) & (logits <= bounds[-1].upper)).all()
        for found in lowest.values():
            assert (found <= margins(logits.double(), labels)).all()


def test_bounds_hold_for_float32_where_those_of_real_numbers_do_not() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 50), nn.ReLU(), nn.Linear(50, 10))
    with torch.no_grad():
        model[1].weight.mul_(1000)  # sums that cancel
    x = torch.rand(64, 1, 20, 20)
    graph, logits = trace(model, (1, 20, 20)), model(x).detach()
    plain, sound = (propagate(graph, x.double(), x.double(), unit=unit)[-1] for unit in (0.0, FLOAT32))

    def holds(bounds: Interval) -> Tensor:
        return (bounds.lower <= logits) & (logits <= bounds.upper)

    assert not holds(plain).all()
    assert holds(sound).all()
    labels = logits.argmax(dim=1)
    bounds = propagate(graph, x.double(), x.double(), unit=FLOAT32)
    for method in METHODS.values():
        assert (method(graph, bounds, labels) <= margins(logits, labels).double()).all()


class Sum(nn.Module):
    """Two branches that do not round themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return x + F.max_pool2d(x, 3, 1, 1)


def large(layer: nn.Module, weight: float, bias: float) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(weight * torch.randn(layer.weight.shape))
        layer.bias.fill_(bias)
    return layer


ROUNDING = {
    "linear": lambda: nn.Sequential(nn.Flatten(), large(nn.Linear(36, 36), 1000, 0)),
    "bias of linear": lambda: nn.Sequential(nn.Flatten(), large(nn.Linear(36, 36), 1e-4, 1000)),
    "convolution": lambda: nn.Sequential(large(nn.Conv2d(1, 4, 3), 1000, 0), nn.Flatten()),
    "bias of convolution": lambda: nn.Sequential(large(nn.Conv2d(1, 4, 3), 1e-4, 1000), nn.Flatten()),
    "mean of batch norm": lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()),
    "branches": lambda: nn.Sequential(Sum(), nn.Flatten()),
    "average-pool": lambda: nn.Sequential(nn.AvgPool2d(3, 1), nn.Flatten()),
}


@pytest.mark.parametrize("name", ROUNDING)
def test_each_operation_accounts_for_its_rounding(name: str) -> None:
    torch.manual_seed(0)
    body = ROUNDING[name]().eval()
    if name == "mean of batch norm":
        body[0].running_mean.fill_(1000)
    x = torch.rand(64, 1, 6, 6)
    with torch.no_grad():
        reached = body(x)
        # Behind a rectifier that does not bend, and a last layer that hardly rounds: the margin is that number.
        shift = 1 - float(reached.min())
        last = nn.Linear(reached.shape[1], 2)
        last.weight.zero_()[0, 0] = 1
        last.bias.zero_()
        whole = nn.Sequential(body, Shifted(shift), nn.ReLU(), last).eval()
        logits, labels = whole(x).double(), torch.zeros(64, dtype=torch.int64)
    graph = trace(body, (1, 6, 6))
    plain, sound = (propagate(graph, x.double(), x.double(), unit=unit)[-1] for unit in (0.0, FLOAT32))
    assert not ((plain.lower <= reached) & (reached <= plain.upper)).all()
    assert ((sound.lower <= reached) & (reached <= sound.upper)).all()
    # Wide enough, but no wider than a thousand units of the largest term.
    assert (sound.upper - sound.lower).max() < 1e4 * FLOAT32 * max(1000, float(reached.abs().max()))
    graph = trace(whole, (1, 6, 6))
    bounds = propagate(graph, x.double(), x.double(), unit=FLOAT32)
    for method in METHODS.values():
        assert (method(graph, bounds, labels) <= margins(logits, labels)).all()


class Shifted(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


@pytest.mark.parametrize("bend", ["rectifier", "max-pool"])
def test_the_line_above_a_bend_meets_it_where_it_is_highest(bend: str) -> None:
    torch.manual_seed(0)
    body = [nn.MaxPool2d(2), nn.Flatten()] if bend == "max-pool" else [Shifted(-0.5), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(4 if bend == "max-pool" else 16, 2)).requires_grad_(False)
    model[-1].weight.copy_(-model[-1].weight.abs())
    model[-1].weight[1] = 0
    x, label = torch.rand(20, 1, 4, 4).double(), torch.zeros(20, dtype=torch.int64)
    lower, upper = box(x, 0.2)
    graph = trace(model, (1, 4, 4))
    found = crown_margins(graph, propagate(graph, lower, upper), label)
    torch.testing.assert_close(found, margins(model.double()(upper), label))  # brighter is worse, in every pixel


def test_what_float32_may_overflow_has_no_bound() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.fill_(1e38)
        model[3].weight.copy_(torch.tensor([[1e-30], [-1e-30]]).expand(2, 4))
    graph, x = trace(model, (1, 2, 2)), torch.ones(1, 1, 2, 2)
    assert model(x).isinf().any()
    with torch.no_grad():
        bounds = propagate(graph, x.double(), x.double(), unit=FLOAT32)
        for method in METHODS.values():
            assert not (method(graph, bounds, torch.tensor([0]))[0, 1] > -torch.inf)


@pytest.mark.parametrize("name", ["m-lenet", "resnet-18"])
def test_what_bounds_cost_in_forwards(name: str) -> None:
    channels, size = (1, 28) if name == "m-lenet" else (3, 16)
    model, x = NETWORKS[name](channels, 10, size).eval(), torch.rand(1, channels, size, size)
    graph, labels = trace(model, (channels, size, size)), torch.tensor([3])

    def work(run: object) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()  # type: ignore[operator]
        return counter.get_total_flops()

    forward = work(lambda: model(x))
    bounds = propagate(graph, *box(x, 0.1), unit=FLOAT32)
    interval = work(lambda: interval_margins(graph, propagate(graph, *box(x, 0.1), unit=FLOAT32), labels))
    training = work(lambda: interval_margins(graph, propagate(graph, *box(x, 0.1)), labels))
    crown = work(lambda: crown_margins(graph, bounds, labels))
    assert training / forward < 2.01
    assert interval / forward < 3.01
    assert (interval + crown) / forward < 13.5
