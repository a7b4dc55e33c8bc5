import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import small_network
from torch import Tensor, nn

from bpfc.bitplanes import quantize
from bpfc.bounds import UntraceableError
from bpfc.methods import BPFCIBP, IBP, Normal
from bpfc.methods.ibp import TOLERANCE, balance, ball_bounds
from bpfc.models import behind, build, with_curve


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(5, 1, 28, 28), torch.tensor([3, 1, 4, 1, 5])


def worst_by_hand(network: nn.Sequential, lower: Tensor, upper: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Upper bounds of z_j − z_y with signed halves of the weights, and the bounds before each rectifier."""
    rectified = []
    for layer in list(network)[:-1]:
        if isinstance(layer, nn.Conv2d):
            plus, minus = layer.weight.clamp_min(0), layer.weight.clamp_max(0)

            def apply(x: Tensor, weight: Tensor, layer: nn.Conv2d = layer) -> Tensor:
                return F.conv2d(x, weight, None, layer.stride, layer.padding)

            bias = layer.bias[:, None, None]
            lower, upper = (
                apply(lower, plus) + apply(upper, minus) + bias,
                apply(upper, plus) + apply(lower, minus) + bias,
            )
        else:
            if isinstance(layer, nn.ReLU):
                rectified.append(torch.stack([lower, upper]))
            lower, upper = layer(lower), layer(upper)
    last = network[-1]
    rows = []
    for low, high, y in zip(lower, upper, labels, strict=True):
        weight, bias = last.weight - last.weight[y], last.bias - last.bias[y]
        rows.append(weight.clamp_min(0) @ high + weight.clamp_max(0) @ low + bias)
    return torch.stack(rows), rectified


def same(ours: Tensor, twin: Tensor, network: nn.Module) -> None:
    assert ours.item() == pytest.approx(twin.item(), rel=1e-4)
    gradients = [
        torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)
        for loss in (ours, twin)
    ]
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm()


def box(images: Tensor, eps: float, ends: tuple[float, float] | None) -> tuple[Tensor, Tensor]:
    bounds = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    if ends is None:
        return bounds
    lower, upper = (((x - ends[0]) / (ends[1] - ends[0])).clamp(0, 1) for x in bounds)
    return lower, upper


@pytest.mark.parametrize("ends", [None, (0.3, 0.7)])
def test_ibp_equals_its_formula(ends: tuple[float, float] | None, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    torch.manual_seed(1)
    network = small_network()
    assert isinstance(network, nn.Sequential)
    model = network if ends is None else with_curve(network, *ends)
    ours = IBP(eps=0.02, weight=0.8).weighted(0.5)(model, images, labels)
    worst, _ = worst_by_hand(network, *box(images, 0.01, ends), labels)
    twin = 0.6 * F.cross_entropy(model(images), labels) + 0.4 * F.cross_entropy(worst, labels)
    same(ours.loss, twin, network)
    torch.testing.assert_close(ours.logits, model(images))


def test_bpfc_with_bounds_equals_its_formula(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    torch.manual_seed(1)
    network = small_network()
    assert isinstance(network, nn.Sequential)
    torch.manual_seed(2)
    ours = BPFCIBP(eps=0.02, k=6, weight=3.0, share=0.8).weighted(0.5)(network, images, labels)
    torch.manual_seed(2)
    distance = (network(images) - network(quantize(images, 6))).square().sum(dim=1).mean()
    worst, _ = worst_by_hand(network, *box(images, 0.01, None), labels)
    cross_entropy = F.cross_entropy(network(images), labels)
    same(ours.loss, 0.6 * cross_entropy + 0.4 * F.cross_entropy(worst, labels) + 3 * distance, network)


def test_balance_equals_its_formula(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    torch.manual_seed(1)
    network = small_network()
    assert isinstance(network, nn.Sequential)
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.bias[::2] += 0.8  # so that some are surely on and some surely off
            layer.bias[1::2] -= 0.3
    method = IBP(eps=0.02, weight=0.8, balance=0.5, grown=0.5)
    ours = method(network, images, labels)
    lower, upper = box(images, 0.01, None)
    _, rectified = worst_by_hand(network, lower, upper, labels)
    total = torch.zeros(())
    for low, high in rectified:
        centre = (low + high) / 2
        total = total + F.relu(TOLERANCE - (upper - lower).mean() / (high - low).mean())
        on, off = centre[low > 0], centre[high < 0]
        for p, q in (
            (on.sum(), -off.sum()),
            ((on - centre.mean()).square().sum(), (off - centre.mean()).square().sum()),
        ):
            total = total + F.relu(TOLERANCE - min(p / q, q / p))
    twin = total / TOLERANCE / len(rectified)
    assert twin > 0
    same(balance(*ball_bounds(network, images, 0.01)), twin, network)
    without = IBP(eps=0.02, weight=0.8, grown=0.5)(network, images, labels)
    assert (ours.loss - without.loss).item() == pytest.approx(0.25 * twin.item(), rel=1e-3)
    assert "balance" not in IBP(eps=0.02)(network, images, labels).parts


def test_balance_pulls_from_the_first_step_on(batch: tuple[Tensor, Tensor]) -> None:
    """At ε = 0 no interval has a width, and how they widen would have no gradient."""
    torch.manual_seed(1)
    network = small_network()
    start, later = (
        IBP(eps=0.1, balance=1.0).weighted(factor)(network, *batch).parts["balance"].item() for factor in (0, 1e-3)
    )
    assert start == later
    assert start != pytest.approx(balance(*ball_bounds(network, batch[0], 0.0)).item(), rel=0.01)


@pytest.mark.parametrize("training", [True, False])
def test_bounds_take_batchnorm_as_the_clean_images_have_it(training: bool, batch: tuple[Tensor, Tensor]) -> None:
    """In train mode by the batch's mean and variance, through which the loss differentiates."""
    images, labels = batch
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 4, 5, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(576, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    network(torch.rand(8, 1, 28, 28))  # so that the running statistics are not the batch's
    with torch.no_grad():
        network[1].weight[0] *= -1  # whose bounds change places
    network.train(training)
    once = copy.deepcopy(network)
    once(images)
    ours = IBP(eps=0.02, weight=0.8)(network, images, labels)
    for name, value in once.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)

    clean, (lower, upper) = images, box(images, 0.02, None)
    for layer in network[:-1]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            halves = [{"weight": half} for half in (layer.weight.clamp_min(0), layer.weight.clamp_max(0))]
            ends = [
                sum(torch.func.functional_call(layer, half, x) for half, x in zip(halves, each, strict=True))
                for each in ((lower, upper), (upper, lower))
            ]
            (lower, upper), clean = ends, layer(clean)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            places, shape = ((0, 2, 3), (-1, 1, 1)) if clean.dim() == 4 else ((0,), (-1,))
            mean, variance = layer.running_mean, layer.running_var
            if training:
                mean = clean.mean(places)
                variance = (clean - mean.view(shape)).square().mean(places)
            scale = (layer.weight / (variance + layer.eps).sqrt()).view(shape)
            shift = layer.bias.view(shape) - mean.view(shape) * scale
            ends = [lower * scale + shift, upper * scale + shift]
            lower, upper, clean = torch.minimum(*ends), torch.maximum(*ends), clean * scale + shift
        else:
            lower, upper, clean = layer(lower), layer(upper), layer(clean)
    last, rows = network[-1], []
    for low, high, y in zip(lower, upper, labels, strict=True):
        weight, bias = last.weight - last.weight[y], last.bias - last.bias[y]
        rows.append(weight.clamp_min(0) @ high + weight.clamp_max(0) @ low + bias)
    twin = 0.2 * F.cross_entropy(last(clean), labels) + 0.8 * F.cross_entropy(torch.stack(rows), labels)
    same(ours.loss, twin, network)


def test_worst_is_above_every_image_of_the_ball(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    torch.manual_seed(1)
    model = with_curve(small_network(), 0.1, 0.9)
    worst = IBP(eps=0.05)(model, images, labels).parts["worst_cross_entropy"]
    for _ in range(20):
        inside = (images + 0.05 * (2 * torch.rand_like(images) - 1).sign()).clamp(0, 1)
        assert F.cross_entropy(model(inside), labels) < worst


def test_at_the_start_of_its_schedule_it_is_normal_training(batch: tuple[Tensor, Tensor]) -> None:
    model = small_network()
    torch.testing.assert_close(
        IBP(eps=0.1).weighted(0.0)(model, *batch).loss, Normal()(model, *batch).loss, rtol=1e-5, atol=1e-6
    )


def test_follows_the_weights_and_the_network(batch: tuple[Tensor, Tensor]) -> None:
    """What was traced for one network, or for one state of it, must not serve for another."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = small_network()
        assert isinstance(network, nn.Sequential)
        for _ in range(2):
            worst, _ = worst_by_hand(network, *box(batch[0], 0.02, None), batch[1])
            found = IBP(eps=0.02)(network, *batch).parts["worst_cross_entropy"]
            torch.testing.assert_close(found, F.cross_entropy(worst, batch[1]).detach(), rtol=1e-4, atol=1e-5)
            with torch.no_grad():
                network[0].weight *= 0.5
            network[-1] = nn.Linear(network[-1].in_features, 10)  # as where a head is exchanged


def test_sparse_weights_begin_with_narrow_bounds() -> None:
    """M-LeNet's own widen an interval by six orders of magnitude, so that nothing is learned."""
    images, labels = torch.rand(2, 1, 28, 28), torch.tensor([0, 1])
    torch.manual_seed(0)
    gains = []
    for name in ("m-lenet", "m-lenet-sparse"):
        model = build(f"{name}@0.3-0.7", channels=1, classes=10, size=28)
        gains.append(IBP(eps=0.01)(model, images, labels).parts["worst_cross_entropy"].item())
        found = behind(model)
        assert found is not None
        spread = found[1](images).std(dim=0).mean()
    assert gains[0] > 100 * gains[1]
    assert gains[1] < 20
    assert spread > 1e-3  # and the images are still told apart
    names = [build(name, channels=1, classes=10, size=28).state_dict().keys() for name in ("m-lenet", "m-lenet-sparse")]
    assert names[0] == names[1]


def test_what_has_no_bounds_is_named(batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UntraceableError, match="Softplus"):
        IBP()(nn.Sequential(nn.Softplus(), nn.Flatten(), nn.Linear(784, 10)), *batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IBP(eps=8), "eps=8"),
        (lambda: IBP(weight=2.0), "weight=2"),
        (lambda: IBP(balance=-1.0), "balance=-1"),
        (lambda: BPFCIBP(share=-0.1), "share=-0.1"),
        (lambda: BPFCIBP(k=8), "k=8"),
    ],
)
def test_wrong_settings_are_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()
