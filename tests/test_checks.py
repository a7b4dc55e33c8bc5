"""Models of which a figure would be wrong in silence: refused, or said beside the figure."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.data import Images
from bpfc.evaluation import Context, ThreatModel, blocks, parse, run_block
from bpfc.models.curve import with_curve
from bpfc.wrappers import BPDA

Digits = tuple[Tensor, Tensor]


class Around(nn.Module):
    """A model with something done to its images and its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Scaled(Around):
    def forward(self, images: Tensor) -> Tensor:
        return 1e4 * self.model(images)


class Levels(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 7).round() / 7)


class Detached(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.detach()) + 0 * images.flatten(1).sum(dim=1, keepdim=True)


class RoundedLogits(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).round()


class RootOfZero(Around):
    """Its gradient is 0 · ∞."""

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) + 0 * (images - images.detach()).flatten(1).sum(dim=1, keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("around", "kind"),
    [(Scaled, "zero"), (Levels, "zero"), (Detached, "zero"), (RoundedLogits, "zero"), (RootOfZero, "not_finite")],
)
def test_blind_gradients_are_counted_and_said(
    around: type[Around], kind: str, trained: nn.Module, test_digits: Digits
) -> None:  # F5
    images, labels = test_digits[0][:40], test_digits[1][:40]
    found = bpfc.evaluate(around(trained).eval(), images, labels, attacks="fgsm,pgd-3", eps=0.3)
    assert found.summary["gradients"][kind] > 20
    assert [row.get("gradient") for row in found.rows].count(kind) == found.summary["gradients"][kind]
    standing = sum(row["broken_by"] is None and row.get("gradient") == kind for row in found.rows)
    assert standing > 0
    assert any(f"{standing} of these count as robust" in told for told in found.warnings)
    assert all("gradient" not in row for row in found.rows if row["broken_by"] == "clean")


@pytest.mark.parametrize("attacks", ["fast", "apgd-3,behind-2", "aa-behind-apgd-ce"])
def test_behind_a_curve_the_gradient_counts_that_is_there(
    attacks: str, trained: nn.Module, test_digits: Digits
) -> None:
    """Of images in black and white the curve's own gradient is zero at every pixel; attacks in x alone are blind."""
    images, model = (test_digits[0][:4] > 0.5).float(), with_curve(trained, 0.3, 0.7).eval()
    labels = model(images).argmax(1)
    blind = bpfc.evaluate(model, images, labels, attacks="apgd-3", eps=0.1)
    assert blind.summary["gradients"]["zero"] == 4
    found = bpfc.evaluate(model, images, labels, attacks=attacks, eps=0.1)
    assert found.summary["gradients"] == {"zero": 0, "not_finite": 0}
    assert not any("exactly zero" in told for told in found.warnings)
    masked = nn.Sequential(model[0], Levels(trained)).eval()
    assert bpfc.evaluate(masked, images, labels, attacks=attacks, eps=0.1).summary["gradients"]["zero"] == 4


def test_sound_gradients_are_not_warned_of(trained: nn.Module, test_digits: Digits) -> None:
    found = bpfc.evaluate(trained, test_digits[0][:20], test_digits[1][:20], attacks="fgsm", eps=0.1)
    assert found.summary["gradients"] == {"zero": 0, "not_finite": 0}
    assert found.warnings == []


class NoGrad(Around):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model(images)


class Unused(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.model((images.detach() * 255).byte() / 255)


class Detour(Around):
    """Through NumPy, which refuses what takes a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return self.model(torch.from_numpy(images.numpy().clip(0, 1)))


@pytest.mark.parametrize("around", [NoGrad, Unused, Detour])
def test_a_model_without_gradients_needs_other_attacks(
    around: type[Around], trained: nn.Module, test_digits: Digits
) -> None:  # F5
    images, labels = test_digits[0][:10], test_digits[1][:10]
    model = around(trained).eval()
    for attacks in ("pgd-2", "noise-2,deepfool", "aa-apgd-ce"):
        with pytest.raises(ValueError, match=r"(lets no|where its) gradient .*square-5000.* bpfc.BPDA"):
            bpfc.evaluate(model, images, labels, attacks=attacks, eps=0.1)
    assert bpfc.evaluate(model, images, labels, attacks="noise-2,square-5,spsa-1", eps=0.1).clean > 0.5
    past = BPDA(lambda x: (x * 255).round() / 255)
    assert bpfc.evaluate(nn.Sequential(past, trained).eval(), images, labels, attacks="pgd-2", eps=0.1).clean > 0.5


class Silent(Around):
    """Gives NaN for images whose first pixel is not black."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return logits.masked_fill(images[:, 0, 0, :1] > 0, torch.nan)


def test_nan_is_never_an_answer(trained: nn.Module, test_digits: Digits) -> None:  # F6: it counted as class 0
    images, labels = test_digits[0][:60].clone(), test_digits[1][:60]
    model = Silent(trained).eval()
    images[41, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="image 41: the model gives NaN"):
        bpfc.evaluate(model, images, labels, attacks="noise-1", eps=0.1, batch_size=7)
    zeros = torch.nonzero(trained(test_digits[0]).argmax(dim=1) == test_digits[1])[:, 0]
    zeros = zeros[test_digits[1][zeros] == 0][:5]  # argmax of NaN is class 0
    found = bpfc.evaluate(model, test_digits[0][zeros], test_digits[1][zeros], attacks="corners-5", eps=0.01)
    assert found.robust == 0
    assert all(row["attacks"]["corners-5"].get("no_answer") for row in found.rows)
    assert any("no answer, so they count as broken" in told for told in found.warnings)


def test_the_answer_must_not_depend_on_the_company(trained: nn.Module, test_digits: Digits) -> None:  # F7
    class Centred(Around):
        def forward(self, images: Tensor) -> Tensor:
            logits = self.model(images)
            return logits - logits.mean(dim=0)

    batch_norm = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), trained).eval()
    for count in (1, 40):
        images, labels = test_digits[0][:count], test_digits[1][:count]
        with pytest.raises(ValueError, match="BatchNorm2d '0' keeps no running statistics"):
            bpfc.evaluate(batch_norm, images, labels, attacks="fgsm", eps=0.1)
        with pytest.raises(ValueError, match="depends on the images beside it: alone, its logits differ"):
            bpfc.evaluate(Centred(trained).eval(), images, labels, attacks="fgsm", eps=0.1)


