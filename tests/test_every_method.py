"""What holds of every method of training, and of most: units, labels, answers, and what it leaves behind."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import network_with_modes, small_network
from torch import nn

import bpfc
from bpfc import BPFC
from bpfc.data import check_units
from bpfc.methods import BPFCIBP, FGSMAT, IBP, METHODS, PGDAT, RFGSMAT, RSSAT, TRADES, BoxConsistency, Margin, Method


@pytest.mark.parametrize(
    "method", [BPFC(), BoxConsistency(), Margin(), IBP(), BPFCIBP(), FGSMAT(), RFGSMAT(), PGDAT(), RSSAT(), TRADES()]
)
def test_images_in_other_units_are_refused(method: Method, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The quantiser, the bounds and the attacks would clip them, and train on something else without a word."""
    images, labels = batch
    for wrong in ((images - 0.1307) / 0.3081, 2 * images - 1, 255 * images):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\]; .* put any normalisation into the model"):
            method(small_network(), wrong, labels)
    with pytest.raises(TypeError, match="dtype torch.uint8: must be float, in .* use images / 255"):
        method(small_network(), (255 * images).byte(), labels)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="float16 under bfloat16 autocast"):
        method(small_network(), images.half(), labels)
    model = small_network()
    check_units(model, images[:0])  # of no image nothing is known
    with pytest.raises(ValueError, match="must be in"):
        method(model, 255 * images, labels)
    interpolated = (1.2 * images - 0.1).clamp_(-0.05, 1.05)
    assert torch.isfinite(method(small_network(), interpolated, labels).loss)


@pytest.mark.parametrize("method", METHODS.values())
def test_gradients_are_finite_where_probabilities_underflow(
    method: type[Method], batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model = nn.Sequential(*small_network().children())
    with torch.no_grad():
        for parameter in model[-1].parameters():
            parameter.mul_(1e4)
        assert (model(batch[0]).softmax(dim=1) == 0).any()
    method()(model, *batch).loss.backward()
    assert all(torch.isfinite(each.grad).all() for each in model.parameters() if each.grad is not None)


@pytest.mark.parametrize("method", METHODS.values())
def test_every_method_leaves_the_model_as_it_was(
    method: type[Method], batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model = network_with_modes()
    model[3].eval()
    modes = [module.training for module in model.modules()]
    output = method()(model, *batch)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert output.logits.shape == (6, 10)
    assert not any(part.requires_grad for part in output.parts.values())


class InAnObject(nn.Module):
    """Answers as Hugging Face's classifiers do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.network(images))


@pytest.mark.parametrize("method", [each for name, each in METHODS.items() if "ibp" not in name])
def test_an_answer_with_the_logits_inside_is_told_its_wrapper(
    method: type[Method], batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    with pytest.raises(TypeError, match=r"gives a SimpleNamespace, must give logits; .* bpfc\.Logits\(model\)"):
        method()(InAnObject(), *batch)
    assert torch.isfinite(method()(bpfc.Logits(InAnObject()), *batch).loss)


@pytest.mark.parametrize("method", [Margin, IBP, BPFCIBP])
def test_soft_labels_are_refused_where_a_class_is_asked_for(
    method: type[Method], batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(6, 10\), torch.float32: must be one class .* no soft"):
        method()(small_network(), batch[0], F.one_hot(batch[1], 10).float())
