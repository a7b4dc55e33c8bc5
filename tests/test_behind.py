import pytest
import torch
from common import counted
from conftest import small_network
from torch import Tensor, nn

import bpfc
from bpfc.attacks import PGD, AutoAttackBehind, Behind, Box, ImageRng
from bpfc.attacks.autoattack import Part
from bpfc.evaluation.forms import Context
from bpfc.evaluation.names import parse
from bpfc.evaluation.plan import ThreatModel
from bpfc.judge import run_attack
from bpfc.models import ToneCurve, with_curve

EPS = 0.3


@pytest.fixture
def images() -> Tensor:
    """Dark for the most part, as digits are: there the curve from 0.3 is flat."""
    torch.manual_seed(0)
    images = torch.rand(6, 1, 6, 6)
    images[:, :, :4] *= 0.2
    return images


@pytest.fixture
def linear() -> nn.Sequential:
    torch.manual_seed(1)
    return with_curve(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), 0.3, 0.7)


def optimum(model: nn.Sequential, images: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Largest z_target − z_label over the box [u(x − ε), u(x + ε)], written out pixel by pixel."""
    layer = model[1][1]
    best = []
    for x, label, target in zip(images.flatten(1), labels, targets, strict=True):
        weights = layer.weight[target] - layer.weight[label]
        total = layer.bias[target] - layer.bias[label]
        for w, pixel in zip(weights, x, strict=True):
            low, high = (
                min(max((value - 0.3) / 0.4, 0), 1) for value in (max(pixel - EPS, 0.0), min(pixel + EPS, 1.0))
            )
            total = total + max(w * low, w * high)
        best.append(total.detach())
    return torch.stack(best)


def test_on_a_linear_network_it_finds_the_optimum(linear: nn.Sequential, images: Tensor) -> None:
    labels = linear(images).argmax(dim=1)
    shown: list[Tensor] = []

    def watch(positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        shown.append(candidates)
        torch.testing.assert_close(linear(candidates), logits, rtol=1e-4, atol=1e-4)
        return torch.zeros(len(positions), dtype=torch.bool)

    last = linear(images).scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)[:, 1]
    found = Behind(EPS, steps_each=25, targets=2)(linear, images, labels, ImageRng(0, range(6)), watch)
    gap = linear(found).gather(1, last[:, None]) - linear(found).gather(1, labels[:, None])
    torch.testing.assert_close(gap[:, 0].detach(), optimum(linear, images, labels, last), rtol=1e-4, atol=1e-4)
    # The images as they are, and the last iterates of all objectives but the last, are shown as well.
    assert len(shown) == 1 + 4 * 25 + 3
    for candidates in [*shown, found]:
        assert candidates.min() >= 0
        assert candidates.max() <= 1
        assert (candidates - images).abs().max() <= EPS + 1e-6


def test_pgd_in_x_is_weaker_where_the_curve_is_flat(linear: nn.Sequential, images: Tensor) -> None:
    labels = linear(images).argmax(dim=1)
    rng = ImageRng(0, range(6))

    def gap(found: Tensor) -> Tensor:
        logits = linear(found)
        return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - logits.gather(1, labels[:, None])[:, 0]

    best = torch.stack([optimum(linear, images, labels, (labels + shift) % 3) for shift in (1, 2)]).amax(dim=0)
    from_behind = gap(Behind(EPS, losses=("margin",), targets=0, steps_each=60)(linear, images, labels, rng))
    in_x = gap(PGD(EPS, 0.03, 60, loss="margin")(linear, images, labels, rng))
    assert (from_behind <= best + 1e-4).all()
    assert (from_behind >= in_x - 1e-4).all()
    assert (best - from_behind).mean() < 0.2 * (best - in_x).mean()


def test_the_judge_takes_its_images_and_broken_ones_leave(images: Tensor) -> None:
    torch.manual_seed(2)
    model = with_curve(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), 0.1, 0.9).eval()
    labels = model(images).argmax(dim=1)
    judge = run_attack(model, images, labels, Behind(EPS, steps_each=20), ImageRng(0, range(6)))
    reachable = torch.zeros(6, dtype=torch.bool)
    for target in range(4):
        targets = torch.full_like(labels, target)
        reachable |= (optimum_of(model, images, labels, targets) > 0) & (targets != labels)
    assert torch.equal(judge.broken, reachable)
    assert reachable.any()
    assert (judge.step[reachable] < 20).any()  # in the first objective already


def optimum_of(model: nn.Sequential, images: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    lower, upper = (bound.flatten(1) for bound in model[0].image(images, EPS))
    weights = model[1][1].weight[targets] - model[1][1].weight[labels]
    bias = model[1][1].bias[targets] - model[1][1].bias[labels]
    return (torch.maximum(weights * lower, weights * upper).sum(dim=1) + bias).detach()


def test_the_model_is_left_as_it_was_and_the_batch_does_not_matter() -> None:
    torch.manual_seed(0)
    model = with_curve(small_network(), 0.3, 0.7).train()
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    attack = Behind(0.1, steps_each=3, targets=2)
    found = attack(model, images, labels, ImageRng(0, range(4)))
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    alone = attack(model, images[2:3], labels[2:3], ImageRng(0, [2]))
    torch.testing.assert_close(found[2:3], alone, rtol=0, atol=1e-6)


def test_it_has_a_name() -> None:
    context = Context(ThreatModel("linf", 0.3), channels=1)
    planned = parse("behind-20x3,behind-t3-10,behind-1", context).attacks
    assert [item.attack for item in planned] == [Behind(0.3, 20), Behind(0.3, 10, targets=3), Behind(0.3, 1)]
    assert [item.restarts for item in planned] == [3, 1, 1]
    with pytest.raises(ValueError, match="is for ℓ∞"):
        parse("behind-20", Context(ThreatModel("l2", 0.3), channels=1))


def test_its_steps_shrink_from_wall_to_wall_to_nothing(linear: nn.Sequential, images: Tensor) -> None:
    """Against the walk written out, step by step, on each image alone."""
    labels, rng = linear(images).argmax(dim=1), ImageRng(0, range(6))
    found = Behind(EPS, steps_each=5, losses=("ce",), targets=0)(linear, images, labels, rng)
    curve, network = linear[0], linear[1]
    bounds = torch.stack(curve.image(images, EPS), dim=1)
    for at, point in enumerate(Box().random(bounds, rng, 0)):
        lower, upper = bounds[at]
        for step_size in (1.0, 0.8, 0.6, 0.4, 0.2):
            point = point.detach().requires_grad_()
            loss = nn.functional.cross_entropy(network(point[None]), labels[at : at + 1])
            (slope,) = torch.autograd.grad(loss, point)
            point = (point + step_size * (upper - lower) * slope.sign()).clamp(lower, upper)
        torch.testing.assert_close(curve(found[at]), point.detach(), rtol=1e-5, atol=1e-5)


def test_the_suite_s_few_long_steps_break_what_many_short_ones_do(
    trained: nn.Module, test_digits: tuple[Tensor, Tensor]
) -> None:
    """Steps too short to cross the box leave images standing that shrinking ones break at half the passes."""
    model = with_curve(trained, 0.4, 0.6).eval()
    images, labels = (part[:30] for part in test_digits)
    context = Context(ThreatModel("linf", 0.4), channels=1, curve=True)
    (ours,) = (item.attack for item in parse("fast", context).attacks if item.name.startswith("behind"))
    broken, passes = [], []
    for attack in (ours, Behind(0.4, 20, 0.05)):
        with counted(model) as spent:
            judge = run_attack(model, images, labels, attack, ImageRng(0, range(30)))
        broken.append(judge.broken)
        passes.append(spent.forwards + spent.backwards)
    assert (broken[0] | ~broken[1]).all()
    assert 30 > broken[0].sum() > broken[1].sum()
    assert passes[0] < passes[1] / 2


def test_suites_attack_behind_the_curve_where_there_is_one(linear: nn.Sequential, images: Tensor) -> None:
    labels = linear(images).argmax(dim=1)
    found = bpfc.evaluate(linear.eval(), images, labels, attacks="quick", eps=EPS)
    assert any("behind-10" in row["attacks"] for row in found.rows)
    found = bpfc.evaluate(linear[1], images, labels, attacks="quick", eps=EPS)
    assert not any("behind-10" in row["attacks"] for row in found.rows)


def test_a_box_moves_by_shares_of_its_width() -> None:
    bounds = torch.tensor([[[[[0.0, 0.5, 0.4]]], [[[1.0, 0.6, 0.4]]]]])
    moved = Box().move(bounds, torch.tensor([[[[0.5, 0.55, 0.4]]]]), torch.tensor([[[[2.0, -3.0, 1.0]]]]), 0.1)
    torch.testing.assert_close(moved, torch.tensor([[[[0.6, 0.54, 0.4]]]]))
    points = Box().random(bounds, ImageRng(0, [0]))
    assert torch.equal(points, Box().project(bounds, points))


def test_wrong_use_is_named() -> None:
    images, labels = torch.rand(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"no tone curve in front.*\(pgd-100, apgd-100\)"):
        Behind(0.1)(small_network(), images, labels, ImageRng(0, [0]))
    with pytest.raises(ValueError, match=r"no tone curve in front.*\(pgd-100, apgd-100\)"):
        Behind(0.1)(nn.Sequential(ToneCurve(0, 1)), images, labels, ImageRng(0, [0]))
    for make, message in (
        (lambda: Behind(8), "eps=8"),
        (lambda: Behind(0.1, losses=(), targets=0), "one objective or more"),
        (lambda: Behind(0.1, steps_each=0), "steps_each=0"),
        (lambda: Behind(0.1, step_size=0.0), "step_size=0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("part", ["apgd-ce", "square"])
def test_autoattack_behind_finds_the_optimum_of_a_linear_network(
    part: Part, linear: nn.Sequential, images: Tensor
) -> None:
    """It breaks what can be broken with something to spare, by the closed form, and nothing that cannot be at all."""
    with torch.no_grad():
        linear[1][1].bias[0] += 0.5  # so that some of the images stand
    labels = linear(images).argmax(dim=1)
    best = torch.stack([optimum(linear, images, labels, (labels + shift) % 3) for shift in (1, 2)]).amax(dim=0)
    # One that cannot be broken is enough: it takes all of their steps.
    some = torch.cat([(best > 0.2).nonzero()[:, 0], (best < 0).nonzero()[:1, 0]])
    images, labels, best = images[some], labels[some], best[some]
    found = AutoAttackBehind(EPS, part)(linear, images, labels, ImageRng(0, some.tolist()))
    broken = ~found.isnan().flatten(1).any(dim=1)
    assert ((best > 0.2) <= broken).all()
    assert (broken <= (best > 0)).all()
    assert (best > 0.2).sum() == 3
    assert (best < 0).any()
    assert (linear(found[broken]).argmax(dim=1) != labels[broken]).all()
    assert ((found - images)[broken].abs() <= EPS + 1e-6).all()
    assert (found[broken].clamp(0, 1) == found[broken]).all()
