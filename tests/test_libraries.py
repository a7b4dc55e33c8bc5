"""Models of every make: each works, or one line says what to wrap it in."""

import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.auditing import Budget
from bpfc.bounds import UntraceableError
from bpfc.data import load
from bpfc.errors import UserError
from bpfc.evaluation.subject import from_factory
from bpfc.models import build, is_code, load_weights
from bpfc.training.derived import derived
from bpfc.training.start import train


class Answering(nn.Module):
    """A linear model whose logits come in some wrapping."""

    def __init__(self, wrapping: object, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(16, classes)
        self.wrapping = wrapping

    def forward(self, images: Tensor) -> object:
        return self.wrapping(self.layer(images.flatten(1)))  # type: ignore[operator]


WRAPPINGS = {
    "object": lambda logits: SimpleNamespace(logits=logits, loss=None),
    "dictionary": lambda logits: {"loss": 0, "logits": logits},
    "out": lambda logits: {"out": logits},
    "tuple": lambda logits: (logits, "features"),
    "list": lambda logits: [logits],
}


def some(count: int = 12, classes: int = 3) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 1, 4, 4), torch.arange(count) % classes


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_logits_are_found_in_any_wrapping(wrapping: str) -> None:
    images, labels = some()
    model = Answering(WRAPPINGS[wrapping]).eval()
    with pytest.raises(ValueError, match=r"must give logits alone.* wrap it: bpfc.Logits\(model\)"):
        bpfc.evaluate(model, images, labels, attacks="pgd-3", eps=0.1)
    plain = Answering(lambda logits: logits).eval()
    expected = bpfc.evaluate(plain, images, labels, attacks="pgd-3", eps=0.1)
    assert bpfc.evaluate(bpfc.Logits(model).eval(), images, labels, attacks="pgd-3", eps=0.1).rows == expected.rows


@pytest.mark.parametrize("wrapping", [lambda logits: logits, lambda logits: logits[:, 0]])
def test_one_logit_makes_two_classes(wrapping: object) -> None:
    images, labels = some(classes=2)
    model = Answering(wrapping, classes=1).eval()
    with pytest.raises(ValueError, match=r"of one logit an image, bpfc.Logits\(model\) makes two"):
        bpfc.evaluate(model, images, labels, attacks="fgsm", eps=0.1)
    wrapped = bpfc.Logits(model).eval()
    torch.testing.assert_close(wrapped(images).softmax(dim=1)[:, 1], model.layer(images.flatten(1)).sigmoid()[:, 0])
    assert wrapped(images[:1]).shape == (1, 2)
    assert len(bpfc.evaluate(wrapped, images, labels, attacks="fgsm", eps=0.1).rows) == 12


def test_what_holds_no_logits_is_named() -> None:
    with pytest.raises(ValueError, match="answer has neither .logits, nor"):
        bpfc.evaluate(bpfc.Logits(Answering(lambda logits: {"boxes": logits})).eval(), *some(), attacks="fgsm", eps=0.1)


def test_a_thousand_classes() -> None:
    images, _ = some(8)
    model = Answering(lambda logits: logits, classes=1_000).eval()
    labels = model(images).argmax(dim=1)
    found = bpfc.evaluate(model, images, labels, attacks="mt-pgd-3,deepfool", eps=0.01)
    assert found.clean == 1
    assert found.robust < 1
    assert bpfc.BPFC(k=5)(model, images, labels).loss.isfinite()


def test_a_compiled_model_and_its_weights(tmp_path: Path) -> None:
    images, labels = some()
    plain = Answering(lambda logits: logits).eval()
    compiled = torch.compile(plain, backend="eager")
    expected = bpfc.evaluate(plain, images, labels, attacks="pgd-3", eps=0.1)
    assert bpfc.evaluate(compiled, images, labels, attacks="pgd-3", eps=0.1).rows == expected.rows
    torch.save(compiled.state_dict(), tmp_path / "w.pt")
    fresh = Answering(lambda logits: logits)
    nn.init.zeros_(fresh.layer.weight)
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.layer.weight, plain.layer.weight)


@pytest.fixture
def data(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(6) % 3)
    return str(tmp_path / "set.npz")


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_torchscript_file_is_a_model(tmp_path: Path, data: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
    traced = torch.jit.trace(model, torch.rand(2, 3, 8, 8))
    traced.save(str(tmp_path / "model.pt"))
    subject = from_factory(str(tmp_path / "model.pt"), None, data)
    images, labels = subject.images.pixels, subject.images.labels
    expected = bpfc.evaluate(model, images, labels, attacks="pgd-3", eps=0.1)
    assert bpfc.evaluate(subject.model, images, labels, attacks="pgd-3", eps=0.1).rows == expected.rows
    # As it is in Python, too: scripts take no hooks.
    assert bpfc.evaluate(traced, images, labels, attacks="pgd-3", eps=0.1).rows == expected.rows
    tiny = Budget(6, 10, (1, 2), 5, 2, (0.1,), 1, (2,))
    audits = [bpfc.audit(each, images, labels, eps=0.1, budget=tiny) for each in (model, traced)]
    assert audits[0].cascade == audits[1].cascade
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UserError, match="cannot be read as TorchScript .* name them with --weights"):
        from_factory(str(tmp_path / "weights.pt"), None, data)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("freeze", [torch.jit.freeze, torch.jit.optimize_for_inference])
