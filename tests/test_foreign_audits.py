"""What people hand to an audit: models and labels of every sort, and each gets the verdict that it deserves."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import COUNT
from controls import BitDepth, Rounded
from test_auditing import EPS, TINY
from torch import Tensor, nn

import bpfc
from bpfc.auditing import audit
from bpfc.auditing.checks import EVERY
from bpfc.auditing.fronts import fronted
from bpfc.auditing.layers import around, lost_layers
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.settle import Settlement, settled
from bpfc.checks import are_probabilities
from bpfc.data import Images, to_float


@pytest.fixture(scope="module")
def few(shown: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return shown[0][:20], shown[1][:20]


BRIEF = replace(TINY, images=20)


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_labels_are_integers_of_any_size(kind: torch.dtype, trained: nn.Module, few: tuple[Tensor, Tensor]) -> None:
    images, labels = few
    found = audit(trained, images, labels.to(kind), eps=EPS, budget=BRIEF)
    assert found == audit(trained, images, labels, eps=EPS, budget=BRIEF)
    proofs = bpfc.certify(trained, images, labels.to(kind), eps=0.001)
    assert proofs.rows == bpfc.certify(trained, images, labels, eps=0.001).rows


@pytest.mark.parametrize(("left", "outcome"), [(30, "cleared"), (28, "lower")])
def test_what_other_losses_gain_does_not_speak_against_the_answers(
    left: int, outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network in train mode was called masked where the margin broke two images more than the cross-entropy did."""
    m = Measurements(trained, Images(*shown), EPS, TINY, train_mode=True)
    finding = next(check for check in EVERY if check.id == "C14")(m)
    monkeypatch.setattr(Measurements, "plain_standing", torch.arange(COUNT) < 32)
    monkeypatch.setattr(Measurements, "white_box", torch.arange(COUNT) < 30)
    monkeypatch.setattr(Measurements, "left", torch.arange(COUNT) < left)
    (found,) = settled(m, [finding], [Settlement("put into eval mode", 30 / COUNT, left / COUNT, ("C14",))])
    assert found.settled == outcome


def test_a_model_that_looks_at_the_whole_batch_is_refused(trained: nn.Module, few: tuple[Tensor, Tensor]) -> None:
    class Centred(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images - images.mean(dim=0) / 2

    for layer in (Centred(), nn.BatchNorm2d(1, track_running_stats=False)):
        with pytest.raises(ValueError, match="depends on the images beside it"):
            audit(nn.Sequential(layer, trained).eval(), *few, eps=EPS, budget=BRIEF)


class In(nn.Module):
    """A model that computes in another precision."""

    def __init__(self, precision: torch.dtype, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = copy.deepcopy(nn.Sequential(*layers)).to(precision).eval()
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.to(self.precision))


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_what_hides_gradients_is_found_in_any_precision(
    precision: torch.dtype, trained: nn.Module, shown: tuple[Tensor, Tensor]
) -> None:
    images, labels = to_float(shown[0]), shown[1]
    assert lost_layers(In(precision, trained), images, EPS) == []
    found = around(In(precision, BitDepth(), trained), images, labels, EPS)
    assert found is not None
    assert (found.told, len(found.stand_ins)) == ("layer layers.0, BitDepth", 2)
    found = around(In(precision, Rounded(trained)), images, labels, EPS)
    assert found is not None
    assert found.told == "code before layer layers.0.network.0, Conv2d"
    assert fronted(In(precision, nn.BatchNorm2d(1), trained).eval(), images) is None
    assert are_probabilities(In(precision, trained, nn.Softmax(dim=1))(images).float())


def test_no_answer_near_an_image_is_no_number(trained: nn.Module, few: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    class Stored(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            far = (images * 255 - (images * 255).round()).abs().flatten(1).amax(dim=1) > 1e-3
            return images / (~far).float().view(-1, 1, 1, 1)

    model = nn.Sequential(Stored(), trained).eval()
    found, again = (audit(model, *few, eps=EPS, budget=BRIEF, folder=tmp_path) for _ in range(2))
    assert found.robust == 0
    (answers,) = (finding for finding in found.findings if finding.id == "C14")
    assert answers.measured.endswith(f"NaN or infinite logits near {found.clean:.1%} of the images count as broken")
    assert answers in again.findings  # by what was kept
    json.dumps(found.summary(), allow_nan=False)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_model_that_changes_while_it_is_attacked_is_told(
    gradient: bool, trained: nn.Module, few: tuple[Tensor, Tensor]
) -> None:
    """An error of a settling attack was raised, or random answers counted as broken images."""

    class Limited(nn.Module):
        calls = 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            noise = torch.rand(len(images), 10) * 100
            return trained(images) if self.calls < 30 else noise + gradient * trained(images)

    with pytest.raises(ValueError, match="otherwise than when the audit began"):
        audit(Limited().eval(), *few, eps=EPS, budget=BRIEF)


def test_code_after_the_last_layer_is_attacked_around(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    class ByNumpy(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            return torch.from_numpy(self.network(images).detach().numpy() / 2)

    model, images, labels = ByNumpy(trained).eval(), to_float(shown[0]), shown[1]
    found = around(model, images, labels, EPS)
    assert found is not None
    assert found.told == "code after layer network.5, Linear"
    (stand_in,) = found.stand_ins
    torch.testing.assert_close(stand_in(images), trained(images))
    audited, known = (audit(each, *shown, eps=EPS, budget=TINY) for each in (model, trained))
    assert audited.verdict == "masked"
    assert abs(audited.robust - known.robust) <= 0.05


def test_a_layer_is_attacked_around_whose_attributes_are_read(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    class Levels(nn.Module):
        count = 7

        def forward(self, images: Tensor) -> Tensor:
            return (images * self.count).round()

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels, self.network = Levels(), trained

        def forward(self, images: Tensor) -> Tensor:
            once = self.levels(images) / self.levels.count
            return self.network(self.levels(once) / self.levels.count)

    found = around(Reading().eval(), to_float(shown[0]), shown[1], EPS)
    assert found is not None
    assert (found.told, len(found.stand_ins)) == ("layer levels, Levels", 2)
