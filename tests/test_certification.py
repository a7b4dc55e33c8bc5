"""Certificates beside the attacks: rows, summary, what contradicts, radii."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bounds import margins, networks
from torch import Tensor, nn

import bpfc
from bpfc.attacks import PGD, ImageRng
from bpfc.bounds import UntraceableError, interval_margins, propagate, trace
from bpfc.certification import (
    CERTIFIERS,
    ContradictionError,
    CrownIBP,
    IntervalBounds,
    certified_radii,
    certified_shares,
    certify,
    join,
)
from bpfc.data import DataSet, to_float
from bpfc.judge import run_attack
from bpfc.ledger import between

EPS = 0.005


@pytest.fixture(scope="session")
def bounded(digits: DataSet) -> nn.Module:
    """A network trained on 2,000 real digits by interval bounds at ε 0.05, for a moment."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)).eval()
    graph, optimizer = trace(model, (1, 28, 28)), torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(4):
        for batch in torch.randperm(2000).split(50):
            x, labels = to_float(digits.train.pixels[batch]), digits.train.labels[batch]
            eps = 0.05 * epoch / 3
            bounds = propagate(graph, (x - eps).clamp_min(0), (x + eps).clamp_max(1))
            worst = nn.functional.cross_entropy(-interval_margins(graph, bounds, labels), labels)
            loss = worst + nn.functional.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def test_training_with_bounds_certifies(bounded: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:200], test_digits[1][:200]
    found = certify(bounded, images, labels, eps=0.05)
    assert found.certified > 0.4
    attacked = bpfc.evaluate(bounded, images, labels, attacks="pgd-20", eps=0.05)
    shares = between(join(attacked.rows, found.rows))
    assert shares["certified"] == found.certified <= shares["not_broken"] == attacked.robust
    assert shares["open"] == pytest.approx(attacked.robust - found.certified)
    low, high = shares["interval_95"]
    assert low == found.summary["certified"]["interval_95"][0] < found.certified
    assert high == attacked.summary["worst_case"]["interval_95"][1]


def test_rows_say_what_is_proven(trained: nn.Module, digits: DataSet) -> None:
    pixels, labels = digits.test.pixels[:60], digits.test.labels[:60]
    found = bpfc.certify(trained, pixels, labels, eps=EPS, batch_size=25)
    with torch.no_grad():
        logits = trained(pixels.float() / 255)
    best = {name: certifier(trained, pixels.float() / 255, labels, EPS) for name, certifier in CERTIFIERS.items()}
    names = set()
    for i, row in enumerate(found.rows):
        right = int(logits[i].argmax()) == int(labels[i])
        first = next((name for name in CERTIFIERS if best[name][i] > 0), None)
        assert (row["index"], row["label"], row["prediction"]) == (i, int(labels[i]), int(logits[i].argmax()))
        assert row["certified_by"] == (first if right else None)
        if not right:
            assert row["margin_lower"] is None
        elif first == "interval":
            assert row["margin_lower"] == pytest.approx(float(best["interval"][i]), abs=1e-8)
        else:
            assert row["margin_lower"] == pytest.approx(max(float(margin[i]) for margin in best.values()), abs=1e-8)
        names.add(row["certified_by"])
    assert names == {None, "interval", "crown-ibp"}  # or else the test shows little
    assert 0 < found.certified < 1
    assert found.rows == certify(trained, pixels.float() / 255, labels, eps=EPS).rows


