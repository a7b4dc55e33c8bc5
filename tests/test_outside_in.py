"""The walk from outside the ball inwards: against a plain twin, and where ascent inside the ball leads away."""

import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import PGD, ImageRng, Norm, OutsideIn, ball
from bpfc.judge import run_attack

Digits = tuple[Tensor, Tensor]


def walked(model: nn.Module, image: Tensor, label: Tensor, eps: float, steps: int, norm: Norm) -> Tensor:
    """One image, as the docstring tells it."""
    point, radius = image, 3 * eps
    for step in range(steps):
        point = point.detach().requires_grad_()
        logits = model(point)
        others = torch.cat([logits[0, :label], logits[0, label + 1 :]])
        (gradient,) = torch.autograd.grad(others.max() - logits[0, label], point)
        point = point.detach()
        way = (point - image).abs().max() if norm == "linf" else (point - image).norm()
        if logits.argmax() == label:
            radius *= 1.01
        else:
            radius = 0.95 * min(radius, way.item())
        radius = min(max(radius, 0.97 * eps), 3 * eps)
        length = radius * 0.4 * 0.25 ** (step / steps)
        if norm == "linf":
            moved = (point + length * gradient.sign() - image).clamp(-radius, radius)
        else:
            moved = point + length * gradient / gradient.norm() - image
            moved *= min(1.0, radius * (1 - 1e-5) / moved.norm().item())
        point = (image + moved).clamp(0, 1)
    if norm == "linf":
        return image + (point - image).clamp(-eps, eps)
    return image + (point - image) * min(1.0, eps * (1 - 1e-5) / (point - image).norm().item())


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.8)])
def test_each_image_walks_as_it_would_alone(norm: Norm, eps: float, trained: nn.Module, test_digits: Digits) -> None:
    images, labels = (part[:12] for part in test_digits)
    found = OutsideIn(eps, 12, norm)(trained, images, labels, ImageRng(0, range(12)))
    alone = [walked(trained, images[i : i + 1], labels[i], eps, 12, norm) for i in range(12)]
    torch.testing.assert_close(found, torch.cat(alone), rtol=0, atol=2e-5)
    assert ball(norm, eps).distances(found - images).max() <= eps + 1e-6


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.8)])
def test_what_falls_leaves_and_nothing_outside_the_ball_counts(
    norm: Norm, eps: float, trained: nn.Module, test_digits: Digits
) -> None:
    images, labels = test_digits
    walk, ascent = (
        run_attack(trained, images, labels, attack, ImageRng(0, range(len(images)))).broken
        for attack in (OutsideIn(eps, 60, norm), PGD(eps, eps / 4, 60, "margin", norm))
    )
    assert 0.1 < walk.float().mean() < 0.9
    assert (walk != ascent).float().mean() < 0.1  # the network hides nothing, and sixty steps find nearly the same


class Deceptive(nn.Module):
    """Of two pixels. Inside the ball around grey the margin falls along (+, −), where nothing is to be found; far
    outside everything is misclassified, and from there the way back leads into the corner (+, +) of the ball."""

    def forward(self, images: Tensor) -> Tensor:
        first, second = ((images.flatten(1) - 0.5) / 0.1).unbind(dim=1)
        margin = torch.where(first > 1.2, 1.5 - first - 0.2 * second, 1 - 0.3 * first + 0.3 * second)
        margin = torch.where((first > 0.8) & (second > 0.8), -first, margin)
        return torch.stack([3 * margin, torch.zeros_like(margin)], dim=1)


def test_it_finds_what_ascent_inside_the_ball_is_led_away_from() -> None:
    image, label = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    found = bpfc.evaluate(Deceptive().eval(), image, label, attacks="apgd-100,pgd-100,outside-in-60", eps=0.1)
    assert {name: verdict["broken"] for name, verdict in found.rows[0]["attacks"].items()} == {
        "apgd-100": False,
        "pgd-100": False,
        "outside-in-60": True,
    }
    assert found.warnings == [
        "a walk from outside the ball broke 100.0% that ascents inside it left: gradients may be masked; run standard, "
        "and bpfc audit"
    ]


def test_an_empty_batch_comes_back(trained: nn.Module) -> None:
    none = torch.empty(0, 1, 8, 8)
    assert OutsideIn(0.1, 3)(trained, none, torch.empty(0, dtype=torch.long), ImageRng(0, [])).shape == none.shape
