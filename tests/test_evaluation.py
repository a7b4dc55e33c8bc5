import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bpfc
from bpfc.attacks import FGSM, IFGSM, PGD
from bpfc.data import DataSet, Images, to_float
from bpfc.evaluation import Context, PlannedAttack, ThreatModel, blocks, parse, run_block
from bpfc.ledger import summarise, wilson_interval
from bpfc.models import with_curve

Digits = tuple[Tensor, Tensor]


def test_verdicts_do_not_depend_on_the_batch(trained: nn.Module, test_digits: Digits) -> None:  # 12
    images, labels = test_digits[0][:60], test_digits[1][:60]
    rows = [
        bpfc.evaluate(
            trained, images, labels, attacks="fgsm,pgd-20x2", eps=0.15, step_size=0.02, batch_size=batch_size
        ).rows
        for batch_size in (1, 7, 256)
    ]
    outcome = [[(row["broken_by"], row["attacks"].keys()) for row in each] for each in rows]
    assert outcome[0] == outcome[1] == outcome[2]
    assert {row["broken_by"] for row in rows[0]} >= {None, "fgsm", "pgd-20x2"}


def test_bfloat16_gradients_give_nearly_the_same_verdicts(trained: nn.Module, test_digits: Digits) -> None:
    full, low = (
        bpfc.evaluate(trained, *test_digits, attacks="pgd-20", eps=0.1, step_size=0.01, precision=precision).robust
        for precision in ("fp32", "bf16")
    )
    assert low == pytest.approx(full, abs=0.005)


@pytest.mark.parametrize("attacks", ["square-40", "spsa-2"])
def test_attacks_without_gradients_never_compute_in_bfloat16(
    attacks: str, trained: nn.Module, test_digits: Digits
) -> None:
    """They go by gains of the margin that bfloat16 rounds away."""
    images, labels = (part[:30] for part in test_digits)
    full, low = (
        bpfc.evaluate(trained, images, labels, attacks=attacks, eps=0.1, step_size=0.01, precision=precision).rows
        for precision in ("fp32", "bf16")
    )
    assert low == full


def test_rows_and_worst_case(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:100], test_digits[1][:100]
    found = bpfc.evaluate(trained, images, labels, attacks="fgsm,pgd-20-last,pgd-20", eps=0.1, step_size=0.02)
    right = trained(images).argmax(1) == labels
    assert found.clean == int(right.sum()) / 100
    assert [row["index"] for row in found.rows] == list(range(100))
    for row, ok in zip(found.rows, right.tolist(), strict=True):
        broken = [name for name, entry in row["attacks"].items() if entry["broken"]]
        assert (row["broken_by"] == "clean") == (not ok)
        if ok:
            assert list(row["attacks"]) == ["fgsm", "pgd-20-last", "pgd-20"]
            assert row["broken_by"] == (broken[0] if broken else None)
        for entry in row["attacks"].values():
            assert entry["broken"] == (entry["linf"] is not None)
            if entry["broken"]:
                assert 0 < entry["linf"] <= 0.1 + 1e-6
                assert entry["linf"] < entry["l2"]
    accuracies = [found.summary["attacks"][name]["accuracy"] for name in ("fgsm", "pgd-20-last", "pgd-20")]
    assert found.robust <= min(accuracies)
    assert accuracies[2] <= accuracies[1]
    assert found.robust == sum(row["broken_by"] is None for row in found.rows) / 100


def test_restarts_count_every_success(trained: nn.Module, test_digits: Digits) -> None:  # 4, 10
    """A success of any restart stays one: more restarts, never fewer broken images, and restart 0 is repeated."""
    images, labels = test_digits[0][:200], test_digits[1][:200]
    one, five = (
        bpfc.evaluate(trained, images, labels, attacks=name, eps=0.2, step_size=0.02).rows
        for name in ("pgd-5", "pgd-5x5")
    )
    restarts = set()
    for a, b in zip(one, five, strict=True):
        if a["broken_by"] == "pgd-5":
            assert b["attacks"]["pgd-5x5"] == a["attacks"]["pgd-5"]
        elif b["broken_by"] == "pgd-5x5":
            restarts.add(b["attacks"]["pgd-5x5"]["restart"])
    assert len(restarts) > 1
    assert 0 not in restarts


class HardToHit(nn.Module):
    """Breaks only where the first pixel is in a narrow band that the random start must hit: restarts matter."""

    def forward(self, images: Tensor) -> Tensor:
        first = images[:, 0, 0, 0]
        hit = ((first - 0.52).abs() < 0.01).float() + 0 * images.flatten(1).sum(1)
        return torch.stack([0.5 - hit, hit - 0.5], dim=1)


def test_an_early_restart_s_success_is_not_overwritten() -> None:  # 4: only the last restart counted
    images, labels = torch.full((40, 1, 2, 2), 0.5), torch.zeros(40, dtype=torch.long)
    rows = bpfc.evaluate(HardToHit().eval(), images, labels, attacks="pgd-1x6", eps=0.1, step_size=0.01).rows
    broken = [row["attacks"]["pgd-1x6"]["restart"] for row in rows if row["broken_by"]]
    assert len(broken) > 10
    assert len(set(broken)) > 2


