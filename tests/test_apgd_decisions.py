"""What APGD decides where the losses are written down: each condition alone, and beside the authors' code."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor, nn

from bpfc.attacks import LinfBall
from bpfc.attacks.apgd import _checkpoints, auto_ascent

EPS = 0.1


def scripted(values: Tensor, gradients: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Losses (N,) of N images that do not look at them: in call after call a row of `values` (calls, N), with a row of
    `gradients` (calls, N, pixels)."""
    script = zip(values, gradients, strict=True)

    def losses(logits: Tensor, _: Tensor) -> Tensor:
        value, gradient = next(script)
        return value + ((logits - logits.detach()) * gradient).sum(dim=1)

    return losses


@dataclass(frozen=True)
class Watched(LinfBall):
    """Keeps how long each step was, in units of ε, and where it began."""

    lengths: list[list[float]] = field(default_factory=list)
    places: list[Tensor] = field(default_factory=list)

    def move(self, images: Tensor, current: Tensor, gradient: Tensor, step_size: float | Tensor) -> Tensor:
        assert isinstance(step_size, Tensor)
        self.lengths.append((step_size / self.eps).flatten().tolist())
        self.places.append(current)
        return super().move(images, current, gradient, step_size)


def ascend(values: Tensor, gradients: Tensor, images: Tensor, start: Tensor) -> Watched:
    """As many steps as there are rows of the script."""
    watched = Watched(EPS)
    auto_ascent(
        nn.Flatten(),
        images,
        torch.zeros(len(images), dtype=torch.long),
        start,
        ball=watched,
        steps=len(values),
        losses=scripted(values, gradients),
    )
    return watched


def one_pixel(losses: list[float], steps: int) -> Watched:
    """An image of one pixel; the last loss goes on, and the gradient's sign changes from step to step."""
    values = torch.tensor([*losses, *[losses[-1]] * (steps - len(losses))])[:, None]
    gradients = torch.tensor([1.0, -1.0]).repeat(steps)[:steps, None, None]
    image = torch.full((1, 1, 1, 1), 0.5)
    return ascend(values, gradients, image, image)


def test_progress_is_checked_when_the_paper_says() -> None:
    """Its p_j of section 3.1: 0, 0.22, then each time by 0.03 less than before, at least by 0.06."""
    assert _checkpoints(100) == {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    assert _checkpoints(30) == {6: 6, 11: 5, 15: 4, 18: 3, 20: 2, **dict.fromkeys(range(21, 30), 1)}
    assert _checkpoints(1) == {}


RISING = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("losses", "steps", "halved"),
    [
        ([0.0, *RISING], 30, False),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.5], 30, False),  # five rises of six: more than 0.75 · 6
        ([0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.5], 30, False),  # a loss that stays has not risen
        ([0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 3.0], 30, True),  # four of six
        ([0.0, 1.0, 2.0, 3.0, 4.0], 20, False),
        ([0.0, 1.0, 2.0, 3.0, 2.5], 20, True),  # three of four: no more than 0.75 · 4
        ([10.0, *RISING], 30, False),  # its best has stood still, but there was no check before
        ([5.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.5], 30, False),  # above 0 counts as risen, after the first step alone
        ([-5.0, -4.0, -3.0, -2.0, -1.0, -0.5, -0.7], 30, True),  # and below 0 does not
        ([-5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 3.0], 30, True),  # nor does 0 itself
    ],
)
def test_the_first_check_asks_for_rises_alone(losses: list[float], steps: int, halved: bool) -> None:
    at = min(_checkpoints(steps))
    lengths = one_pixel(losses, steps).lengths
    assert len(losses) == at + 1
    assert lengths[:at] == [[2.0]] * at
    assert lengths[at] == [1.0 if halved else 2.0]


def test_a_best_that_stands_still_halves_every_other_time() -> None:
    """The loss rises in each of 30 steps, but never to what it was at the start."""
    watched = one_pixel([10.0, *[0.1 * (step + 1) for step in range(29)]], 30)
    lengths = [length for (length,) in watched.lengths]
    assert lengths[:11] == [2.0] * 11
    assert lengths[11:18] == [1.0] * 7  # checked at 11, and at 15, when the step had just been halved
    assert lengths[18:21] == [0.5] * 3  # at 18; at 20 it had just been halved, at 21 not
    assert lengths[21] == 0.25
    assert [watched.places[at].item() for at in (11, 18, 21)] == [0.5] * 3  # each time from the best point, the start
    assert watched.places[15].item() != 0.5


