import pytest
import torch
import torch.nn.functional as F
from conftest import small_network
from torch import Tensor, nn

from bpfc.bitplanes import quantize
from bpfc.methods import Margin, Method
from bpfc.methods.bpfc import BPFC
from bpfc.models import with_curve


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 1, 28, 28)).float() / 255
    images[:, :, :10] = 0
    return images, torch.tensor([3, 1, 4, 1])


def smooth_network() -> nn.Module:
    """With softplus, so that the gradient itself has a gradient everywhere."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), nn.Softplus(beta=5), nn.Flatten(), nn.Linear(256, 5))


def plain(method: Margin, network: nn.Module, images: Tensor, coarse: Tensor, bounds: tuple[Tensor, Tensor],
          labels: Tensor) -> Tensor:  # fmt: skip
    """The formula, image by image and pixel by pixel where that is short."""
    total = torch.zeros(())
    for x, q, low, high, y in zip(images, coarse, *bounds, labels, strict=True):
        g_x, g_q = network(x[None])[0], network(q[None])[0]
        j = max((c for c in range(len(g_x)) if c != y), key=lambda c: g_x[c].item())
        place = (x if method.at == "image" else q).clone().requires_grad_()
        logits = network(place[None])[0]
        (gradient,) = torch.autograd.grad(logits[j] - logits[y], place, create_graph=True)
        gain = torch.zeros(())
        for slope, here, least, most in zip(*(t.flatten() for t in (gradient, x, low, high)), strict=True):
            gain = gain + (slope * (most - here) if slope > 0 else slope * (least - here))
        raised = g_x + method.strength * gain * F.one_hot(torch.tensor(j), len(g_x))
        total = total - raised.log_softmax(0)[y] + method.weight * ((g_x - g_q) ** 2).sum()
    return total / len(images)


@pytest.mark.parametrize("at", ["image", "coarse"])
@pytest.mark.parametrize("ends", [None, (0.1, 0.9)])
def test_equals_its_formula(at: str, ends: tuple[float, float] | None, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    network = smooth_network()
    method = Margin(eps=0.1, k=6, weight=2.0, strength=0.7, at=at, blocks=(4,))  # type: ignore[arg-type]
    model = network if ends is None else with_curve(network, *ends)
    torch.manual_seed(5)
    output = method(model, images, labels)
    torch.manual_seed(5)
    coarse = BPFC(k=6, blocks=(4,)).coarsen(images)

    def front(x: Tensor) -> Tensor:
        return x if ends is None else ((x - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)

    bounds = front((images - 0.1).clamp(0, 1)), front((images + 0.1).clamp(0, 1))
    twin = plain(method, network, front(images), front(coarse), bounds, labels)
    assert output.loss.item() == pytest.approx(twin.item(), rel=1e-4)
    parameters = list(network.parameters())
    for a, b in zip(torch.autograd.grad(output.loss, parameters), torch.autograd.grad(twin, parameters), strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm()
    torch.testing.assert_close(output.logits, network(front(images)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.3, 0.7)])
def test_on_a_linear_network_the_gain_is_what_an_attack_reaches(
    ends: tuple[float, float], batch: tuple[Tensor, Tensor]
) -> None:
    """With two classes and a linear network the raised logits are those at the worst image of the ball."""
    images, labels = batch[0], batch[1] % 2
    torch.manual_seed(2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
    model = with_curve(network, *ends)
    found = Margin(eps=0.3, weight=0.0, strength=1.0)(model, images, labels)
    slope = network[1].weight[1 - labels] - network[1].weight[labels]
    worst = (images + 0.3 * slope.sign().view_as(images)).clamp(0, 1)
    logits = model(worst)
    gaps = logits.gather(1, 1 - labels[:, None]) - logits.gather(1, labels[:, None])
    assert found.loss.item() == pytest.approx(F.softplus(gaps).mean().item(), rel=1e-4)


def test_black_pixels_behind_a_curve_gain_nothing(batch: tuple[Tensor, Tensor]) -> None:
    """What lies in x at a gradient that the curve has made zero, the penalty must not miss, nor count what is safe."""
    labels = batch[1]
    black = torch.zeros(4, 1, 28, 28)
    torch.manual_seed(3)
    safe = Margin(eps=0.3)(with_curve(small_network(), 0.3, 0.7), black, labels)
    in_reach = Margin(eps=0.3)(with_curve(small_network(), 0.2, 0.7), black, labels)
    assert safe.parts["gain"].item() == pytest.approx(0, abs=1e-5)
    assert in_reach.parts["gain"] > 0.01


def test_without_strength_it_is_bpfc(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    model = small_network()
    torch.manual_seed(4)
    ours = Margin(k=6, weight=3.0, blocks=(1,)).weighted(0.0)(model, images, labels)
    torch.manual_seed(4)
    torch.testing.assert_close(ours.loss, BPFC(k=6, weight=3.0)(model, images, labels).loss)
    torch.manual_seed(4)
    distance = (model(images) - model(quantize(images, 6))).square().sum(dim=1).mean()
    torch.testing.assert_close(ours.parts["regulariser"], distance)


def test_the_schedule_moves_rho_alone() -> None:
    method: Method = Margin(weight=5.0, strength=2.0)
    assert method.weighted(0.25) == Margin(weight=5.0, strength=0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"eps": 8}, "eps=8"), ({"strength": -1.0}, "strength=-1"), ({"k": 9}, "k=9"), ({"blocks": ()}, "blocks=")],
)
def test_wrong_settings_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Margin(**wrong)  # type: ignore[arg-type]
