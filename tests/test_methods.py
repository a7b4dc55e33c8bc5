from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import network_with_modes, small_network
from torch import nn

from bpfc import BPFC, Normal, quantize
from bpfc.attacks import FGSM, PGD, RFGSM, BatchRng
from bpfc.bitplanes import uniform_like
from bpfc.methods import (
    FGSMAT,
    PGDAT,
    RFGSMAT,
    RSSAT,
    TRADES,
    AnyMethod,
    BoxConsistency,
    ManifoldMixup,
    Method,
    Mixup,
)
from bpfc.methods.bpfc import both_logits
from bpfc.methods.mixup import _draw
from bpfc.models import build


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


def test_noise_is_constant_on_blocks() -> None:
    torch.manual_seed(0)
    noise = uniform_like(torch.zeros(3, 2, 10, 9), 0.5, block=4)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        for columns in (slice(0, 4), slice(4, 8), slice(8, 9)):
            part = noise[..., rows, columns].flatten(2)
            assert torch.equal(part, part[..., :1].expand_as(part))
    assert len(noise.unique()) == 3 * 2 * 9
    assert 0.4 < noise.abs().max() <= 0.5
    generator = torch.Generator().manual_seed(3)
    plain = uniform_like(torch.zeros(2, 3, 5, 5), 2.0, generator)
    again = 2 * torch.rand(2, 3, 5, 5, generator=generator.manual_seed(3)) - 1
    torch.testing.assert_close(plain, 2 * again)