def test_a_frozen_script_is_a_model_in_eval_mode(
    tmp_path: Path, data: str, freeze: Callable[[torch.jit.ScriptModule], torch.jit.ScriptModule]
) -> None:
    """It has no mode any more, and no state: two of them had the same digest."""
    subjects = []
    for name in ("one", "other"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
        frozen = freeze(torch.jit.trace(model, torch.rand(2, 3, 8, 8)))
        frozen.save(str(tmp_path / f"{name}.pt"))
        subject = from_factory(str(tmp_path / f"{name}.pt"), None, data, mean=[0.0], std=[1.0])
        images, labels = subject.images.pixels, subject.images.labels
        expected = bpfc.evaluate(model, images, labels, attacks="pgd-3", eps=0.1).rows
        for each in (frozen, subject.model):
            assert bpfc.evaluate(each, images, labels, attacks="pgd-3", eps=0.1).rows == expected
        subjects.append(subject)
        with pytest.raises(UntraceableError, match="ScriptModule"):
            bpfc.certify(frozen, images, labels, eps=0.1)
    assert subjects[0].weights_sha256 != subjects[1].weights_sha256


def network(classes: int, channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes))


class Pairs(nn.Module):
    def forward(self, logits: Tensor) -> object:
        return logits, logits


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Stand-ins for timm and torchvision, which have no build for this machine; gives back what they are asked for."""
    asked: list[dict[str, object]] = []

    def create_model(name: str, *, pretrained: bool, num_classes: int, in_chans: int) -> nn.Module:
        if name == "pairs":
            return nn.Sequential(network(num_classes, in_chans), Pairs())
        if name != "resnet50":
            raise RuntimeError(f"Unknown model ({name})")
        asked.append({"pretrained": pretrained, "classes": num_classes})
        return network(num_classes, in_chans)

    def get_model(name: str, *, weights: str | None, num_classes: int) -> nn.Module:
        asked.append({"weights": weights, "classes": num_classes})
        return network(num_classes)

    timm, torchvision, models = (types.ModuleType(name) for name in ("timm", "torchvision", "torchvision.models"))
    timm.create_model, models.get_model = create_model, get_model  # type: ignore[attr-defined]
    cfg = SimpleNamespace(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    timm.get_pretrained_cfg = lambda name: cfg  # type: ignore[attr-defined]
    for module in (timm, torchvision, models):
        module.__spec__ = ModuleSpec(module.__name__, None)  # other libraries look whether torchvision is there
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def test_networks_of_libraries_by_name(libraries: list[dict[str, object]], tmp_path: Path, data: str) -> None:
    assert build("timm:resnet50", channels=1, classes=7, size=8)(torch.rand(2, 1, 8, 8)).shape == (2, 7)
    assert build("torchvision:resnet50", channels=3, classes=7, size=8)(torch.rand(2, 3, 8, 8)).shape == (2, 7)
    torch.save(network(3).state_dict(), tmp_path / "w.pt")
    from_factory("timm:resnet50", tmp_path / "w.pt", data)
    from_factory("torchvision:resnet50", None, data, mean=[0.5] * 3, std=[0.2] * 3)
    assert libraries == [
        {"pretrained": False, "classes": 7},
        {"weights": None, "classes": 7},
        {"pretrained": False, "classes": 3},
        {"weights": "DEFAULT", "classes": 1_000},
    ]
    with pytest.raises(UserError, match=r"timm:resnet5: timm does not make it .RuntimeError: Unknown model"):
        build("timm:resnet5", channels=3, classes=7, size=8)
    with pytest.raises(UserError, match="torchvision's networks take 3 channels, not 1; say --colour rgb"):
        build("torchvision:resnet50", channels=1, classes=7, size=8)


def test_a_library_s_weights_need_its_normalisation(libraries: list[dict[str, object]], data: str) -> None:
    """Without, the figures would be wrong in silence."""
    with pytest.raises(UserError, match=r"timm:resnet50: its weights .* say --mean 0.5 0.4 0.3 --std 0.2 0.2 0.1"):
        from_factory("timm:resnet50", None, data)
    with pytest.raises(UserError, match=r"torchvision:resnet50: its weights .* say --mean and --std"):
        from_factory("torchvision:resnet50", None, data)
    assert libraries == []


def test_a_library_s_network_is_tried_before_the_training(
    libraries: list[dict[str, object]], tmp_path: Path, data: str
) -> None:
    recipe = derived("normal", load(data), eps=0.1, network="timm:pairs")
    with pytest.raises(UserError, match=r"timm:pairs gives a tuple, must give logits; .* wrap it: bpfc.Logits"):
        train(recipe, tmp_path / "run", device="cpu", precision="fp32")


def test_a_library_s_name_is_nobody_s_code() -> None:
    assert not is_code("timm:vit_tiny_patch16_224.augreg_in21k")
    assert not is_code("resnet-18")
    assert is_code("my.module:network")
    assert is_code("timm:hf-hub:somebody/network")


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="timm is not installed here; pip install timm"):
        build("timm:resnet50", channels=3, classes=7, size=8)
