"""Attacks that are several runs, against the same written out plainly."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bpfc import quantize
from bpfc.attacks import Adaptive, ImageRng, LinfBall, MultiTargeted
from bpfc.attacks.ascent import projected_ascent
from bpfc.judge import Judge

Digits = tuple[Tensor, Tensor]


@pytest.mark.parametrize("weight", [1.0, -0.5])
def test_a_step_of_the_adaptive_attack(weight: float, trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:8], test_digits[1][:8]
    rng = ImageRng(4, range(8))
    found = Adaptive(0.2, 0.03, 1, k=5, weights=(weight,), samples=2)(trained, images, labels, rng)
    start = LinfBall(0.2).project(images, quantize(images, 5, noise=rng.uniform(images, 0)))
    x = start.clone().requires_grad_()
    logits = trained(x)
    loss = cross_entropy(logits, labels, reduction="sum")
    for draw in (1, 2):
        coarse = quantize(start, 5, noise=rng.uniform(images, draw))
        through = x + (coarse - start)  # q(x), with the gradient of the identity
        loss = loss + weight / 2 * (logits - trained(through)).square().sum()
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(found, LinfBall(0.2).project(images, start + 0.03 * gradient.sign()), rtol=0, atol=1e-6)


def test_adaptive_finds_what_plain_pgd_finds_and_tries_each_weight(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:80], test_digits[1][:80]
    judge = Judge(trained, images, labels, LinfBall(0.12))
    judge.run(Adaptive(0.12, 0.02, 15, k=6), ImageRng(0, range(80)))
    alone = Judge(trained, images, labels, LinfBall(0.12))
    alone.run(Adaptive(0.12, 0.02, 15, k=6, weights=(0.0,)), ImageRng(0, range(80)))
    assert (judge.broken | ~alone.broken).all()
    assert 0.2 < (~judge.broken).float().mean() < 0.9
    assert judge.step.max() <= 45
    assert (judge.queries[~judge.broken] == (15 * 3 + 2) * 2).all()  # two forwards for each of 47 iterates shown


def test_multi_targeted_is_a_run_for_each_target(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:20], test_digits[1][:20]
    rng = ImageRng(2, range(20))
    order = trained(images).detach().argsort(dim=1, descending=True)
    start = images + 0.15 * rng.uniform(images)
    for turn in (1, 3):
        found = MultiTargeted(0.15, 0.02, 6, targets=turn)(trained, images, labels, rng)
        targets = torch.stack([row[row != label][turn - 1] for row, label in zip(order, labels, strict=True)])

        def objective(logits: Tensor, chosen: Tensor) -> Tensor:
            return (logits.gather(1, chosen[:, 1:]) - logits.gather(1, chosen[:, :1])).sum()

        plain = projected_ascent(
            trained,
            images,
            torch.stack([labels, targets], dim=1),
            start,
            ball=LinfBall(0.15),
            step_size=0.02,
            steps=6,
            objective=objective,
        )
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-6)


def test_each_turn_works_on_what_the_one_before_left(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:40], test_digits[1][:40]
    shown: dict[int, set[int]] = {}
    broken = torch.zeros(40, dtype=torch.bool)

    def watch(positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        shown.setdefault(step // 5, set()).update(positions.tolist())
        broken[positions] |= logits.argmax(1) != labels[positions]
        return broken[positions]

    MultiTargeted(0.15, 0.03, 5)(trained, images, labels, ImageRng(0, range(40)), watch)
    assert sorted(shown) == list(range(9))
    assert all(shown[turn + 1] <= shown[turn] for turn in range(8))
    assert len(shown[8]) < len(shown[0])