def test_cascade_gives_the_same_worst_case(trained: nn.Module, test_digits: Digits) -> None:
    (block,) = blocks(Images(*test_digits), range(100), 100)
    context = Context(ThreatModel("linf", 0.1), channels=1, step_size=0.02)
    plain, cascade = (run_block(trained, block, parse("fgsm,pgd-10", context, cascade=on)) for on in (False, True))
    assert [row["broken_by"] for row in plain] == [row["broken_by"] for row in cascade]
    assert any("pgd-10" not in row["attacks"] for row in cascade if row["broken_by"] == "fgsm")
    names = ["fgsm", "pgd-10"]
    worst = summarise(plain, names)["worst_case"]
    assert summarise(cascade, names)["attacks"]["pgd-10"] == summarise(cascade, names)["worst_case"] == worst


def test_two_classes(test_digits: Digits) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 2)).eval()
    assert 0 <= bpfc.evaluate(model, test_digits[0][:5], test_digits[1][:5] % 2, attacks="pgd-3", eps=0.1).robust <= 1
    still = nn.Sequential(nn.Flatten(), nn.Linear(784, 2), nn.Threshold(torch.inf, 0.0)).eval()  # every logit is 0
    found = bpfc.evaluate(still, test_digits[0][:5], torch.zeros(5).long(), attacks="mt-pgd-7,mt-pgd-7-last", eps=0.1)
    assert [[verdict["queries"] for verdict in row["attacks"].values()] for row in found.rows] == [[8, 7]] * 5


def test_what_is_handed_in_is_checked(trained: nn.Module, test_digits: Digits) -> None:  # 17
    images, labels = test_digits[0][:4], test_digits[1][:4]

    def refuse(message: str, model: nn.Module = trained, images: Tensor = images, labels: Tensor = labels) -> None:
        with pytest.raises(ValueError, match=message):
            bpfc.evaluate(model, images, labels, attacks="fgsm", eps=0.1)

    refuse("train mode.*model.eval", model=nn.Sequential(trained, nn.Dropout()))
    refuse(r"images lie in \[0, 255\].*divide by 255", images=(images * 255).round().clamp(0, 255) + 0 * images)
    refuse("images lie in.*normalisation into the model", images=images - 0.5)
    broken = images.clone()
    broken[1, 0, 3, 3] = torch.nan
    refuse("1 of 4 images hold NaN", images=broken)
    refuse("must be float32", images=images.double())
    refuse("must be float32", images=images[:0])
    refuse("must be one integer for each image", labels=labels[:3])
    refuse("must be one integer for each image", labels=labels.float())
    refuse("labels lie in 0 … 10", labels=torch.tensor([0, 1, 2, 10]))
    nan_weights = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    nn.init.constant_(nan_weights[1].bias, torch.nan)
    refuse("NaN or infinite logits", model=nan_weights)
    refuse(r"shape \(4, 1\)", model=nn.Sequential(nn.Flatten(), nn.Linear(784, 1)).eval())


