import pytest
import torch
from boxes import check_every_point_is_reached
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bpfc.models import ToneCurve, behind, build, with_curve
from bpfc.models.cost import parameters

CURVES = [(0.0, 1.0), (0.1, 1.0), (0.3, 0.7), (0.45, 0.55)]


@pytest.fixture
def images() -> torch.Tensor:
    """8-bit images in which black, white and the curves' ends occur often."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4, 1, 28, 28)).float()
    pixels[0, :, :14], pixels[1, :, :14] = 0, 255
    return pixels / 255


@pytest.mark.parametrize("ends", CURVES)
def test_equals_its_formula_and_is_monotone(ends: tuple[float, float]) -> None:
    a, b = ends
    x = torch.linspace(0, 1, 1001)
    u = ToneCurve(a, b)(x)
    for value, answer in zip(x.tolist(), u.tolist(), strict=True):
        assert answer == pytest.approx(min(max((value - a) / (b - a), 0), 1), abs=1e-5)
    assert (u.diff() >= 0).all()
    assert u[0] == 0
    assert u[-1] == 1


@pytest.mark.parametrize("ends", CURVES)
@pytest.mark.parametrize("eps", [8 / 255, 0.1, 0.3])
def test_the_box_holds_every_answer_and_its_ends_are_reached(
    ends: tuple[float, float], eps: float, images: torch.Tensor
) -> None:
    curve = ToneCurve(*ends)
    lower, upper = curve.image(images, eps)
    ball = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    for _ in range(20):
        inside = torch.lerp(*ball, torch.rand_like(images)).clamp(*ball)
        answers = curve(inside)
        assert (answers >= lower).all()
        assert (answers <= upper).all()
    torch.testing.assert_close(curve(ball[0]), lower, rtol=0, atol=0)
    torch.testing.assert_close(curve(ball[1]), upper, rtol=0, atol=0)


def test_black_is_out_of_reach_where_a_is_eps() -> None:
    lower, upper = ToneCurve(0.3, 0.7).image(torch.tensor([0.0, 0.5, 1.0]), 0.3)
    torch.testing.assert_close(lower, torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(upper, torch.tensor([0.0, 1.0, 1.0]))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 0.9), st.floats(0.05, 1), st.floats(0.01, 0.5), st.integers(0, 2**31))
def test_every_point_of_the_box_has_an_image_in_the_ball(a: float, width: float, eps: float, seed: int) -> None:
    curve = ToneCurve(a, min(a + width, 1))
    check_every_point_is_reached(curve, eps, seed, slack=2e-6 / (curve.b - curve.a))


@pytest.mark.parametrize("ends", CURVES)
def test_the_nearest_such_image_is_taken(ends: tuple[float, float]) -> None:
    curve, eps = ToneCurve(*ends), 0.29
    grid = torch.linspace(0, 1, 2001)
    for x in (0.0, 0.05, 0.3, 0.5, 0.69, 0.8, 1.0):
        image = torch.tensor([x])
        lower, upper = curve.image(image, eps)
        for u in torch.linspace(lower.item(), upper.item(), 7):
            found = curve.preimage(u.view(1), image, eps)
            alike = grid[((curve(grid) - u).abs() < 5e-4 / (curve.b - curve.a)) & ((grid - x).abs() <= eps + 5e-4)]
            nearest = (alike - x).abs().min().item()
            assert abs(found.item() - x) == pytest.approx(nearest, abs=2e-3)
    unmoved = torch.rand(50)
    assert torch.equal(curve.preimage(curve(unmoved), unmoved, eps), unmoved)


def test_a_network_is_built_behind_a_curve() -> None:
    torch.manual_seed(0)
    plain = build("m-lenet-half", channels=1, classes=10, size=28)
    torch.manual_seed(0)
    model = build("m-lenet-half@0.3-0.7", channels=1, classes=10, size=28)
    images = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(model(images), plain(((images - 0.3) / 0.4).clamp(0, 1)))
    found = behind(model)
    assert found is not None
    assert (found[0].a, found[0].b) == (0.3, 0.7)
    torch.testing.assert_close(found[1](found[0](images)), model(images))
    assert behind(plain) is None
    assert parameters(plain) == 449_530


def test_what_stands_behind_may_be_several_modules() -> None:
    model = nn.Sequential(ToneCurve(0.1, 1), nn.Flatten(), nn.Linear(4, 2))
    found = behind(model)
    assert found is not None
    images = torch.rand(3, 1, 2, 2)
    torch.testing.assert_close(found[1](found[0](images)), model(images))
    assert behind(with_curve(model, 0, 0.5)) is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m-lenet@learned-0.7-0.3", "a=0.7 to b=0.3"),
        ("m-lenet@learnt-0.3-0.7", "'learnt-0.3-0.7'"),
        ("m-lenet@0.7-0.3", "a=0.7 to b=0.3"),
        ("m-lenet@0.3", "'0.3'"),
        ("m-lenet@a-b", "'a-b'"),
        ("no@0-1", "'no'"),
    ],
)
def test_wrong_curves_are_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, channels=1, classes=10, size=28)
