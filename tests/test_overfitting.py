import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bpfc.attacks import ImageRng
from bpfc.training.overfitting import signs, warning

Digits = tuple[Tensor, Tensor]


def row(epoch: int, fgsm: float, pgd: float) -> dict[str, float]:
    return {"epoch": epoch, "watched_fgsm_accuracy": fgsm, "watched_pgd_accuracy": pgd, "gradient_alignment": 0.1}


def test_warns_when_pgd_collapses_while_fgsm_climbs() -> None:
    sound = [row(0, 0.4, 0.3), row(1, 0.5, 0.42), row(2, 0.55, 0.44)]
    assert all(warning(sound[: i + 1]) is None for i in range(3))
    told = warning([*sound, row(3, 0.6, 0.05)])
    assert told is not None
    assert "epoch 4 stands 60.0% under FGSM but 5.0% under PGD-10 (at best 44.0%, epoch 3)" in told
    assert warning([row(0, 0.3, 0.2), row(1, 0.35, 0.08)]) is not None  # fell below half, though not so far apart
    assert warning([row(0, 0.2, 0.09), row(1, 0.41, 0.09), row(2, 0.73, 0.36)]) is None  # BPFC, as the demo trains it
    assert warning([row(0, 0.1, 0.1), row(1, 0.19, 0.0)]) is None  # guessed, then learned normally
    assert warning([row(0, 0.9, 0.02)]) is not None  # overfitted from the first epoch on
    assert warning([row(0, 0.05, 0.0), row(1, 0.16, 0.0)]) is None  # normal training never had any


def test_alignment_is_the_cosine_of_two_gradients(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:6], test_digits[1][:6]
    rng = ImageRng(0, range(6))
    fgsm, pgd, alignment = signs(trained, images, labels, 0.1, rng).tolist()
    total = 0.0
    for i in range(6):
        gradients = []
        for x in (images[i : i + 1], images[i : i + 1] + 0.1 * rng.uniform(images, draw=1)[i : i + 1]):
            x = x.clone().requires_grad_()
            gradients.append(torch.autograd.grad(cross_entropy(trained(x), labels[i : i + 1]), x)[0].flatten())
        total += (gradients[0] @ gradients[1] / (gradients[0].norm() * gradients[1].norm())).item()
    assert alignment == pytest.approx(total, rel=1e-3)
    assert 0 <= pgd <= fgsm <= 6


def test_a_linear_model_is_aligned() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    images, labels = torch.rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.long)
    assert signs(model, images, labels, 0.1, ImageRng(0, range(8)))[2].item() == pytest.approx(8, rel=1e-4)
    assert not math.isnan(signs(model, images[:0], labels[:0], 0.1, ImageRng(0, []))[2].item())
