"""APGD beside the authors' code, a closed form, and itself in another batch."""

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

from bpfc.attacks import APGD, Attack, ImageRng, L2Ball, LinfBall, NarrowingAPGD, OutsideIn, TargetedAPGD, ball
from bpfc.attacks.apgd import auto_ascent
from bpfc.attacks.balls import l2_norms
from bpfc.attacks.objectives import LOSSES, targeted_dlrs
from bpfc.judge import Judge

Digits = tuple[Tensor, Tensor]
EVERY = [
    APGD(0.1, 30),
    APGD(0.1, 30, "dlr"),
    APGD(1.5, 30, norm="l2"),
    TargetedAPGD(0.1, 10, 3),
    TargetedAPGD(1.5, 10, 9, "l2"),
    NarrowingAPGD(0.1, 20),
    NarrowingAPGD(1.5, 20, 3, "l2"),
]


class TheirL2Ball(L2Ball):
    """Ours ends short of the sphere by rounding's share, which can tip an image that is on the brink."""

    def project(self, images: Tensor, points: Tensor) -> Tensor:
        delta = points - images
        return (images + delta * (self.eps / l2_norms(delta).clamp_min(1e-12)).clamp_max(1)).clamp(0, 1)


@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr-targeted"])
@pytest.mark.parametrize("inside", [LinfBall(0.1), TheirL2Ball(1.5)], ids=repr)
@pytest.mark.parametrize("place", [0, 3, 5])
def test_iterates_are_those_of_the_authors_code(
    loss: str, inside: LinfBall | L2Ball, place: int, trained: nn.Module, test_digits: Digits
) -> None:
    images, labels = (part[place : place + 1] for part in test_digits)
    start = inside.surface(images, ImageRng(0, [place]))
    target, steps = (labels + 1) % 10, 60
    theirs = {"dlr-targeted": APGDAttack_targeted}.get(loss, APGDAttack)(
        recorded(trained, seen := []), n_iter=steps, norm=inside.norm.capitalize(), eps=inside.eps, device="cpu"
    )
    theirs.loss, theirs.y_target = loss, target

    theirs.init_hyperparam(images)
    theirs.attack_single_run(images, labels, x_init=start)
    last = auto_ascent(
        recorded(trained, ours := []),
        images,
        torch.stack([labels, target], dim=1) if loss == "dlr-targeted" else labels,
        start,
        ball=inside,
        steps=steps,
        losses=targeted_dlrs if loss == "dlr-targeted" else LOSSES[loss],
    )
    assert len(ours) == steps
    for step, (expected, found) in enumerate(zip(seen, [*ours, last], strict=True)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4, msg=lambda m, step=step: f"step {step}: {m}")


def recorded(model: nn.Module, seen: list[Tensor]) -> nn.Module:
    """The model, with the images that it is asked about."""

    class Recorded(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach().clone())
            return model(images)

    return Recorded()


def test_starts_on_the_surface_as_theirs_do(test_digits: Digits) -> None:
    images, rng = test_digits[0][:50], ImageRng(0, range(50))
    for inside in (LinfBall(0.1), L2Ball(1.5)):
        delta = inside.surface(images, rng) - images
        torch.testing.assert_close(inside.distances(delta), torch.full((50,), inside.eps), rtol=1e-4, atol=0)
        assert delta.mean().abs() < 1e-3


