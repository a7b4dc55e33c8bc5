"""A curve of somebody's in front of a network is found, and attacked from behind as our own is."""

import pytest
import torch
from controls import BitDepth, MedianFilter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bpfc.attacks import Behind, ImageRng
from bpfc.auditing.fronts import AnyCurve, fronted
from bpfc.data import to_float
from bpfc.judge import run_attack
from bpfc.models import ToneCurve, behind, with_curve

A, B = 0.3, 0.7


class Contrast(nn.Module):
    """A tone curve that nobody knows for one."""

    def forward(self, images: Tensor) -> Tensor:
        return ((images - A) / (B - A)).clamp(0, 1)


class Normalise(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.3) / 0.4


class Negative(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (1.2 - images).clamp(0, 1)


class Handed(nn.Module):
    """A model that is no nn.Sequential."""

    def __init__(self, layer: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.network, self.layer = network, layer

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(2 * self.network(self.layer(images)))


def test_a_curve_of_somebody_s_is_found(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    images = to_float(shown[0][:8])
    for model, told in (
        (nn.Sequential(Contrast(), trained), "layer 0, Contrast"),
        (Handed(Contrast(), trained), "layer layer, Contrast"),
        (nn.Sequential(ToneCurve(A, B), trained), "layer 0, ToneCurve"),
    ):
        found = fronted(model.eval(), images)
        assert found is not None
        assert found[0] == told
        torch.testing.assert_close(found[1](images), model(images))
        assert behind(found[1]) is not None


@pytest.mark.parametrize("layer", [Normalise(), BitDepth(), MedianFilter(), Negative(), nn.Identity()])
def test_what_is_no_curve_is_not(layer: nn.Module, trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    assert fronted(nn.Sequential(layer, trained).eval(), to_float(shown[0][:8])) is None


@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=30)
def test_a_preimage_lies_in_the_ball(seed: int, eps: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, share = (torch.rand(2, 1, 4, 4, generator=generator) for _ in range(2))
    curve, ours = AnyCurve(Contrast()), ToneCurve(A, B)
    lower, upper = curve.image(x, eps)
    torch.testing.assert_close(torch.stack([lower, upper]), torch.stack(ours.image(x, eps)))
    u = torch.lerp(lower, upper, share)
    found = curve.preimage(u, x, eps)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float((found - x).abs().max()) <= eps * (1 + 1e-6)
    torch.testing.assert_close(curve(found), u, rtol=0, atol=1e-6)
    assert torch.equal(curve.preimage(curve(x), x, eps), x)


def test_it_is_attacked_as_ours_is(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    images, labels = to_float(shown[0][:40]), shown[1][:40]
    attack, rng = Behind(0.2, 6, 0.3), ImageRng(0, range(40))
    ours = run_attack(with_curve(trained, A, B).eval(), images, labels, attack, rng).broken
    found = fronted(Handed(Contrast(), trained).eval(), images)
    assert found is not None
    theirs = run_attack(found[1], images, labels, attack, rng).broken
    assert 0 < int(ours.sum()) < 40
    assert int((ours != theirs).sum()) <= 1
