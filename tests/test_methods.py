from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import small_network
from torch import nn

from bpfc import BPFC, Normal, quantize
from bpfc.methods.bpfc import both_logits
from bpfc.models import build


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(6, 1, 28, 28), torch.randint(0, 10, (6,))


@pytest.mark.parametrize("weight", [0.0, 25.0])
def test_bpfc_equals_the_paper_formula(batch: tuple[torch.Tensor, torch.Tensor], weight: float) -> None:
    images, labels = batch
    model = small_network()
    torch.manual_seed(1)
    output = BPFC(k=6, weight=weight)(model, images, labels)
    torch.manual_seed(1)
    coarse = quantize(images, 6)
    total = torch.zeros(())
    for x, q, y in zip(images, coarse, labels, strict=True):
        g_x, g_q = model(x[None])[0], model(q[None])[0]
        total = total - g_x.log_softmax(0)[y] + weight * ((g_x - g_q) ** 2).sum()
    plain = torch.autograd.grad(total / len(images), list(model.parameters()))
    ours = torch.autograd.grad(output.loss, list(model.parameters()))
    assert output.loss.item() == pytest.approx((total / len(images)).item(), rel=1e-5)
    for a, b in zip(ours, plain, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm()
    torch.testing.assert_close(output.logits, model(images), rtol=1e-4, atol=1e-5)
    assert output.loss.item() == pytest.approx(
        (output.parts["cross_entropy"] + weight * output.parts["regulariser"]).item(), rel=1e-5
    )


def test_ablations_are_settings(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = batch
    model = build("m-lenet", channels=1, classes=10, size=28)
    base = BPFC(k=6, weight=2.0)
    logits = model(images)
    simple = (logits - model(quantize(images, 6, noise=False))).square().sum(1).mean()
    assert replace(base, noise=False)(model, images, labels).parts["regulariser"].item() == pytest.approx(
        simple.item(), rel=1e-4
    )
    absolute = (logits - model(quantize(images, 6, noise=False))).abs().sum(1).mean()
    l1 = replace(base, noise=False, distance="l1")(model, images, labels)
    assert l1.parts["regulariser"].item() == pytest.approx(absolute.item(), rel=1e-4)
    uniform = replace(base, coarse="uniform-noise").coarsen(torch.full((100, 100), 0.5))
    assert 31.5 / 255 < (uniform - 0.5).abs().max() <= 32 / 255
    assert len(uniform.unique()) > 1000
    assert replace(base, coarse="uniform-noise").coarsen(images).max() <= 1


def test_batch_norm_sees_each_half_by_itself_the_coarse_one_first() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1, momentum=0.5), nn.Flatten())
    images, coarse = torch.full((4, 1, 2, 2), 8.0), torch.full((4, 1, 2, 2), 4.0)
    both_logits(model, images, coarse)
    assert model[0].running_mean.item() == pytest.approx((0 + 4) / 2 / 2 + 8 / 2)
    together, apart = both_logits(model.eval(), images, coarse)
    torch.testing.assert_close(together, model(images))
    torch.testing.assert_close(apart, model(coarse))


def test_drop_in_works_without_cuda_or_engine(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    BPFC(k=6, weight=25.0)(model, batch[0], batch[1] % 3).loss.backward()
    assert model[1].weight.grad is not None


def test_normal_is_cross_entropy(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = batch
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    output = Normal()(model, images, labels)
    torch.testing.assert_close(output.loss, F.cross_entropy(model(images), labels))
    assert Normal().weighted(9) == Normal()
    assert BPFC(weight=3).weighted(9).weight == 27


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"k": 0}, "k=0"), ({"k": 8}, "k=8"), ({"weight": -1.0}, "weight=-1"), ({"bits": 1}, "bits=1")],
)
def test_wrong_settings_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BPFC(**wrong)  # type: ignore[arg-type]
