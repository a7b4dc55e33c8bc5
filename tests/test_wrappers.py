import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import PGD, ImageRng
from bpfc.attacks.ascent import input_gradient
from bpfc.judge import exact_logits

Digits = tuple[Tensor, Tensor]


def rounded(images: Tensor) -> Tensor:
    return (images * 15).round() / 15


class Rounding(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return rounded(images)


def test_bpda_shows_what_a_zero_gradient_hides(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:100], test_digits[1][:100]
    masked = nn.Sequential(Rounding(), trained).eval()
    shown = nn.Sequential(bpfc.BPDA(rounded), trained).eval()
    assert torch.equal(masked(images), shown(images))
    assert not input_gradient(masked, images, labels)[0].any()
    assert input_gradient(shown, images, labels)[0].any()
    hidden, true = (
        bpfc.evaluate(m, images, labels, attacks="pgd-20", eps=0.12, step_size=0.02) for m in (masked, shown)
    )
    assert hidden.robust > 0.85
    assert true.robust < 0.7


def test_bpda_with_a_stand_in() -> None:
    layer = bpfc.BPDA(torch.sign, torch.tanh)
    points = torch.tensor([0.5, -2.0], requires_grad=True)
    out = layer(points)
    assert out.tolist() == [1, -1]
    (gradient,) = torch.autograd.grad(out.sum(), points)
    torch.testing.assert_close(gradient, 1 - torch.tanh(points.detach()) ** 2)
    with pytest.raises(ValueError, match="must be the same shape"):
        bpfc.BPDA(torch.sign, lambda x: x[:1])(points)


class Noisy(nn.Module):
    """A network that adds noise to its input each time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 0.1 * torch.randn_like(images))


def test_a_random_model_is_refused_until_wrapped(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    noisy = Noisy(trained).eval()
    with pytest.raises(ValueError, match=r"answers differently.*bpfc.EOT"):
        bpfc.evaluate(noisy, images, labels, attacks="fgsm", eps=0.1)
    wrapped = bpfc.EOT(noisy, samples=4).eval()
    found = bpfc.evaluate(wrapped, images, labels, attacks="pgd-10", eps=0.15, step_size=0.03)
    assert found.robust < found.clean - 0.2
    state = torch.random.get_rng_state()
    assert torch.equal(exact_logits(wrapped, images), exact_logits(wrapped, images))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.fixture
def drawing(trained: nn.Module) -> nn.Module:
    """A random network that has images near its boundary."""
    return bpfc.EOT(Noisy(trained), samples=2).eval()


def test_the_verdict_on_a_random_model_does_not_depend_on_the_batch(drawing: nn.Module, test_digits: Digits) -> None:
    images = test_digits[0][:60]
    whole = exact_logits(drawing, images)
    torch.testing.assert_close(exact_logits(drawing, images.flip(0)).flip(0), whole)
    torch.testing.assert_close(torch.cat([exact_logits(drawing, part) for part in images.split(7)]), whole)
    assert exact_logits(drawing, images[:0]).shape == (0, 10)


def test_no_image_of_a_random_model_breaks_by_another_draw(drawing: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    found = bpfc.evaluate(drawing, images, labels, attacks="pgd-10", eps=1e-6)
    assert found.robust == found.clean


def test_a_random_model_is_attacked_alike_each_time(drawing: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:40], test_digits[1][:40]

    def rows() -> object:
        return bpfc.evaluate(drawing, images, labels, attacks="pgd-5x2", eps=0.1, step_size=0.03).rows

    first = rows()
    torch.rand(1)
    assert rows() == first


def test_eot_averages_and_walks_to_the_end(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:2], test_digits[1][:2]
    calls = []
    handle = trained.register_forward_hook(lambda *_: calls.append(1))
    wrapped = bpfc.EOT(trained, samples=3).eval()
    torch.testing.assert_close(wrapped(images), trained(images))
    del calls[:]
    PGD(0.1, 0.1, 120)(wrapped, images, labels, ImageRng(0, range(2)))
    handle.remove()
    assert len(calls) == 3 * 120  # its iterates stand still long before, but it might have gone on
    with pytest.raises(ValueError, match="samples=1"):
        bpfc.EOT(trained, samples=1)
