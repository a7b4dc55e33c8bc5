"""A model that does amiss on later images alone, where the checks at the start do not see it: one line, no figure."""

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_network
from torch import Tensor, nn

import bpfc
from bpfc.__main__ import main
from bpfc.answers import Answers
from bpfc.auditing.budget import QUICK
from bpfc.auditing.measurements import Measurements
from bpfc.data import DataSet, Images
from bpfc.errors import UserError
from bpfc.models import NETWORKS
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.weights import save_tensors

SIDE, CLASSES, IMAGES, LATE = 4, 3, 48, 40
"""Of the images, those from number LATE on have a white first pixel, which the odd models look at."""


class Late(nn.Module):
    """A linear model that does something else where a batch holds a late image."""

    def __init__(self, amiss: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.amiss = nn.Linear(SIDE * SIDE, CLASSES), amiss

    def forward(self, images: Tensor) -> object:
        logits = self.linear(images.flatten(1))
        return self.amiss(images, logits) if bool((images[:, 0, 0, 0] > 0.9).any()) else logits


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        raise KeyError("no way back")


def _fail(error: BaseException) -> object:
    raise error


AMISS: dict[str, tuple[Callable[[Tensor, Tensor], object], str]] = {
    "raises": (lambda images, logits: _fail(KeyError("a\nb")), r"the model fails \(KeyError: 'a\\nb'\)"),
    "raises_value": (
        lambda images, logits: _fail(ValueError("two\nlines")),
        r"the model fails \(ValueError: two lines",
    ),
    "raises_memory": (lambda images, logits: _fail(MemoryError()), r"the model fails \(MemoryError"),
    "leaves": (lambda images, logits: _fail(SystemExit(0)), r"the model fails \(SystemExit: 0\)"),
    "gives_tuple": (lambda images, logits: (logits, 1), "gives a tuple, must give logits"),
    "nothing": (lambda images, logits: None, "gives a NoneType, must give logits"),
    "integers": (lambda images, logits: logits.long(), r"gives a tensor of torch\.int64"),
    "fewer_classes": (lambda images, logits: logits[:, :2], r"gives shape \(8, 2\), must give \(8, 3\)"),
    "more_classes": (lambda images, logits: torch.cat([logits, logits], dim=1), r"gives shape \(8, 6\)"),
    "first_alone": (lambda images, logits: logits[:1], r"gives shape \(1, 3\), must give \(8, 3\)"),
    "nan": (lambda images, logits: logits * torch.nan, "image 40: the model gives NaN or infinite logits"),
    "no_gradient": (lambda images, logits: logits.detach(), "lets no gradient through|the gradient of the model fails"),
    "gradient_raises": (lambda images, logits: _Backward.apply(logits), r"the gradient .*KeyError: 'no way back'"),
}
WITH_GRADIENTS = {"no_gradient", "gradient_raises"}

globals().update({name: (lambda amiss=amiss: Late(amiss).eval()) for name, (amiss, _) in AMISS.items()})


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of which the last eight are late, each of the class that the model takes it for."""
    monkeypatch.chdir(tmp_path)
    images = torch.rand(IMAGES, 1, SIDE, SIDE) * 0.8
    images[LATE:, 0, 0, 0] = 1
    labels = Late(lambda _, logits: logits)(images).argmax(dim=1)  # type: ignore[attr-defined]
    np.savez("late.npz", x=images.numpy(), y=labels.numpy())
    return tmp_path


def error_of(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["bpfc", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2, told
    assert (told[:13], told.count("\n")) == ("bpfc: error: ", 1), told
    return told


ON = "--data late.npz --eps 0.01 --batch-size 8 --device cpu --out out"


@pytest.mark.parametrize("name", AMISS)
@pytest.mark.parametrize("verb", ["evaluate", "audit"])
def test_what_a_model_does_on_later_images_is_one_line(
    verb: str, name: str, late: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"evaluate": "--attacks fgsm --precision fp32", "audit": "--quick"}[verb]
    if verb == "audit" and name in WITH_GRADIENTS:
        return  # which an audit goes around
    told = error_of(f"{verb} {ON} --model test_answers:{name} {more}", monkeypatch, capsys)
    assert re.search(AMISS[name][1], told), told
    assert name == "no_gradient" or re.search("images? (40|40 to 47|0 to 47):", told), told


@pytest.mark.parametrize("name", [name for name in AMISS if name not in WITH_GRADIENTS])
def test_a_proof_and_a_figure_in_memory_are_refused_alike(name: str, late: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).eval()
    images = torch.rand(IMAGES, 1, SIDE, SIDE) * 0.8
    labels = model(images).argmax(dim=1)
    images[LATE:, 0, 0, 0] = 1

    def amiss(_: nn.Module, given: tuple[Tensor], logits: Tensor) -> object:
        return AMISS[name][0](given[0], logits) if bool((given[0][:, 0, 0, 0] > 0.9).any()) else None

    model.register_forward_hook(amiss)
    if name != "nothing":  # which a hook cannot give
        for call in (bpfc.certify, bpfc.evaluate):
            with pytest.raises((UserError, ValueError), match=AMISS[name][1]):
                call(model, images, labels, eps=0.01, batch_size=8)


def test_a_model_that_bears_few_images_at_a_time_is_not_to_be_mended() -> None:
    def few(images: Tensor, logits: Tensor) -> Tensor:
        return logits if len(images) <= 32 else _fail(RuntimeError("CUDA out of memory"))  # type: ignore[return-value]

    images = torch.ones(IMAGES, 1, SIDE, SIDE)
    model = Late(few).eval()
    labels = model(images[:1]).argmax(dim=1).expand(IMAGES)
    with pytest.raises(UserError, match="out of memory.* or show it fewer at a time"):
        bpfc.evaluate(model, images, labels, attacks="fgsm", eps=0.1)
    assert bpfc.evaluate(model, images, labels, attacks="fgsm", eps=0.1, batch_size=32).clean == 1


def test_an_audit_names_the_block_that_fails_under_an_attack() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).eval()
    images = torch.rand(IMAGES, 1, SIDE, SIDE) * 0.7
    images[LATE:, 0, 0, 0] = 0.9
    m = Measurements(model, Images(images, model(images).argmax(dim=1)), 0.05, QUICK, batch_size=8)
    assert m.right.all()
    model.register_forward_pre_hook(lambda _, given: _fail(KeyError("x")) if (given[0] > 0.82).any() else None)
    with pytest.raises(UserError, match=r"images 40 to 47: the model fails \(KeyError: 'x'\)"):
        m.fgsm  # noqa: B018


def test_a_transfer_names_the_network_that_fails(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fragile(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            if bool((images == late).flatten(1).all(dim=1).any()):
                raise KeyError("x")
            return super().forward(images)  # type: ignore[no-any-return]

    late = digits.test.pixels[41].float() / 255
    monkeypatch.setitem(NETWORKS, "sound", lambda channels, classes, size: small_network())
    monkeypatch.setitem(NETWORKS, "fragile", lambda channels, classes, size: Fragile(*small_network()))
    monkeypatch.chdir(tmp_path)
    for name in ("sound", "fragile"):
        Path(name).mkdir()
        Run(Path(name)).begin(replace(RECIPES["mnist-5k-bpfc"][1], network=name, eps=0.1), "fp32", {})
        save_tensors(Path(name) / "model.safetensors", NETWORKS[name](1, 10, 28).state_dict())
    for words in ("sound --source fragile", "fragile --source sound"):
        told = error_of(
            f"transfer {words} --limit 48 --batch-size 8 --device cpu --out {words[:5]}", monkeypatch, capsys
        )
        assert "images 40 to 47: the network of fragile fails (KeyError: 'x')" in told


def test_what_is_not_the_model_s_keeps_its_traceback() -> None:
    model = small_network()
    with pytest.raises(KeyError), Answers(model).to([0]):
        model(torch.rand(1, 1, 28, 28))
        raise KeyError("ours")
    with pytest.raises(ZeroDivisionError), Answers(model).to([0]):
        with suppress(RuntimeError):
            model(torch.rand(1, 2, 3))
        raise ZeroDivisionError  # an earlier error that somebody has dealt with is not to blame
    assert not model._forward_hooks