@pytest.mark.parametrize("integers", [torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_any_integers(integers: torch.dtype) -> None:
    model, image, label = linear(0.2)
    assert certify(model, image, label.to(integers), eps=0.1).certified == 1
    assert certified_radii(model, image, label.to(integers)) == certified_radii(model, image, label)


def test_sixteen_bits_are_certified_at_their_depth() -> None:
    model, image, label = linear(0.2)
    deep = (image * 65535).round().to(torch.int32).to(torch.uint16)
    assert certify(model, deep, label, eps=0.1).certified == 1


def test_the_dearer_method_works_on_what_is_open(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:200], test_digits[1][:200]
    summaries = [certify(trained, images, labels, eps=EPS, methods=name).summary for name in ("interval", "crown-ibp")]
    both = certify(trained, images, labels, eps=EPS).summary
    cheap, dear = (summary["certified"]["accuracy"] for summary in summaries)
    assert cheap < dear == both["certified"]["accuracy"]
    assert both["methods"]["interval"]["accuracy"] == cheap
    assert both["methods"]["crown-ibp"]["accuracy"] == pytest.approx(dear - cheap)
    low, high = both["certified"]["interval_95"]
    assert low < dear < high
    assert both["clean"]["accuracy"] > dear
    assert (both["images"], both["eps"], both["norm"]) == (200, EPS, "linf")


@settings(max_examples=25)
@given(networks, st.integers(0, 2**20))
def test_no_attack_breaks_what_is_certified(model: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.rand(2, 2, 6, 6)
    labels = model(images).detach().argmax(dim=1)
    radii = certified_radii(model, images, labels, rounds=5, largest=0.5)
    for i, eps in enumerate(radii.tolist()):
        if eps < 1e-4:
            continue
        image, label = images[i : i + 1], labels[i : i + 1]
        lower = torch.maximum(*[certifier(model, image, label, eps) for certifier in (IntervalBounds(), CrownIBP())])
        assert lower > 0
        attack = PGD(eps, eps / 3, 8, loss="margin")
        assert not run_attack(model, image, label, attack, ImageRng(seed, [i])).broken
        with torch.no_grad():
            reached = margins(
                model(attack(model, images[i : i + 1], labels[i : i + 1], ImageRng(seed, [i]))), labels[i : i + 1]
            )
        reached[0, labels[i]] = torch.inf
        assert reached.min() >= lower


def test_radii_are_proven_and_the_curve_falls(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:40], test_digits[1][:40]
    radii = certified_radii(trained, images, labels, largest=0.3)
    with torch.no_grad():
        right = trained(images).argmax(dim=1) == labels
    assert ((radii > 0) == right).all()
    assert (CrownIBP()(trained, images[right], labels[right], radii[right]) > 0).all()
    factor = (0.3 / 2**-20) ** (1 / 2**10)
    further = CrownIBP()(trained, images[right], labels[right], radii[right] * factor * 1.001)
    assert not (further > 0).any()
    curve = certified_shares(radii, [0.0001, 0.005, 0.02, 0.3])
    assert curve == sorted(curve, reverse=True)
    assert curve[2] == certify(trained, images, labels, eps=0.02).certified
    assert curve[0] > curve[2] > curve[3] == 0


def linear(gap: float) -> tuple[nn.Module, Tensor, Tensor]:
    """logit_0 − logit_1 = x₀ − 0.5, at an image that lies `gap` above."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0], [0.0]]))
        model[1].bias.copy_(torch.tensor([-0.5, 0.0]))
    return model, torch.tensor([[[[0.5 + gap]]]]), torch.tensor([0])


@pytest.mark.parametrize("certifier", CERTIFIERS.values(), ids=CERTIFIERS)
def test_what_the_judge_lets_pass_beyond_eps_is_covered(certifier: Any) -> None:
    model, image, label = linear(0.1)
    assert certifier(model, image, label, 0.1 - 2e-6) > 0
    assert not certifier(model, image, label, 0.1 - 1e-6) > 0  # ε + 1e-6 counts as within ε
    assert certifier(model, image, label, 0.05) == pytest.approx(0.05, abs=3e-6)


@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.0001), (-1.0, 1.0001)])
def test_the_box_ends_at_0_and_1(weight: float, bias: float) -> None:
    model, image, label = linear(0.0)
    with torch.no_grad():
        model[1].weight.mul_(weight)
        model[1].bias[0] = bias  # above 0 for x in [0, 1], and no further
    assert certify(model, image, label, eps=1.0).certified == 1


def test_an_image_certified_and_broken_is_an_error(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:40], test_digits[1][:40]
    rows = bpfc.evaluate(trained, images, labels, attacks="fgsm", eps=EPS).rows
    certificates = certify(trained, images, labels, eps=EPS).rows
    joined = join(rows, reversed(certificates))
    assert [row["margin_lower"] for row in joined] == [row["margin_lower"] for row in certificates]
    assert joined[0]["attacks"] == rows[0]["attacks"]
    place = next(i for i, row in enumerate(certificates) if row["certified_by"] == "crown-ibp")
    broken = [{**row, "broken_by": "fgsm"} if i == place else row for i, row in enumerate(rows)]
    with pytest.raises(ContradictionError, match=f"image {place} is certified by crown-ibp and broken by fgsm"):
        join(broken, certificates)
    with pytest.raises(ValueError, match="image 39: was attacked, but there is no certificate"):
        join(rows, certificates[:39])
    other = [{**row, "label": (row["label"] + 1) % 10} for row in rows]
    with pytest.raises(ValueError, match="image 0: its label is"):
        join(other, certificates)


def test_a_model_that_is_not_what_was_read_is_an_error() -> None:
    model, image, label = linear(0.2)
    model.register_forward_hook(lambda module, inputs, output: output + 1e-3)
    with pytest.raises(ContradictionError, match="lie outside of their bounds"):
        certify(model, image, label, eps=0.1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"eps": 8.0}, "eps=8.0: must be above 0 and at most 1"),
        ({"eps": math.nan}, "eps=nan"),
        ({"methods": "interval,magic"}, "'magic' must be one of interval, crown-ibp"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"images": torch.full((1, 1, 1, 1), 2.0)}, r"images lie in \[2, 2\]: must be in \[0, 1\]"),
        ({"images": torch.full((1, 1, 1, 1), torch.nan)}, "hold NaN or infinite values"),
        ({"images": torch.zeros(1, 1, 1)}, "must be float32, uint8 or uint16"),
        ({"labels": torch.tensor([2])}, "labels lie in 2 … 2, but the model knows 2 classes"),
        ({"labels": torch.tensor([0, 1])}, "must be one integer for each image"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(1, 2))}, "call model.eval"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).double().eval()}, "must be float32"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], told: str) -> None:
    model, images, labels = linear(0.2)
    given = {"model": model, "images": images, "labels": labels, "eps": 0.1} | change
    with pytest.raises(ValueError, match=told):
        certify(given.pop("model"), given.pop("images"), given.pop("labels"), **given)


def test_indices_are_one_for_each_image() -> None:
    model, images, labels = linear(0.2)
    (row,) = certify(model, images, labels, eps=0.1, indices=torch.tensor([7])).rows  # type: ignore[arg-type]
    assert (row["index"], type(row["index"])) == (7, int)
    for indices in ([], [1, 2]):
        with pytest.raises(ValueError, match=f"{len(indices)} indices for 1 images: must be one for each"):
            certify(model, images, labels, eps=0.1, indices=indices)


class Wrapping(nn.Module):
    """A network whose logits are wrapped in something."""

    def __init__(self, network: nn.Module, wrapping: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network, self.wrapping = network, wrapping

    def forward(self, images: Tensor) -> object:
        return self.wrapping(self.network(images))


@pytest.mark.parametrize("wrapping", [lambda z: z, lambda z: (z, 1), lambda z: {"logits": z}])
def test_logits_in_a_wrapping_are_certified(wrapping: Callable[[Tensor], object]) -> None:
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval(), torch.rand(5, 1, 2, 2)
    labels = network(images).argmax(dim=1)
    wrapped = bpfc.Logits(Wrapping(network, wrapping)).eval()
    assert certify(wrapped, images, labels, eps=0.01).rows == certify(network, images, labels, eps=0.01).rows


def test_one_logit_an_image_has_no_bounds() -> None:
    model = bpfc.Logits(nn.Sequential(nn.Flatten(), nn.Linear(4, 1))).eval()
    with pytest.raises(ValueError, match="gives 1 logit an image, of which bpfc.Logits makes 2"):
        certify(model, torch.rand(5, 1, 2, 2), torch.zeros(5, dtype=torch.int64), eps=0.01)


def test_a_layer_without_bounds_is_named() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.Softplus()).eval()
    with pytest.raises(UntraceableError, match=r"2 \(Softplus\): no bound is known"):
        certify(model, torch.rand(1, 1, 1, 1), torch.tensor([0]), eps=0.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit's own
def test_a_frozen_script_is_refused_by_radii_as_by_certify() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    script = torch.jit.freeze(torch.jit.script(model))
    images = torch.rand(2, 1, 2, 2)
    for answer in (certify, certified_radii):
        with pytest.raises(UntraceableError, match="RecursiveScriptModule"):
            answer(script, images, model(images).argmax(dim=1), **({"eps": 0.1} if answer is certify else {}))


def test_where_float32_might_overflow_nothing_is_proven() -> None:
    """It was an OverflowError."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    nn.init.constant_(model[1].weight, 5e37)  # type: ignore[arg-type]
    (row,) = bpfc.certify(model, torch.full((1, 1, 2, 2), 0.4), torch.tensor([0]), eps=0.1).rows
    assert (row["certified_by"], row["margin_lower"]) == (None, None)
