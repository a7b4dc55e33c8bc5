"""The seventeen defects of other libraries that change the reported robust accuracy: each one's situation, by number.

Those that have their test elsewhere: 4, 10, 11, 12 in test_evaluation.py; 7, 8, 11 in test_judge.py; 17 in both
test_evaluation.py and test_subject.py. The numbers are those of docs/evaluate.md.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyautoattack
import pytest
import torch
from conftest import small_network
from safetensors.torch import save_file
from torch import Tensor, nn

import bpfc
from bpfc.attacks import AutoAttackPart, CarliniWagner, DeepFool, ImageRng
from bpfc.attacks.objectives import dlr, margin, margins
from bpfc.cli.evaluate import Evaluate, run
from bpfc.data import DataSet, Images
from bpfc.evaluation import Context, ThreatModel, parse
from bpfc.files import read_jsonl
from bpfc.training.recipes import RECIPES
from bpfc.training.start import train

Digits = tuple[Tensor, Tensor]


def test_1_autoattack_runs_with_the_official_numbers(
    trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def remember(self: pyautoattack.AutoAttack, images: Tensor, labels: Tensor, *, batch_size: int) -> object:
        seen.append((self.attacks_to_run, self.apgd.n_iter, self.apgd.n_restarts, self.apgd_targeted.n_iter))
        seen.append((self.apgd_targeted.n_target_classes, self.fab.n_iter, self.fab.n_target_classes))
        seen.append((self.fab.n_restarts, self.square.n_queries, self.epsilon, self.norm))
        return images, labels

    monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", remember)
    AutoAttackPart(0.1, "fab-t")(trained, test_digits[0][:3], test_digits[1][:3], ImageRng(0, range(3)))
    assert seen == [(["fab-t"], 100, 1, 100), (9, 100, 9), (1, 5000, 0.1, "Linf")]


def test_2_carlini_wagner_moves_black_and_white_pixels(trained: nn.Module, test_digits: Digits) -> None:
    images = (test_digits[0][:30] > 0.5).float()
    labels = trained(images).argmax(1)
    found = CarliniWagner(50)(trained, images, labels, ImageRng(0, range(30)))
    assert (trained(found).argmax(1) != labels).all()


def test_3_margins_of_negative_logits() -> None:
    logits, labels = torch.tensor([[-5.0, -7.0, -9.0], [-9.0, -3.0, -5.0]]), torch.tensor([0, 2])
    assert margins(logits, labels).tolist() == [-2.0, 2.0]
    assert margin(logits, labels).item() == 0.0
    assert dlr(logits, labels).item() == pytest.approx(-2 / 4 + 2 / 6)
    assert dlr(logits[:, :2], torch.tensor([0, 0])).item() == -2.0 + 6.0

    class Negative(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            mean = images.flatten(1).mean(1)
            return torch.stack([-100 - mean, mean - 101], dim=1)

    dark = torch.full((4, 1, 2, 2), 0.4)
    for attack in (CarliniWagner(100), DeepFool()):
        found = attack(Negative(), dark, torch.zeros(4, dtype=torch.long), ImageRng(0, range(4)))
        torch.testing.assert_close(found, torch.full_like(dark, 0.5), rtol=0, atol=2e-3)


@pytest.fixture
def digits_model(trained: nn.Module, tmp_path: Path, test_digits: Digits) -> Evaluate:
    """The small trained network and 40 digits, as somebody would hand them in."""
    save_file({name: value.contiguous() for name, value in trained.state_dict().items()}, tmp_path / "w.safetensors")
    np.savez(tmp_path / "digits.npz", images=test_digits[0][:40].numpy(), labels=test_digits[1][:40].numpy())
    return Evaluate(
        model="conftest:small_network",
        weights=tmp_path / "w.safetensors",
        data=str(tmp_path / "digits.npz"),
        eps=0.12,
        batch_size=10,
        device="cpu",
        precision="fp32",
        out=tmp_path / "out",
    )


def test_5_6_autoattack_resumes(digits_model: Evaluate, tmp_path: Path) -> None:
    options = replace(digits_model, attacks="aa-apgd-ce")
    whole = run(options)
    ledger = tmp_path / "out" / "ledger.jsonl"
    rows = ledger.read_text()
    ledger.write_text("".join(line + "\n" for line in rows.splitlines()[:20]))
    resumed = run(options)
    assert (ledger.read_text(), resumed["images_resumed"]) == (rows, 20)
    assert resumed["worst_case"] == whole["worst_case"]


@pytest.mark.parametrize("attack", [CarliniWagner(5), DeepFool("l2"), DeepFool("linf")], ids=repr)
def test_7_8_a_failure_is_no_image(attack: CarliniWagner | DeepFool) -> None:
    constant = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    nn.init.zeros_(constant[1].weight)
    with torch.no_grad():
        constant[1].bias.copy_(torch.tensor([2.0, 0, 0]))
    images, labels = torch.rand(5, 1, 4, 4), torch.zeros(5, dtype=torch.long)
    assert attack(constant, images, labels, ImageRng(0, range(5))).isnan().all()
    name = "cw-5" if isinstance(attack, CarliniWagner) else "deepfool"
    found = bpfc.evaluate(constant, images, labels, attacks=name, eps=0.1)
    assert found.robust == 1
    assert found.summary["attacks"][name]["success"] == 0
    assert found.summary["attacks"][name][f"median_{'l2' if name == 'cw-5' else 'linf'}"] is None
    assert all(row["attacks"][name]["linf"] is None for row in found.rows)


def test_9_standard_is_the_four_parts_of_the_authors_own_code() -> None:
    planned = parse("standard", Context(ThreatModel("linf", 0.1), channels=1)).attacks
    assert [item.attack for item in planned] == [
        AutoAttackPart(0.1, "apgd-ce"),
        AutoAttackPart(0.1, "apgd-t"),
        AutoAttackPart(0.1, "fab-t"),
        AutoAttackPart(0.1, "square"),
    ]
    official = pyautoattack.AutoAttack(nn.Identity(), eps=0.1, version="standard")
    assert [f"aa-{part}" for part in official.attacks_to_run] == [item.name for item in planned]


class Rounded(nn.Sequential):
    """The small network behind a layer whose gradient is zero."""

    def __init__(self) -> None:
        super().__init__(*small_network())

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images * 3).round() / 3)


def test_13_autoattack_s_warnings_stand_in_the_summary(digits_model: Evaluate) -> None:
    options = replace(digits_model, model="test_defects:Rounded", attacks="aa-apgd-t,aa-square", limit=5, eps=0.3)
    summary = run(options)
    assert any("zero gradient" in text for text in summary["warnings"])
    assert any(text.startswith("attacks without gradients broke") for text in summary["warnings"])
    assert json.loads((options.out / "summary.json").read_text())["warnings"] == summary["warnings"]  # type: ignore[operator]
    resumed = run(options)  # every row stands already, so nothing warns again
    assert (resumed["images_resumed"], resumed["warnings"]) == (5, summary["warnings"])


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.filterwarnings("ignore:AutoAttack")
def test_14_fewer_than_ten_classes(classes: int) -> None:
    torch.manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).eval()
    images = torch.rand(6, 1, 4, 4)
    labels = model(images).argmax(1)
    names = (
        "pgd-dlr-5,mt-pgd-5,apgd-dlr-5,apgd-t-5,apgd-t3-5,deepfool,cw-5,spsa-2,square-20,aa-apgd-ce,aa-apgd-t,aa-fab-t"
    )
    rows = bpfc.evaluate(model, images, labels, attacks=names, eps=0.2).rows
    assert all(len(row["attacks"]) == 12 for row in rows)
    assert any(row["broken_by"] for row in rows)


def test_15_no_forward_is_larger_than_the_batch(
    trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfc.checks.TRIED", 8)
    sizes = []
    handle = trained.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    names = "noise-3,corners-3,fgsm,pgd-5x4,mt-pgd-3,apgd-t-3x2,deepfool,cw-4,spsa-2,square-10,aa-apgd-ce,aa-apgd-t"
    bpfc.evaluate(trained, test_digits[0][:9], test_digits[1][:9], attacks=names, eps=0.2, batch_size=8)
    handle.remove()
    assert max(sizes) == 8


def test_16_training_never_sees_the_test_set(digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Untouchable(Images):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError("the test set was touched")

    blind = DataSet("mnist-5k", digits.train, Untouchable(digits.test.pixels, digits.test.labels), 10)
    monkeypatch.setattr("bpfc.training.start.load", lambda *_: blind)
    recipe = replace(
        RECIPES["mnist-5k-bpfc"][1], network="m-lenet-quarter", epochs=2, limit=16, validation_attacked=8, ifgsm_steps=2
    )
    assert train(recipe, tmp_path / "run", device="cpu", precision="fp32").folder.is_dir()
    assert len(read_jsonl(tmp_path / "run" / "log.jsonl")) == 2