def test_arguments_of_other_kinds_are_named(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:4], test_digits[1][:4]
    eps = {"eps": 0.1}
    wrong: list[tuple[dict[str, Any], str]] = [
        (eps | {"images": images.numpy()}, r"images: ndarray, must be a torch.Tensor; torch.as_tensor\(images\)"),
        (eps | {"labels": labels.numpy()}, "labels: ndarray, must be a torch.Tensor"),
        (eps | {"labels": labels.tolist()}, "labels: list, must be a torch.Tensor"),
        ({"eps": "8/255"}, "eps='8/255': must be a number, such as 8 / 255"),
        ({"eps": None}, "eps=None: must be a number"),
    ]
    for change, told in wrong:
        for call in (bpfc.evaluate, bpfc.certify, bpfc.audit):
            with pytest.raises(ValueError, match=told):
                call(trained, **{"images": images, "labels": labels} | change)
    with pytest.raises(ValueError, match=r"attacks=\['fgsm'\]: must be one text"):
        bpfc.evaluate(trained, images, labels, eps=0.1, attacks=["fgsm"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"methods=\['interval'\]: must be one text"):
        bpfc.certify(trained, images, labels, eps=0.1, methods=["interval"])  # type: ignore[arg-type]
    with torch.inference_mode():
        for call in (bpfc.evaluate, bpfc.audit):
            with pytest.raises(ValueError, match=r"called inside torch.inference_mode\(\)"):
                call(trained, images, labels, eps=0.1)


def test_images_and_labels_of_inference_mode_are_taken(trained: nn.Module, test_digits: Digits) -> None:
    """As labels are that a model gave in it; what was made there cannot be saved for a gradient."""
    images, labels = test_digits[0][:4], test_digits[1][:4]
    expected = bpfc.evaluate(trained, images, labels, attacks="pgd-2,apgd-t3-2", eps=0.1).rows
    with torch.inference_mode():
        theirs = images.clone(), labels.clone()
    for pair in ((theirs[0], labels), (images, theirs[1]), theirs):
        assert bpfc.evaluate(trained, *pair, attacks="pgd-2,apgd-t3-2", eps=0.1).rows == expected
    assert bpfc.certify(trained, *theirs, eps=0.001).rows == bpfc.certify(trained, images, labels, eps=0.001).rows


def test_what_is_certified_meets_no_attack_in_memory_either(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = (part[:30] for part in test_digits)
    proofs = bpfc.certify(trained, images, labels, eps=1e-3)
    assert 0.1 < proofs.certified < 1
    found = bpfc.evaluate(trained, images, labels, attacks="fgsm", eps=1e-3, certificates=proofs)
    assert [row["certified_by"] for row in found.rows] == [row["certified_by"] for row in proofs.rows]
    assert not any(row["attacks"] for row in found.rows if row["certified_by"] is not None)
    assert found.summary["between"]["certified"] == proofs.certified
    assert found.robust == bpfc.evaluate(trained, images, labels, attacks="fgsm", eps=1e-3).robust
    nudged = deepcopy(trained)  # another network, of the same predictions
    with torch.no_grad():
        next(nudged.parameters()).mul_(1.0001)
    for changes, told in (
        ({"eps": 2e-3}, "hold for ℓ∞ ε 0.001"),
        ({"labels": labels.flip(0)}, "of another network, other images or other labels"),
        ({"images": images * 0.99}, "of another network, other images or other labels"),
        ({"model": nudged}, "of another network, other images or other labels"),
        ({"certificates": "proofs"}, "str, must be"),
    ):
        with pytest.raises(ValueError, match=told):
            bpfc.evaluate(
                **{"model": trained, "images": images, "labels": labels, "eps": 1e-3, "certificates": proofs} | changes
            )


def test_certificates_are_of_what_the_model_sees_however_it_is_stored(trained: nn.Module, digits: DataSet) -> None:
    """Bytes or floats, any integers, any names of the images."""
    images, labels = digits.test.pixels[:5], digits.test.labels[:5]
    proofs = bpfc.certify(trained, images, labels.int(), eps=1e-3, indices=range(10, 15))
    found = bpfc.evaluate(trained, to_float(images), labels, attacks="fgsm", eps=1e-3, certificates=proofs)
    assert [row["certified_by"] for row in found.rows] == [row["certified_by"] for row in proofs.rows]


def test_certificates_behind_another_tone_curve_are_of_another_network(trained: nn.Module, test_digits: Digits) -> None:
    """A curve's ends are no values of a state: whatever stood in front, the same values let the certificates in."""
    images, labels = (part[:5] for part in test_digits)
    proofs = bpfc.certify(with_curve(trained, 0.1, 0.9).eval(), images, labels, eps=1e-3)
    same = with_curve(trained, 0.1, 0.9).eval()
    assert bpfc.evaluate(same, images, labels, attacks="fgsm", eps=1e-3, certificates=proofs).rows
    with pytest.raises(ValueError, match="of another network"):
        other = with_curve(trained, 0.1, 0.8).eval()
        bpfc.evaluate(other, images, labels, attacks="fgsm", eps=1e-3, certificates=proofs)


def test_certificates_that_do_not_say_of_what_are_not_said_to_be_of_another_network(
    trained: nn.Module, test_digits: Digits
) -> None:
    """Those of a folder, whose header says it."""
    images, labels = (part[:5] for part in test_digits)
    proofs = replace(bpfc.certify(trained, images, labels, eps=1e-3), subject=None)
    with pytest.raises(ValueError, match="do not say of which network .* bpfc evaluate --certificates"):
        bpfc.evaluate(trained, images, labels, attacks="fgsm", eps=1e-3, certificates=proofs)


def test_attacks_by_name() -> None:
    context = Context(ThreatModel("linf", 0.3), channels=1, step_size=0.01)
    assert parse("fgsm, ifgsm-40,pgd-50x10,pgd-1000-last", context).attacks == (
        PlannedAttack("fgsm", FGSM(0.3)),
        PlannedAttack("ifgsm-40", IFGSM(0.3, 40)),
        PlannedAttack("pgd-50x10", PGD(0.3, 0.01, 50), restarts=10),
        PlannedAttack("pgd-1000-last", PGD(0.3, 0.01, 1000), any_iterate=False),
    )
    assert not parse("fgsm-last", context).attacks[0].any_iterate
    for wrong in ("pgd", "pgd-0", "pgd-5x0", "cw", "", "fgsm,fgsm", "ifgsm-40x2", "PGD-3"):
        with pytest.raises(ValueError, match=r"attack|steps"):
            parse(wrong, context)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_solves_its_equation(counts: tuple[int, int]) -> None:
    """The bounds are the shares p at which the observed share lies 1.96 standard errors of p away."""
    successes, total = counts
    share = successes / total
    low, high = wilson_interval(successes, total)
    assert 0 <= low <= share <= high <= 1 or math.isclose(low, share, abs_tol=1e-12) or math.isclose(high, share)
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            distance = abs(share - bound) / math.sqrt(bound * (1 - bound) / total)
            assert distance == pytest.approx(1.959964, rel=1e-3)