def test_a_model_that_writes_into_its_images(trained: nn.Module, test_digits: Digits) -> None:  # F10
    class Writing(Around):
        def forward(self, images: Tensor) -> Tensor:
            return self.model(images.mul_(0.5) if not images.requires_grad else images * 0.5)

    images = test_digits[0][:8].clone()
    with pytest.raises(ValueError, match="writes into the images"):
        bpfc.evaluate(Writing(trained).eval(), images, test_digits[1][:8], attacks="noise-1", eps=0.1)
    assert torch.equal(images, test_digits[0][:8])


def test_models_and_labels_of_other_kinds(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:8], test_digits[1][:8]

    class Answering(Around):
        def __init__(self, answer: object) -> None:
            super().__init__(trained)
            self.answer = answer

        def forward(self, images: Tensor) -> object:
            return self.answer(self.model(images))  # type: ignore[operator]

    def refuse(message: str, model: nn.Module, labels: Tensor = labels) -> None:
        with pytest.raises(ValueError, match=message):
            bpfc.evaluate(model.eval(), images, labels, attacks="fgsm", eps=0.1)

    refuse("gives a tuple: must give logits alone", Answering(lambda logits: (logits, 1)))
    refuse("gives a dict: must give logits alone", Answering(lambda logits: {"logits": logits}))
    refuse("gives a NoneType: must", Answering(lambda logits: None))
    refuse("gives a tensor of torch.int64: must", Answering(lambda logits: logits.argmax(dim=1)))
    shape = "fails on float32 images of shape"
    refuse(f"{shape} 1 × 1 × 28 × 28 .* must take any N", Answering(lambda logits: logits.view(8, 10)))
    refuse(f"{shape} 8 × 1 × 28 × 28", nn.Conv2d(3, 4, 3))
    double = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, dtype=torch.float64))
    refuse(rf"{shape} .*; its weights are torch.float64; .* model.float\(\)", double)
    masked = torch.arange(10) > 7
    some = Answering(lambda logits: logits.masked_fill(masked, -torch.inf))
    refuse("infinite logits on .* masked out by −∞", some)
    refuse("infinite logits on .* check its weights", Answering(lambda logits: logits / 0))
    refuse("torch.bool: must be one integer", trained, labels > 4)
    for kind in (torch.int32, torch.uint8):
        found = bpfc.evaluate(trained, images, labels.to(kind), attacks="fgsm,pgd-2", eps=0.1)
        assert found.rows == bpfc.evaluate(trained, images, labels, attacks="fgsm,pgd-2", eps=0.1).rows


def test_sixteen_bits_are_evaluated_at_their_depth(trained: nn.Module, test_digits: Digits) -> None:  # F9
    images, labels = test_digits[0][:20], test_digits[1][:20]
    deep = (images * 65535).round().to(torch.int32).to(torch.uint16)
    found = bpfc.evaluate(trained, deep, labels, attacks="fgsm,pgd-3", eps=0.1)
    same = bpfc.evaluate(trained, images, labels, attacks="fgsm,pgd-3", eps=0.1)
    assert [row["broken_by"] for row in found.rows] == [row["broken_by"] for row in same.rows]