def test_a_best_that_rises_between_two_checks_halves_nothing() -> None:
    """From 10 to 11 in the second span, and each time the loss rises in more than three of four steps."""
    lengths = one_pixel([10.0, *RISING, 7.0, 8.0, 9.0, 10.5, 11.0], 30).lengths
    assert lengths[11] == [2.0]


def test_rises_are_counted_anew_after_each_check() -> None:
    """Six of six, then three of five; the best rises all the same."""
    lengths = one_pixel([0.0, *RISING, 7.0, 8.0, 7.5, 7.0, 9.0], 30).lengths
    assert lengths[10:12] == [[2.0], [1.0]]


def test_the_ascent_goes_on_from_the_best_point_along_its_gradient() -> None:
    """The highest loss is the third of seven, and only there the gradient points upwards."""
    values = torch.tensor([0.0, 1.0, 5.0, 4.0, 3.0, 2.0, 1.0, *[0.0] * 23])[:, None]
    gradients = torch.full((30, 1, 1), -1.0)
    gradients[2] = 1
    image = torch.full((1, 1, 1, 1), 0.5)
    watched = ascend(values, gradients, image, image)
    places = [place.item() for place in watched.places]
    assert places[6] == places[2]
    assert places[5] == pytest.approx(0.4)
    # To 0.5 by half a step, and of the move that led to the best point's successor a quarter.
    best, last = places[2], places[5]
    assert places[7] == pytest.approx(best + 0.75 * (min(best + EPS, 0.6) - best) + 0.25 * (best - last))


@pytest.mark.parametrize(
    ("pixel", "signs", "expected"),
    [
        (0.5, [1, -1, 1], [0.6, 0.475, 0.5375]),  # a quarter of the last move, but for the first step
        (0.5, [1, 1, 1], [0.6, 0.6, 0.6]),  # the last move would lead out of the ball
        (0.05, [-1, -1, 1], [0.0, 0.0, 0.75 * 0.15]),  # and here out of the box
        (0.95, [1, 1, 1], [1.0, 1.0, 1.0]),
    ],
)
def test_a_step_blends_in_the_last_move_and_stays_inside(
    pixel: float, signs: list[float], expected: list[float]
) -> None:
    image = torch.full((1, 1, 1, 1), pixel)
    gradients = torch.tensor([*signs, 1.0])[:, None, None]
    places = ascend(torch.arange(4.0)[:, None], gradients, image, image).places
    assert [place.item() for place in places] == pytest.approx([pixel, *expected], abs=1e-6)


@pytest.mark.parametrize("steps", [1, 7, 30, 60, 100])
def test_every_decision_is_that_of_the_authors_code(steps: int) -> None:
    """150 images with a script each: losses that rise more or less often, above and below 0, and often stay."""
    count, pixels = 150, 4
    drift = torch.linspace(-0.2, 0.9, count)
    moves = (torch.rand(steps + 1, count) < drift).float() - (torch.rand(steps + 1, count) < 0.15).float()
    values = moves.cumsum(dim=0) + torch.randint(-20, 20, (count,))
    values[0, ::3] += 10  # a start that is hard to beat
    gradients = torch.randn(steps + 1, count, pixels)
    images = torch.rand(count, 1, 2, 2)
    start = images + EPS * (2 * torch.rand_like(images) - 1)

    seen: list[Tensor] = []
    model = nn.Flatten()
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    theirs = APGDAttack(model, n_iter=steps, norm="Linf", eps=EPS, device="cpu")
    theirs.loss, theirs.dlr_loss = "dlr", scripted(values, gradients)
    theirs.init_hyperparam(images)
    theirs.attack_single_run(images, torch.zeros(count, dtype=torch.long), x_init=start)

    ours: list[Tensor] = []
    again = nn.Flatten()
    again.register_forward_pre_hook(lambda _, given: ours.append(given[0].detach().clone()))
    last = auto_ascent(
        again,
        images,
        torch.zeros(count, dtype=torch.long),
        start,
        ball=LinfBall(EPS),
        steps=steps,
        losses=scripted(values, gradients),
    )
    assert len(seen) == steps + 1
    for step, (expected, found) in enumerate(zip(seen, [*ours, last], strict=True)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, msg=lambda m, step=step: f"step {step}: {m}")
