"""The verdict. The numbers are those of the defects in other libraries that these tests keep out (docs/evaluate.md)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import Attack, Behind, ImageRng, LinfBall, MultiTargeted, Watch, aimed
from bpfc.judge import Judge, exact_logits, run_attack
from bpfc.models import ToneCurve
from bpfc.modes import eval_mode


class Brightness(nn.Module):
    """Class 1 if the mean pixel is above 0.5, else class 0."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(dim=1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


DARK = torch.full((1, 1, 2, 2), 0.45)
LABEL = torch.tensor([0])


def verdict(candidate: Tensor, eps: float = 0.1) -> bool:
    judge = Judge(Brightness().eval(), DARK, LABEL, LinfBall(eps))
    judge.judge(torch.tensor([0]), candidate, step=3)
    return bool(judge.broken[0])


def test_breaks_only_by_a_legal_candidate_of_another_class() -> None:
    assert verdict(DARK + 0.1)
    assert not verdict(DARK + 0.04)
    assert not verdict(DARK + 0.1001)
    assert verdict(DARK + 0.1 + 5e-7)
    not_finite = DARK + 0.1
    not_finite[0, 0, 0, 0] = torch.nan
    assert not verdict(not_finite)
    assert not verdict(torch.full_like(DARK, torch.inf), eps=1)
    assert not verdict(torch.full_like(DARK, 1.01), eps=1)
    assert not verdict(torch.tensor([[[[-0.01, 1, 1, 1.0]]]]).view_as(DARK), eps=1)


def test_a_failed_image_is_no_success() -> None:  # 7, 8: all zeros, or the clean image, handed back for a failure
    bright = torch.full((1, 1, 2, 2), 0.9)
    judge = Judge(Brightness().eval(), bright, torch.tensor([1]), LinfBall(0.1))
    judge.judge(torch.tensor([0]), torch.zeros_like(bright), step=1)
    judge.judge(torch.tensor([0]), bright, step=1)
    assert not judge.broken.any()
    assert judge.linf.isnan().all()


def test_records_the_first_break_and_its_distance() -> None:
    judge = Judge(Brightness().eval(), DARK.repeat(2, 1, 1, 1), torch.tensor([0, 0]), LinfBall(0.1))
    judge.judge(torch.tensor([1]), DARK + 0.08, step=4)
    judge.judge(torch.tensor([1]), DARK + 0.1, step=9)
    assert judge.broken.tolist() == [False, True]
    assert judge.step.tolist() == [-1, 4]
    assert judge.linf[1].item() == pytest.approx(0.08, abs=1e-6)
    assert judge.l2[1].item() == pytest.approx(0.16, abs=1e-6)


class Passing:
    """An attack whose candidate breaks the image on the way only: up, then back down."""

    eps, norm, steps, forwards = 0.1, "linf", 3, 1

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: ImageRng, watch: Watch | None = None
    ) -> Tensor:
        for step, shift in enumerate((0.02, 0.09, 0.03)):
            if watch is not None:
                watch(torch.arange(len(images)), images + shift, model(images + shift), step)
        return images + 0.01


def test_any_iterate_counts_unless_the_last_is_asked_for() -> None:  # 11
    model = Brightness().eval()
    judge = run_attack(model, DARK, LABEL, Passing(), ImageRng(0, [0]))
    assert (judge.broken.item(), judge.step.item()) == (True, 1)
    last = Judge(model, DARK, LABEL, LinfBall(0.1))
    last.run(Passing(), ImageRng(0, [0]), any_iterate=False)
    assert not last.broken.item()


@pytest.mark.parametrize("attack", [MultiTargeted(0.01, 0.01, 5), Behind(0.01, 5, losses=())])
@pytest.mark.parametrize("any_iterate", [True, False])
def test_steps_are_those_taken_where_there_are_few_classes(attack: Attack, any_iterate: bool) -> None:
    model = nn.Sequential(ToneCurve(0, 1), Brightness()).eval()
    attack = aimed(attack, classes=2)
    judge = Judge(model, DARK, LABEL, LinfBall(0.1))
    judge.run(attack, ImageRng(0, [0]), any_iterate=any_iterate)
    assert judge.queries is not None
    assert judge.queries.item() == (6 if any_iterate else 5)  # before the first step and after each, or not shown
    far = Judge(model, DARK, LABEL, LinfBall(0.1))
    far.run(replace(attack, eps=0.1, step_size=1.0), ImageRng(0, [0]), any_iterate=False)
    assert far.broken.item()
    assert far.step.item() == 5


def test_the_last_iterate_counts_too() -> None:
    class OneStep(Passing):
        def __call__(self, model: nn.Module, images: Tensor, *_: object) -> Tensor:
            return images + 0.09

    judge = run_attack(Brightness().eval(), DARK, LABEL, OneStep(), ImageRng(0, [0]))
    assert (judge.broken.item(), judge.step.item()) == (True, 3)


def test_low_precision_only_proposes() -> None:
    class Claiming(Passing):
        """Says that its image is broken, which it is not."""

        def __call__(
            self, model: nn.Module, images: Tensor, labels: Tensor, rng: ImageRng, watch: Watch | None = None
        ) -> Tensor:
            assert watch is not None
            assert not watch(torch.tensor([0]), images + 0.04, torch.tensor([[0.0, 1.0]]), 0).item()
            return images

    assert not run_attack(Brightness().eval(), DARK, LABEL, Claiming(), ImageRng(0, [0])).broken.item()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(DARK).dtype == torch.bfloat16
        torch.testing.assert_close(exact_logits(linear, DARK), linear.float()(DARK).float(), rtol=1e-2, atol=1e-2)
        assert exact_logits(linear, DARK).dtype == torch.float32
        plain = DARK.flatten(1).double() @ linear[1].weight.double().T + linear[1].bias.double()
    torch.testing.assert_close(exact_logits(linear, DARK).double(), plain, rtol=1e-6, atol=1e-6)


def test_eval_mode_restores_each_layer() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    with pytest.raises(KeyError), eval_mode(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]


class Asked(nn.Module):
    """Notes what float32 is while it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def forward(self, images: Tensor) -> Tensor:
        backends: Any = torch.backends
        places = (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.matmul)
        self.seen |= {place.fp32_precision for place in places}
        mean = images.flatten(1).mean(dim=1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


@pytest.mark.parametrize("newer", [False, True])
def test_a_verdict_is_in_float32_whatever_goes_by_that_name_outside(
    newer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN takes TF32 unasked, and a set precision of "medium" is bfloat16 on CPUs."""
    backends: Any = torch.backends
    place = backends.mkldnn.matmul
    before = place.fp32_precision
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's own default
    try:
        if newer:  # which the older names do not read
            place.fp32_precision = "bf16"
        else:
            torch.set_float32_matmul_precision("medium")
        model = Asked().eval()
        bpfc.evaluate(model, DARK, LABEL, attacks="noise-2,pgd-2", eps=0.1)
        assert model.seen <= {"ieee", "none"}
        assert place.fp32_precision == "bf16"
        assert torch.backends.cudnn.allow_tf32
    finally:
        place.fp32_precision = before
        torch.set_float32_matmul_precision("highest")