def test_block_noise_goes_into_the_quantiser(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The paper's rule pixel by pixel, with one number of noise for each block."""
    images = batch[0]
    torch.manual_seed(9)
    coarse = BPFC(k=6, blocks=(7,)).coarsen(images)
    torch.manual_seed(9)
    blocks = torch.rand(6, 1, 4, 4)
    for y, x in ((0, 0), (6, 6), (7, 20), (27, 27)):
        pixel = images[:, 0, y, x] * 255 + (2 * blocks[:, 0, y // 7, x // 7] - 1) * 16
        expected = (torch.floor(pixel / 64) * 64 + 32).clamp(0, 255) / 255
        torch.testing.assert_close(coarse[:, 0, y, x], expected)


def test_the_paper_noise_is_drawn_as_before(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(8)
    ours = BPFC(k=6).coarsen(batch[0])
    torch.manual_seed(8)
    assert torch.equal(ours, quantize(batch[0], 6))


def test_the_block_is_drawn_for_each_batch() -> None:
    torch.manual_seed(0)
    flat = torch.full((4, 1, 28, 28), 0.5)
    seen = set()
    for _ in range(40):
        coarse = BPFC(k=6, blocks=(2, 14), coarse="uniform-noise").coarsen(flat)
        seen.add(len(coarse.unique()))
    assert seen == {4 * 14 * 14, 4 * 4}


def test_box_consistency_equals_its_formula(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = batch
    model = small_network()
    torch.manual_seed(4)
    ours = BoxConsistency(eps=0.2, weight=3.0, blocks=(4,))(model, images, labels)
    torch.manual_seed(4)
    way = torch.nn.functional.interpolate(2 * torch.rand(6, 1, 7, 7) - 1, scale_factor=4)
    way = torch.stack([w.sign() if lot < 0.5 else w for w, lot in zip(way, torch.rand(6), strict=True)])
    logits, others = model(images), model((images + 0.2 * way).clamp(0, 1))
    plain = F.cross_entropy(logits, labels) + 3 * (logits - others).square().sum(1).mean()
    losses_agree(ours.loss, plain, model)


def test_box_consistency_stays_in_ball_and_box_and_reaches_corners(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    images = batch[0]
    ways = torch.stack([BoxConsistency(eps=0.3).elsewhere(images) - images for _ in range(20)])
    assert ways.abs().max() <= 0.3 + 1e-6
    assert (images + ways).min() >= 0
    assert (images + ways).max() <= 1
    reached = ((ways.abs() - 0.3).abs() < 1e-6).flatten(2).float().mean(dim=2)
    assert 0.3 < (reached > 0.3).float().mean() < 0.7  # about half of the images sit at a corner


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_batch_norm_sees_each_half_by_itself_the_coarse_one_first() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1, momentum=0.5), nn.Flatten())
    images, coarse = torch.full((4, 1, 2, 2), 0.8), torch.full((4, 1, 2, 2), 0.4)
    script = torch.jit.script(deepcopy(model))
    for each in (model, script):
        both_logits(each, images, coarse)
        assert each.state_dict()["0.running_mean"].item() == pytest.approx((0 + 0.4) / 2 / 2 + 0.8 / 2)
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
    [
        ({"k": 0}, "k=0"),
        ({"k": np.int64(5)}, r"whole number \(int\)"),
        ({"k": 8}, "k=8"),
        ({"weight": -1.0}, "weight=-1"),
        ({"bits": 1}, "bits=1"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BPFC(**wrong)  # type: ignore[arg-type]


def losses_agree(ours: torch.Tensor, plain: torch.Tensor, model: nn.Module) -> None:
    """Value and gradients of the loss, against the formula written out."""
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    parameters = list(model.parameters())
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(plain, parameters), strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm()


def test_shares_are_of_the_beta_distribution() -> None:
    torch.manual_seed(0)
    for alpha in (1e-6, 0.5, 1.0, 2.0):
        shares = torch.tensor([_draw(alpha, torch.zeros(3))[0] for _ in range(3000)])
        assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
        assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


def test_mixup_equals_its_formula(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = batch
    model = small_network()
    torch.manual_seed(3)
    ours = Mixup(alpha=0.7)(model, images, labels)
    torch.manual_seed(3)
    m, order = _draw(0.7, images)
    soft = m * F.one_hot(labels, 10) + (1 - m) * F.one_hot(labels[order], 10)
    logits = model(m * images + (1 - m) * images[order])
    losses_agree(ours.loss, -(soft * logits.log_softmax(1)).sum(1).mean(), model)


@pytest.mark.parametrize("method", [Mixup(alpha=1e-6), ManifoldMixup(layers=("images", "1"), alpha=1e-6)], ids=repr)
def test_mixup_without_mixing_is_normal_training(method: Method, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """α → 0: the share is 0 or 1, so that the loss is that of the batch, if need be in another order."""
    model = small_network()
    torch.manual_seed(0)
    for _ in range(5):
        losses_agree(method(model, *batch).loss, Normal()(model, *batch).loss, model)


def test_manifold_mixup_mixes_at_each_named_place(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = batch
    model = small_network()
    for layer, cut in (("images", 0), ("1", 2), ("3", 4)):
        torch.manual_seed(5)
        ours = ManifoldMixup(layers=(layer,), alpha=1.0)(model, images, labels)
        torch.manual_seed(5)
        torch.randint(1, ())
        m, order = _draw(1.0, images)
        hidden = model[:cut](images)
        logits = model[cut:](m * hidden + (1 - m) * hidden[order])
        plain = m * F.cross_entropy(logits, labels) + (1 - m) * F.cross_entropy(logits, labels[order])
        losses_agree(ours.loss, plain, model)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="no 'block9'; it has 0, 1, 2"):
        ManifoldMixup(layers=("block9",))(model, images, labels)
    model.add_module("again", model[4])
    with pytest.raises(ValueError, match="'4' is called 2 times"):
        ManifoldMixup(layers=("4",))(model, images, labels)


def test_manifold_mixup_is_not_passed_over_by_compiled_code(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """What has been compiled without hooks goes on without them."""
    model = torch.compile(small_network(), backend="eager")
    model(batch[0])
    with pytest.raises(ValueError, match="is called 0 times .* hand in the one that was compiled"):
        ManifoldMixup(layers=("_orig_mod.1",))(model, *batch)


@pytest.mark.parametrize(
    ("method", "attack"),
    [
        (FGSMAT(eps=0.1), FGSM(0.1)),
        (RFGSMAT(eps=0.1), RFGSM(0.05, 0.05)),
        (PGDAT(eps=0.1, step_size=0.03, steps=5), PGD(0.1, 0.03, 5)),
    ],
    ids=repr,
)
def test_adversarial_training_is_cross_entropy_on_the_attack(
    method: Method, attack: FGSM | RFGSM | PGD, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = batch
    model, twin = network_with_modes(), network_with_modes().eval()
    torch.manual_seed(2)
    ours = method(model, images, labels)
    torch.manual_seed(2)
    adversaries = attack(twin, images, labels, BatchRng())
    twin.train()
    assert all(module.training for module in model.modules())
    plain = F.cross_entropy(twin(adversaries), labels)
    assert ours.loss.item() == pytest.approx(plain.item(), rel=1e-5)
    torch.testing.assert_close(model[1].running_mean, twin[1].running_mean)  # moved once, by the training forward
    ours.loss.backward()
    plain.backward()
    torch.testing.assert_close(model[0].weight.grad, twin[0].weight.grad, rtol=1e-3, atol=1e-6)


def test_rss_at_equals_its_formula(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = batch
    model = small_network()
    torch.manual_seed(4)
    ours = RSSAT(eps=0.1, alpha=0.02, weight=3.0)(model, images, labels)
    torch.manual_seed(4)

    def gradient_sign(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(x), labels), x)[0].sign()

    fgsm = (images + 0.1 * gradient_sign(images)).clamp(0, 1)
    moved = images + 0.02 * BatchRng().uniform(images).sign()
    r_fgsm = (moved + 0.1 * gradient_sign(moved)).clamp(0, 1)
    a, b = model(fgsm), model(r_fgsm)
    losses_agree(ours.loss, F.cross_entropy(a, labels) + 3 * (a - b).square().sum(1).mean(), model)
    without = RSSAT(eps=0.1, weight=0.0)(model, images, labels)
    losses_agree(without.loss, FGSMAT(eps=0.1)(model, images, labels).loss, model)


def test_trades_equals_its_formula(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = batch
    model = small_network()
    torch.manual_seed(6)
    ours = TRADES(eps=0.1, step_size=0.03, steps=4, weight=6.0)(model, images, labels)
    torch.manual_seed(6)
    x = images + 0.001 * torch.randn_like(images)
    for _ in range(4):
        x = x.detach().requires_grad_()
        p, log_q = model(images).softmax(1).detach(), model(x).log_softmax(1)
        (p * (p.log() - log_q)).sum().backward()
        x = torch.min(torch.max(x + 0.03 * x.grad.sign(), images - 0.1), images + 0.1).clamp(0, 1)
    p, log_q = model(images).softmax(1), model(x.detach()).log_softmax(1)
    plain = F.cross_entropy(model(images), labels) + 6 * (p * (p.log() - log_q)).sum(1).mean()
    losses_agree(ours.loss, plain, model)
    without = TRADES(eps=0.1, step_size=0.03, steps=2, weight=0.0)(model, images, labels)
    losses_agree(without.loss, Normal()(model, images, labels).loss, model)


def test_other_wrong_settings_are_named() -> None:
    for make, message in (
        (lambda: Mixup(alpha=0), "alpha=0"),
        (lambda: ManifoldMixup(layers=()), "layers="),
        (lambda: ManifoldMixup(alpha=-1), "alpha=-1"),
        (lambda: BPFC(blocks=()), "blocks="),
        (lambda: BPFC(blocks=(0, 2)), "blocks="),
        (lambda: BoxConsistency(eps=8), "eps=8"),
        (lambda: BoxConsistency(weight=-1), "weight=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    ("methods", "wrong"),
    [
        ((FGSMAT, RFGSMAT, PGDAT, RSSAT, TRADES), {"eps": 8}),
        ((PGDAT, TRADES), {"step_size": 2}),
        ((PGDAT, TRADES), {"steps": 0}),
        ((RSSAT,), {"alpha": 0}),
        ((RSSAT, TRADES), {"weight": -5}),
    ],
)
def test_wrong_settings_of_adversarial_training_are_named(
    methods: tuple[type[AnyMethod], ...], wrong: dict[str, Any]
) -> None:
    """When the method is made, not in its first step, when the run has been begun."""
    for method in methods:
        with pytest.raises(ValueError, match=", ".join(f"{name}={value}" for name, value in wrong.items())):
            method(**wrong)