class Linear(nn.Module):
    """Logits W x + b: how far a class can be brought in the ball is known in closed form."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))

    def reach(self, labels: Tensor, target: int, inside: LinfBall | L2Ball) -> Tensor:
        """How much the target's logit can gain on the label's, far from the walls of the box."""
        slope = self.layer.weight[target] - self.layer.weight[labels]
        return inside.eps * slope.norm(p=1 if inside.norm == "linf" else 2, dim=1)


@pytest.mark.parametrize(
    ("attack", "classes"),
    [
        (APGD(0.01, 50), 2),
        (APGD(0.1, 50, norm="l2"), 2),
        (TargetedAPGD(0.01, 50), 2),
        (TargetedAPGD(0.01, 50), 5),
        (NarrowingAPGD(0.01, 50), 2),
        (NarrowingAPGD(0.01, 50), 5),
    ],
    ids=repr,
)
def test_breaks_what_the_closed_form_says_of_a_linear_model(attack: Attack, classes: int) -> None:
    torch.manual_seed(0)
    model, images = Linear(48, classes).eval(), 0.4 + 0.2 * torch.rand(20, 3, 4, 4)
    with torch.no_grad():
        model.layer.bias -= model(images).mean(dim=0)
    logits = model(images).detach()
    labels = logits.argmax(1)
    inside = ball(attack.norm, attack.eps)
    best = torch.stack([logits[:, t] - logits.gather(1, labels[:, None])[:, 0] for t in range(classes)], dim=1)
    best = best + torch.stack([model.reach(labels, t, inside) for t in range(classes)], dim=1)
    expected = (best.scatter(1, labels[:, None], -torch.inf).amax(dim=1) > 0).tolist()
    judge = Judge(model, images, labels, inside)
    judge.run(attack, ImageRng(0, range(20)))
    assert judge.broken.tolist() == expected
    assert len(set(expected)) == 2


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_an_image_s_outcome_does_not_depend_on_the_batch(
    attack: Attack, trained: nn.Module, test_digits: Digits
) -> None:
    def outcome(places: list[int]) -> list[tuple[bool, int, float, int]]:
        images, labels = test_digits[0][places], test_digits[1][places]
        judge = Judge(trained, images, labels, ball(attack.norm, attack.eps))
        judge.run(attack, ImageRng(0, places))
        digits = {"linf": 7, "l2": 4}[attack.norm]  # convolutions of other batches round otherwise, signs do not
        columns = (judge.broken, judge.step, judge.l2.nan_to_num().round(decimals=digits), judge.queries)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    together = outcome(list(range(12)))
    assert together == outcome([0, 1, 2, 3, 4]) + outcome([5]) + outcome([6, 7, 8, 9, 10, 11])
    assert len({broken for broken, *_ in together}) == 2


@pytest.mark.parametrize("attack", EVERY, ids=repr)
@pytest.mark.parametrize("watching", [False, True])
def test_stays_in_ball_and_box_and_leaves_the_model_as_found(
    attack: Attack, watching: bool, trained: nn.Module, test_digits: Digits
) -> None:
    images, labels = test_digits[0][:8], test_digits[1][:8]
    before, state = images.clone(), {name: value.clone() for name, value in trained.state_dict().items()}

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        assert len(set(at.tolist())) == len(at)  # the judge counts a forward for each
        assert ball(attack.norm, attack.eps + 1e-6).distances(candidates - images[at]).le(attack.eps + 1e-6).all()
        return logits.argmax(1) != labels[at]

    out = attack(trained, images, labels, ImageRng(0, range(8)), watch if watching else None)
    assert ball(attack.norm, attack.eps).distances(out - images).le(attack.eps + 1e-6).all()
    assert out.aminmax().min >= 0
    assert out.aminmax().max <= 1
    assert torch.equal(images, before)
    assert not trained.training
    assert all(torch.equal(value, state[name]) for name, value in trained.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_each_restart_starts_elsewhere_and_at_its_own_place(
    attack: Attack, trained: nn.Module, test_digits: Digits
) -> None:
    def start(restart: int) -> Tensor:
        seen: list[Tensor] = []

        def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
            seen.append(candidates)
            return (candidates != test_digits[0][:2]).flatten(1).any(dim=1)  # not the images as they are

        attack(trained, test_digits[0][:2], test_digits[1][:2], ImageRng(0, range(2), restart), watch)
        return seen[-1]

    assert torch.equal(start(1), start(1))
    assert (start(0) - start(1)).abs().amax() > 0.01


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_no_images_are_no_error(attack: Attack, trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:0], test_digits[1][:0]
    assert attack(trained, images, labels, ImageRng(0, [])).shape == images.shape
    judge = Judge(trained, images, labels, ball(attack.norm, attack.eps))
    judge.run(attack, ImageRng(0, []))
    assert judge.queries is not None
    assert judge.broken.shape == judge.queries.shape == (0,)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize(
    "attack", [APGD(0.2, 10, "dlr"), TargetedAPGD(0.2, 10), TargetedAPGD(0.2, 10, 1), NarrowingAPGD(0.2, 10)], ids=repr
)
def test_few_classes(classes: int, attack: Attack) -> None:
    torch.manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).eval()
    images = torch.rand(12, 1, 4, 4)
    labels = model(images).argmax(1)
    judge = Judge(model, images, labels, LinfBall(0.2))
    judge.run(attack, ImageRng(0, range(12)))
    assert judge.broken.any()
    assert judge.linf[judge.broken].le(0.2 + 1e-6).all()


def test_wrong_settings_are_named() -> None:
    for make, message in (
        (lambda: APGD(8.0, 10), "eps=8.0"),
        (lambda: APGD(0.1, 0), "steps=0"),
        (lambda: TargetedAPGD(0.1, 10, 0), "targets=0"),
        (lambda: NarrowingAPGD(0.1, 0), "steps=0"),
        (lambda: OutsideIn(8.0, 10), "eps=8.0"),
        (lambda: OutsideIn(0.1, 0), "steps=0"),
        (lambda: TargetedAPGD(0.1, 10, room=0), "room=0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
