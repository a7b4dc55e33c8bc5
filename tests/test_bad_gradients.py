"""A gradient that is NaN or infinite somewhere costs an attack that pixel's step, and never the image."""

from math import inf, nan

import pytest
import torch
from torch import Tensor, nn

from bpfc.attacks import (
    APGD,
    FGSM,
    IFGSM,
    PGD,
    RFGSM,
    SPSA,
    Adaptive,
    Attack,
    Behind,
    CarliniWagner,
    DeepFool,
    ImageRng,
    MultiTargeted,
    NarrowingAPGD,
    OutsideIn,
    TargetedAPGD,
)
from bpfc.attacks.apgd_targeted import nearest_classes
from bpfc.attacks.balls import LinfBall
from bpfc.auditing.budget import QUICK
from bpfc.auditing.checks import zero_gradients
from bpfc.auditing.measurements import Measurements
from bpfc.data import Images, to_float
from bpfc.models.curve import with_curve


class Spoiled(nn.Module):
    """Five linear classes; what comes back to the first pixel from the first few answers is `value` instead."""

    def __init__(self, value: float, answers: float = inf) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.value, self.left = nn.Linear(36, 5), value, answers

    def forward(self, images: Tensor) -> Tensor:
        entry = images * 1
        if entry.requires_grad and self.left > 0:
            self.left -= 1
            first = torch.zeros_like(images, dtype=torch.bool)
            first[:, 0, 0, 0] = True
            entry.register_hook(lambda gradient: gradient.masked_fill(first, self.value))
        return self.layer(entry.flatten(1))


BY_SIGNS = [
    FGSM(0.1),
    RFGSM(0.05, 0.05),
    IFGSM(0.1, 5),
    PGD(0.1, 0.02, 8),
    MultiTargeted(0.1, 0.02, 4),
    Adaptive(0.1, 0.02, 4, k=6),
    APGD(0.1, 30),
    APGD(0.1, 30, "dlr"),
    OutsideIn(0.1, 20),
    Behind(0.1, steps_each=4),
]
BY_LENGTHS = [
    PGD(0.5, 0.1, 8, norm="l2"),
    APGD(0.5, 30, norm="l2"),
    OutsideIn(0.5, 20, "l2"),
    CarliniWagner(20, 3),
    DeepFool(),
    DeepFool("linf"),
]
TARGETED = [TargetedAPGD(0.1, 30), TargetedAPGD(0.1, 30, 2), TargetedAPGD(0.5, 30, 2, "l2"), NarrowingAPGD(0.1, 30)]


def run(attack: Attack, model: nn.Module) -> tuple[list[Tensor], Tensor]:
    """The iterates that are shown, and what comes back."""
    torch.manual_seed(1)
    images, shown = torch.rand(6, 1, 6, 6), []

    def watch(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        shown.append(candidates)
        return torch.zeros_like(at, dtype=torch.bool)

    model = with_curve(model, 0.2, 0.8) if isinstance(attack, Behind) else model
    return shown, attack(model.eval(), images, model(images).argmax(dim=1), ImageRng(0, range(6)), watch)


@pytest.mark.parametrize("answers", [inf, 1], ids=["always", "once"])
@pytest.mark.parametrize(
    ("attack", "value", "as_if"),
    [
        *((attack, nan, 0.0) for attack in (*BY_SIGNS, *BY_LENGTHS, *TARGETED)),
        *((attack, -inf, -1.0) for attack in BY_SIGNS),
        *((attack, -inf, 0.0) for attack in BY_LENGTHS),
    ],
    ids=repr,
)
def test_the_iterates_are_those_of_a_finite_gradient(
    attack: Attack, value: float, as_if: float, answers: float
) -> None:
    shown, found = run(attack, Spoiled(value, answers))
    expected, last = run(attack, Spoiled(as_if, answers))
    assert all(map(torch.equal, shown, expected))
    assert len(shown) == len(expected) > 0
    assert all(candidates.isfinite().all() for candidates in shown)
    torch.testing.assert_close(found, last, rtol=0, atol=0, equal_nan=True)


def test_targets_are_chosen_by_what_is_finite() -> None:
    images = torch.rand(6, 1, 6, 6)
    chosen = [
        nearest_classes(model, images, model(images).argmax(dim=1), 2, LinfBall(0.1))[0]
        for model in (Spoiled(nan), Spoiled(-inf), Spoiled(0.0))
    ]
    assert torch.equal(chosen[0], chosen[2])
    assert torch.equal(chosen[1], chosen[2])


def test_the_audit_counts_them_as_ever() -> None:
    pixels = torch.randint(256, (20, 1, 6, 6), dtype=torch.uint8)
    for value, share in ((nan, 1.0), (inf, 1.0), (0.0, 0.0)):
        model = Spoiled(value).eval()
        data = Images(pixels, model(to_float(pixels)).argmax(dim=1))
        measured = zero_gradients.measure(Measurements(model, data, 0.1, QUICK))
        assert (measured.flag, measured.value) == (share > 0, share)


class Stammering(nn.Module):
    """Two linear classes, and no answer when it is asked for the third time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.asked = nn.Linear(16, 2), 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += 1
        return self.layer(images.flatten(1)) + (nan if self.asked == 3 else 0)


def test_spsa_forgets_a_question_without_an_answer() -> None:
    model, images = Stammering(), torch.rand(3, 1, 4, 4)
    labels = model(images).argmax(dim=1)
    found = SPSA(1.0, 30, pairs=16, lr=0.1)(model, images, labels, ImageRng(0, range(3)))
    assert model.asked > 30
    assert (model(found).argmax(dim=1) != labels).all()
