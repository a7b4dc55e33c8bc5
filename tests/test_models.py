from pathlib import Path

import pytest
import torch
from torch import nn

from bpfc.cli.networks import costs
from bpfc.models import build


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, images: torch.Tensor) -> int:
    counts: list[int] = []

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        weight = layer.weight  # each weight is used once a place
        counts.append(weight.numel() * (out.shape[2] * out.shape[3] if out.ndim == 4 else 1))

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    model.eval()(images)
    for handle in handles:
        handle.remove()
    return sum(counts)


def test_m_lenet_is_that_of_the_protocol() -> None:
    model = build("m-lenet", channels=1, classes=10, size=28)
    assert multiply_adds(model, torch.rand(1, 1, 28, 28)) / 1e6 == pytest.approx(52.5, abs=0.6)
    expected = [(32, 1, 5, 5), (32, 32, 5, 5), (64, 32, 5, 5), (64, 64, 5, 5), (512, 3136), (10, 512)]
    assert [tuple(p.shape) for p in model.parameters() if p.ndim > 1] == expected


def test_resnet18_for_32x32() -> None:
    model = build("resnet-18", channels=3, classes=10, size=32)
    # 11,173,962 and 0.56 G multiply-adds: the counts known for the 3x3-stem ResNet-18.
    assert parameters(model) == 11_173_962
    assert multiply_adds(model, torch.rand(1, 3, 32, 32)) / 1e9 == pytest.approx(0.556, abs=0.002)


def test_source_networks_of_the_black_box_table() -> None:
    net_a = build("net-a", channels=1, classes=10, size=28)
    expected = [(64, 1, 5, 5), (64, 64, 5, 5), (128, 64 * 20 * 20), (10, 128)]
    assert [tuple(p.shape) for p in net_a.parameters() if p.ndim > 1] == expected
    vgg = build("vgg-19", channels=3, classes=10, size=32)
    # Sixteen convolutions and one linear layer; 398 M multiply-adds, the count known for VGG19 on 32x32.
    assert sum(isinstance(layer, nn.Conv2d) for layer in vgg.modules()) == 16
    assert multiply_adds(vgg, torch.rand(1, 3, 32, 32)) / 1e6 == pytest.approx(398, abs=1)


@pytest.mark.parametrize("name", ["m-lenet", "net-a", "resnet-18", "vgg-19"])
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 10, 32), (3, 2, 40)])
def test_any_channels_classes_and_size(name: str, channels: int, classes: int, size: int) -> None:
    model = build(name, channels=channels, classes=classes, size=size).eval()
    assert model(torch.rand(2, channels, size, size)).shape == (2, classes)


def test_wrong_networks_are_named() -> None:
    with pytest.raises(ValueError, match="'vgg': did you mean vgg-19"):
        build("vgg", channels=1, classes=10, size=28)
    for name, size in (("m-lenet", 30), ("net-a", 8), ("vgg-19", 28)):
        with pytest.raises(ValueError, match=f"size={size}"):
            build(name, channels=1, classes=10, size=size)


def test_costs_are_counted() -> None:
    """M-LeNet layer by layer; protocol.md puts it at 52.5 M."""
    found = {(name, data): (count, work) for name, data, count, work in costs()}
    convolutions = 28 * 28 * 25 * (32 + 32 * 32) + 14 * 14 * 25 * (32 * 64 + 64 * 64)
    linear = 64 * 49 * 512 + 512 * 10
    biases = 32 + 32 + 64 + 64 + 512 + 10
    weights = 25 * (32 + 32 * 32 + 32 * 64 + 64 * 64) + linear + biases
    assert found["m-lenet", "mnist, fashion-mnist"] == (weights, convolutions + linear)
    assert ("vgg-19", "mnist, fashion-mnist") not in found
    table = (Path(__file__).parent.parent / "docs" / "methods.md").read_text()
    for (name, data), (count, work) in found.items():
        assert f"| `{name}` | {data} | {count:,} | {work:,} |" in table
