"""The loop that gradient attacks share: leaving early must change nothing but the time."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bpfc.attacks import APGD, PGD, Attack, ImageRng, L2Ball, LinfBall
from bpfc.attacks.ascent import CycleDetector, projected_ascent_along
from bpfc.judge import Judge

Digits = tuple[Tensor, Tensor]


@pytest.mark.parametrize("steps", [49, 100, 233])
def test_cycles_change_no_last_iterate(
    steps: int, trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = test_digits[0][:24], test_digits[1][:24]
    attack, forwards = PGD(0.1, 0.02, steps), []
    handle = trained.register_forward_hook(lambda _, args, __: forwards.append(len(args[0])))
    quick = attack(trained, images, labels, ImageRng(0, range(24)))
    spent = sum(forwards)
    handle.remove()
    monkeypatch.setattr(CycleDetector, "FIRST", 10**9)
    assert torch.equal(quick, attack(trained, images, labels, ImageRng(0, range(24))))
    if steps == 233:
        assert spent < 0.8 * 24 * steps


def test_cycles_change_no_verdict(trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = test_digits[0][:40], test_digits[1][:40]
    found = []
    for first in (CycleDetector.FIRST, 10**9):
        monkeypatch.setattr(CycleDetector, "FIRST", first)
        judge = Judge(trained, images, labels, LinfBall(0.12))
        judge.run(PGD(0.12, 0.02, 200), ImageRng(0, range(40)))
        found.append((judge.broken.tolist(), judge.step.tolist()))
    assert found[0] == found[1]
    assert len(set(found[0][0])) == 2


STEP = 2**-8
"""A power of two, so that the way back is exact."""


def round_a_square(side: Tensor, current: Tensor) -> Tensor:
    """A field in the first two pixels whose ascent walks round a square of `side` steps; to and fro for side 0."""
    x, y = ((current[:, 0, 0, i] - 0.5) / STEP for i in (0, 1))
    right, down = (y <= 0) & (x < side), (x >= side) & (y < side)
    left = (y >= side) & (x > 0)
    up = ~right & ~down & ~left
    gradient = torch.zeros_like(current)
    gradient[:, 0, 0, 0] = torch.where(side == 0, 1 - 2 * x, right.float() - left.float())
    gradient[:, 0, 0, 1] = torch.where(side == 0, 0, down.float() - up.float())
    return gradient


def calls_until_found(gradient_at: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> int:
    """Of the field, by a walk that ends where the plain one does."""
    calls = 0

    def gradient_of(current: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return gradient_at(current), torch.zeros(len(current), 2)

    images = torch.full_like(start, 0.5)
    found = projected_ascent_along(gradient_of, images, start, ball=LinfBall(0.4), step_size=STEP, steps=steps)
    plain = start.clone()
    for _ in range(steps):
        plain = plain + STEP * gradient_at(plain).sign()
    assert torch.equal(found, plain)
    return calls


@pytest.mark.parametrize("side", [0, 1, 3])
@pytest.mark.parametrize("steps", [60, 101, 200])
def test_the_last_iterate_is_that_of_the_plain_walk(side: int, steps: int) -> None:
    start = torch.full((3, 1, 2, 2), 0.5)
    start[1:, 0, 0, 0] += side * STEP
    start[2:, 0, 0, 1] += side * STEP
    assert calls_until_found(partial(round_a_square, torch.tensor(side)), start, steps) < 90


def test_a_short_cycle_that_begins_late_is_found_soon() -> None:
    """An iterate that is renewed ever more seldom alone found it 45 steps later."""

    def to_and_fro_at_the_end(current: Tensor) -> Tensor:
        gradient = torch.zeros_like(current)
        gradient[:, 0, 0, 0] = 1 - 2 * (current[:, 0, 0, 0] >= 0.5 + 100 * STEP).float()
        return gradient

    start = torch.full((1, 1, 2, 2), 0.5)
    start[0, 0, 0, 0] -= 100 * STEP
    assert calls_until_found(to_and_fro_at_the_end, start, steps=400) <= 200 + CycleDetector.NEAR + 4


def test_a_cycle_longer_than_the_near_iterate_stays_is_found() -> None:
    side = 10
    assert 4 * side > CycleDetector.NEAR
    calls = calls_until_found(partial(round_a_square, torch.tensor(side)), torch.full((1, 1, 2, 2), 0.5), steps=1000)
    assert calls < 400


def test_walks_that_settle_at_different_times_end_where_each_would_alone() -> None:
    """Some come to their squares late, of all sizes, and some are broken and leave, all in one batch."""
    draws = torch.Generator().manual_seed(0)
    count, steps = 60, 300
    sides, ways = (torch.randint(most, (count,), generator=draws) for most in (9, 100))
    start = torch.full((count, 1, 2, 2), 0.5)
    start[:, 0, 0, 0] -= STEP * ways
    asked = 0

    def gradient_of(current: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal asked
        asked += len(current)
        return round_a_square(sides[positions], current), torch.zeros(len(current), 2)

    def watch(positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        return (positions % 4 == 1) & (step > 60 + positions)

    images = torch.full_like(start, 0.5)
    walk = {"ball": LinfBall(0.4), "step_size": STEP, "steps": steps, "watch": watch}
    found = projected_ascent_along(gradient_of, images, start, **walk)  # type: ignore[arg-type]
    assert asked < 0.6 * count * steps
    plain = start.clone()
    for _ in range(steps):
        plain += STEP * gradient_of(plain, torch.arange(count))[0].sign()
    stayed = torch.arange(count) % 4 != 1
    assert torch.equal(found[stayed], plain[stayed])


def test_steps_that_shrink_are_not_taken_for_a_cycle() -> None:
    """From wall to wall at first, and closer and closer to the middle in the end."""

    def towards_the_middle(current: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return 0.45 - current, torch.zeros(len(current), 2)

    images = torch.full((1, 1, 2, 2), 0.5)
    walk = {"ball": LinfBall(0.4), "step_size": 8.0, "steps": 100, "decaying": True}
    found = projected_ascent_along(towards_the_middle, images, images, **walk)  # type: ignore[arg-type]
    plain = images
    for done in range(100):
        plain = (plain + 8 * (1 - done / 100) * (0.45 - plain).sign()).clamp(0.1, 0.9)
    torch.testing.assert_close(found, plain)
    assert (found - 0.45).abs().max() < 0.2


def test_what_is_random_is_not_taken_for_a_cycle() -> None:
    """A gradient without effect on the iterate now may have one later."""
    images, calls = torch.full((1, 1, 2, 2), 0.5), 0

    def gradient_of(current: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return torch.zeros_like(current) if calls < 90 else torch.ones_like(current), torch.zeros(1, 2)

    walk = {"ball": LinfBall(0.4), "step_size": 0.01, "steps": 100}
    assert projected_ascent_along(gradient_of, images, images, repeatable=False, **walk).mean() > 0.5  # type: ignore[arg-type]
    calls = 0
    assert projected_ascent_along(gradient_of, images, images, **walk).mean() == 0.5  # type: ignore[arg-type]


def test_l2_ball() -> None:
    torch.manual_seed(0)
    images = torch.rand(500, 3, 8, 8)
    ball = L2Ball(1.5)
    start = ball.random(images, ImageRng(0, range(500)))
    lengths = ball.distances(start - images)
    assert lengths.max() <= 1.5 + 1e-5
    # Uniform in a ball of 192 dimensions: radius (u)^(1/192), so the mean is 192/193 of ε.
    assert lengths.mean() == pytest.approx(1.5 * 192 / 193, abs=0.01)
    directions = (start - images) / lengths[:, None, None, None]
    assert directions.mean().abs() < 0.005
    assert directions.square().mean() == pytest.approx(1 / 192, rel=0.01)
    moved = ball.move(images, start, torch.randn_like(images), 0.5)
    assert ball.distances(moved - images).max() <= 1.5
    assert moved.min() >= 0
    assert moved.max() <= 1
    far = ball.project(images, images + 10)
    assert ball.distances(far - images).max() <= 1.5


@pytest.mark.parametrize("length", [1e-37, 1e-30, 1e-15, 1.0, 1e25])
def test_in_l2_a_step_is_as_long_as_it_should_be_however_long_the_gradient_is(length: float) -> None:
    """Of a sure network's cross-entropy it is short; its squares are no numbers in float32."""
    images, ball = torch.full((2, 3, 4, 4), 0.5), L2Ball(1.0)
    gradient = torch.stack([length * torch.ones(3, 4, 4), torch.zeros(3, 4, 4)])
    moved = ball.move(images, images, gradient, 0.25)
    assert ball.distances(moved - images).tolist() == pytest.approx([0.25, 0.0], rel=1e-3)


@pytest.mark.parametrize("attack", [PGD(0.2, 0.05, 20, norm="l2"), APGD(0.2, 20, norm="l2")], ids=repr)
def test_in_l2_a_sure_network_falls_as_an_unsure_one_does(attack: Attack) -> None:
    """Two classes that differ by 12 pixels of weight ±1: from a gap of 0.5, an image falls at 0.5 / √12 = 0.144."""
    layer = nn.Linear(12, 2, bias=True)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5], [-0.5]]) * torch.tensor([1.0, -1.0] * 6))
        layer.bias.copy_(torch.tensor([0.25, -0.25]))
    images, labels = torch.full((3, 3, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    for scale in (1.0, 120.0):  # a gap of 60 logits: the gradient is e⁻⁶⁰ of its length, and no zero
        with torch.no_grad():
            layer.weight.mul_(scale)
            layer.bias.mul_(scale)
        judge = Judge(nn.Sequential(nn.Flatten(), layer).eval(), images, labels, L2Ball(0.2))
        judge.run(attack, ImageRng(0, range(3)))
        assert judge.broken.all(), scale
