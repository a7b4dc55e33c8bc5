"""The walk from outside the ball inwards: against a plain twin, and where ascent inside the ball leads away."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import PGD, ImageRng, Norm, OutsideIn, ball
from bpfc.judge import Judge, run_attack

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


def seen_by(attack: OutsideIn, model: nn.Module, images: Tensor, labels: Tensor, leaves: bool) -> list[list[int]]:
    """Which images are shown, step by step, where all leave that are broken, or none."""
    judge = Judge(model, images, labels, ball(attack.norm, attack.eps))
    steps: list[list[int]] = []

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        assert step == len(steps)
        steps.append(at.tolist())
        judge.judge(at, candidates, step)
        return judge.broken[at] & leaves

    attack(model, images, labels, ImageRng(0, range(len(images))), watch)
    return steps


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.12), ("l2", 1.5)])
def test_what_is_broken_leaves_and_the_others_walk_on_as_before(
    norm: Norm, eps: float, trained: nn.Module, test_digits: Digits
) -> None:
    images, labels = (part[:12] for part in test_digits)
    attack = OutsideIn(eps, 20, norm)
    left, stayed = (seen_by(attack, trained, images, labels, leaves) for leaves in (True, False))
    assert stayed == [list(range(12))] * 20
    assert 0 < len(left[-1]) < 12
    assert all(set(later) <= set(sooner) for sooner, later in pairwise(left))
    kept = left[-1]

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        return torch.tensor([place not in kept and step == 7 for place in at.tolist()])

    rng = ImageRng(0, range(12))
    found, alone = attack(trained, images, labels, rng, watch), attack(trained, images, labels, rng)
    torch.testing.assert_close(found[kept], alone[kept], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.0), ("l2", 50.0)])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_first_radius_beyond_the_box_and_few_steps(norm: Norm, eps: float, steps: int) -> None:
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval(), torch.rand(6, 1, 4, 4)
    labels = model(images).argmax(dim=1)
    labels[:2] = 1 - labels[:2]  # misclassified as they are
    found = OutsideIn(eps, steps, norm)(model, images, labels, ImageRng(0, range(6)))
    assert (model(found).argmax(dim=1) != labels).all()
    assert ball(norm, eps).distances(found - images).max() <= eps + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


class Speechless(nn.Module):
    """Two classes by the mean of the image; where that is above 0.65, no answer."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(dim=1, keepdim=True)
        logits = torch.cat([0.9 - mean, mean - 0.9], dim=1).masked_fill(mean > 0.65, torch.nan)
        return logits.roll(self.label, dims=1)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.2)])
def test_where_the_network_has_no_answer_it_comes_in_whatever_the_label(norm: Norm, eps: float, label: int) -> None:
    """The network answers NaN beyond 0.15, and to argmax that is class 0."""
    shown: list[float] = []

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        shown.append((candidates - 0.5).amax().item())
        return torch.zeros_like(at, dtype=torch.bool)

    image = torch.full((1, 1, 2, 2), 0.5)
    OutsideIn(eps, 60, norm)(Speechless(label).eval(), image, torch.tensor([label]), ImageRng(0, [0]), watch)
    assert max(shown) > 0.15
    assert max(shown[-20:]) < 0.2