def test_gradients_are_those_of_the_sources_in_a_transfer(trained: nn.Module, test_digits: Digits) -> None:
    from bpfc.evaluation.caveats import caveats
    from bpfc.evaluation.transfer import run_transfer_block

    (block,) = blocks(Images(test_digits[0][:10], test_digits[1][:10]), range(10), 10)
    plan = parse("fgsm", Context(ThreatModel("linf", 0.1), channels=1))
    rows = run_transfer_block({"blind": Levels(trained).eval()}, {"seen": trained}, block, plan)["seen"]
    assert any("exactly zero" in told for told in caveats(rows))
    assert not any("gradient" in row for row in run_block(trained, block, plan))


def row_of(**broken: bool) -> Any:
    attacks = {name.replace("_", "-"): {"broken": value} for name, value in broken.items()}
    return {"broken_by": next((name for name, value in broken.items() if value), None), "attacks": attacks}


STANDS = [row_of(apgd_50=False, fgsm=False, square_100=False)] * 99


def test_what_only_attacks_without_gradients_break_is_said() -> None:
    from bpfc.evaluation.caveats import caveats

    (told,) = caveats([*STANDS, row_of(apgd_50=False, fgsm=False, square_100=True)])
    assert told.startswith("attacks without gradients broke 1.0%")
    assert "run standard" in told
    assert not caveats([*STANDS, row_of(apgd_50=True)])
    assert not caveats([*STANDS, row_of(noise_20=True)])  # before any attack by gradients
    assert not caveats([*STANDS * 10, row_of(fgsm=False, square_100=True)])  # 0.1 points


def test_what_one_step_breaks_that_many_leave_is_said() -> None:
    from bpfc.evaluation.caveats import caveats

    (told,) = caveats([*STANDS, row_of(apgd_50=False, fgsm=True)])
    assert told == "a single step broke 1.0% that many small ones left: gradients may be masked; " + (
        "run standard, and bpfc audit"
    )
    assert caveats([*STANDS, row_of(behind_50=False, fgsm=True)]) == [told]  # which is small steps too
    assert not caveats([*STANDS, row_of(fgsm=True)])  # first in a cascade: small steps never met it
    assert not caveats([*STANDS, row_of(fgsm=True, pgd_20_last=False)])  # any iterate before may have broken it
    assert not caveats([*STANDS, {**row_of(fgsm=True), "attacks": {"fgsm@a": {"broken": True}}}])
    assert not caveats([*STANDS * 3, row_of(apgd_50=False, fgsm=True)])  # 0.3 points


def test_what_a_walk_from_outside_breaks_that_ascents_inside_leave_is_said() -> None:
    from bpfc.evaluation.caveats import caveats

    (told,) = caveats([*STANDS, row_of(apgd_50=False, outside_in_60=True)])
    assert told == "a walk from outside the ball broke 1.0% that ascents inside it left: gradients may be masked; " + (
        "run standard, and bpfc audit"
    )
    assert caveats([*STANDS * 4, row_of(apgd_50=False, outside_in_60=True)])  # 0.25 points
    assert not caveats([*STANDS * 6, row_of(apgd_50=False, outside_in_60=True)])  # 0.17
    assert not caveats([*STANDS, row_of(apgd_50=False, outside_in_60=False)])
    assert not caveats([*STANDS, row_of(apgd_50=True, outside_in_60=True)])
    assert not caveats([*STANDS, row_of(pgd_20=False, apgd_50=True, outside_in_60=True)])
    assert not caveats([*STANDS, row_of(outside_in_60=True)])  # first in a cascade: no ascent inside met it
    assert not caveats([*STANDS, row_of(pgd_20_last=False, outside_in_60=True)])  # an iterate before may have broken it
    assert caveats([*STANDS, row_of(apgd_50=False, outside_in_60_last=True)]) == [told]
    in_transfer = {"apgd-50@a": {"broken": False}, "outside-in-60@a": {"broken": True}}
    for asked in (in_transfer, {**in_transfer, "apgd-50": {"broken": False}}):
        assert not caveats([*STANDS, {**row_of(), "attacks": asked}])


def test_after_autoattack_the_advice_is_an_audit() -> None:
    from bpfc.evaluation.caveats import caveats

    (told,) = caveats([row_of(aa_apgd_t=False, aa_square=True)])
    assert told.endswith("gradients may be masked; run bpfc audit")


def test_fast_says_when_to_run_standard(trained: nn.Module, test_digits: Digits) -> None:
    """Every cheap sign at once: no gradient anywhere, and squares break what stood."""
    images, labels = (part[:10] for part in test_digits)
    found = bpfc.evaluate(Levels(trained).eval(), images, labels, attacks="fast", eps=0.15)
    zero, beyond = found.warnings
    assert "exactly zero" in zero
    assert beyond.startswith("attacks without gradients broke")
    assert zero.endswith("run standard, and bpfc audit")
    assert beyond.endswith("run standard, and bpfc audit")
    honest = bpfc.evaluate(trained, images, labels, attacks="fast", eps=0.1)
    assert 0 < honest.robust < honest.clean
    assert not honest.warnings
