import numpy as np
import pytest
import torch
from boxes import check_every_point_is_reached
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfc.attacks import Behind, ImageRng
from bpfc.certification import certify
from bpfc.methods import IBP
from bpfc.models import LearnedCurve, ToneCurve, behind, build


def bent(seed: int, spread: float = 4.0) -> LearnedCurve:
    """A curve as training might leave it: some pieces steep, some as good as flat."""
    curve = LearnedCurve(0.1, 0.6)
    generator = torch.Generator().manual_seed(seed)
    curve.rises.data = spread * torch.randn(curve.rises.shape, generator=generator)
    return curve.requires_grad_(False)


def test_it_begins_as_the_tone_curve() -> None:
    x = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(LearnedCurve(0.1, 0.6)(x), ToneCurve(0.1, 0.6)(x), rtol=0, atol=0.025)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.5, 4.0, 40.0]))
def test_it_is_the_line_through_its_heights_and_monotone_to_the_bit(seed: int, spread: float) -> None:
    curve = bent(seed, spread)
    x = torch.rand(4000, generator=torch.Generator().manual_seed(seed)).sort().values
    edges = torch.linspace(0, 1, 21)
    x = (
        torch.cat([x, edges, edges.nextafter(torch.tensor(0.0)), edges.nextafter(torch.tensor(2.0))])
        .clamp(0, 1)
        .sort()[0]
    )
    u = curve(x)
    heights = np.concatenate([[0], curve.rises.double().softmax(0).cumsum(0)])
    np.testing.assert_allclose(u.numpy(), np.interp(x.double().numpy(), edges.double().numpy(), heights), atol=3e-6)
    assert (u.diff() >= 0).all()
    assert u[0] == 0
    assert u[-1] == pytest.approx(1, abs=1e-6)
    assert u.max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 0.5), st.sampled_from([0.5, 4.0, 40.0]))
def test_every_point_of_the_box_has_an_image_in_the_ball(seed: int, eps: float, spread: float) -> None:
    curve = bent(seed, spread)
    images = check_every_point_is_reached(curve, eps, seed, slack=2e-6 * 20)  # no piece is steeper than 20
    assert torch.equal(curve.preimage(curve(images), images, eps), images)


def test_it_is_trained_with_the_network_and_attacked_and_proven_behind() -> None:
    torch.manual_seed(0)
    model = build("m-lenet-quarter@learned-0.1-0.6", channels=1, classes=10, size=28)
    found = behind(model)
    assert found is not None
    curve = found[0]
    assert isinstance(curve, LearnedCurve)
    images, labels = torch.rand(8, 1, 28, 28), torch.arange(8)
    output = IBP(eps=0.05)(model, images, labels)
    output.loss.backward()
    assert curve.rises.grad is not None
    assert curve.rises.grad.abs().max() > 0
    adversaries = Behind(0.05, steps_each=2, targets=1)(model.eval(), images, labels, ImageRng(0, range(8)))
    assert (adversaries - images).abs().max() <= 0.05 + 1e-6
    pixels = torch.full((1, 1, 28, 28), 0.05)
    label = model(pixels).argmax(dim=1)
    assert certify(model, pixels, label, eps=1e-4).certified == 1
