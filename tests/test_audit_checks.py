"""Single checks of the audit: what each measures, and where it flags."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import COUNT
from controls import BitDepth
from test_auditing import EPS, TINY
from torch import Tensor, nn

from bpfc.auditing import audit
from bpfc.auditing.checks import EVERY, inputs, steadiness, zero_gradients
from bpfc.auditing.finding import Finding
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.probe import Probe
from bpfc.auditing.settle import Settlement, settled
from bpfc.auditing.twin import twin
from bpfc.auditing.verdict import decide
from bpfc.certification import ContradictionError
from bpfc.data import Images, to_float
from bpfc.ledger import wilson_interval
from bpfc.models.curve import ToneCurve

NONE = torch.zeros(COUNT, dtype=torch.bool)


def check_of(id: str, m: Measurements) -> str:
    return {check.id: check for check in EVERY}[id](m).outcome


@pytest.mark.parametrize(("broken", "outcome"), [(3, "flag"), (0, "pass")])
def test_noise_that_breaks_what_gradients_left_is_flagged(
    broken: int, outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    hit, nowhere = torch.zeros(COUNT, dtype=torch.bool), torch.full((COUNT,), -1)
    hit[:broken] = True
    monkeypatch.setattr(Measurements, "white_box", m.right)
    monkeypatch.setattr(Measurements, "probe", lambda *_, **__: Probe(hit, nowhere, nowhere, NONE))
    assert check_of("C10", m) == outcome


def test_without_a_bound_a_curve_in_front_is_attacked_behind_it(
    trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is flat no gradient leads out of it, from x; what stands there says nothing of the network."""
    steep = nn.Sequential(ToneCurve(0.49, 0.51), trained).eval()
    found = [Measurements(steep, Images(*shown), EPS, TINY) for _ in range(2)]
    assert check_of("C5", found[0]) == "pass"
    monkeypatch.setattr(Measurements, "front", None)
    assert check_of("C5", found[1]) == "flag"


@pytest.mark.parametrize(("restart", "outcome"), [(2, "flag"), (0, "pass")])
def test_a_gain_of_the_last_restarts_is_flagged(
    restart: int, outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)  # one restart against three
    hit = torch.zeros(COUNT, dtype=torch.bool)
    hit[:3] = True
    monkeypatch.setattr(Measurements, "plain_standing", m.right)
    monkeypatch.setattr(
        Measurements, "probe", lambda *_, **__: Probe(hit, torch.where(hit, restart, -1), hit.long(), NONE)
    )
    assert check_of("C3", m) == outcome


@pytest.mark.parametrize(("step", "outcome"), [(TINY.steps + 1, "flag"), (TINY.steps, "pass")])
def test_a_gain_of_the_last_steps_is_flagged(
    step: int, outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    hit = torch.zeros(COUNT, dtype=torch.bool)
    hit[:3] = True
    monkeypatch.setattr(Measurements, "pgd_long", Probe(hit, torch.zeros(COUNT), torch.where(hit, step, -1), NONE))
    monkeypatch.setattr(Measurements, "pgd_short", Probe(torch.zeros_like(hit), hit.long(), hit.long(), NONE))
    assert check_of("C2", m) == outcome


@pytest.mark.parametrize(("further", "outcome"), [(0, "flag"), (9, "pass")])
def test_an_accuracy_that_rises_with_the_radius_is_flagged(
    further: int, outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    nowhere = torch.full((COUNT,), -1)

    def broken(count: int) -> Probe:
        return Probe(torch.arange(COUNT) < count, nowhere, nowhere, NONE)

    monkeypatch.setattr(Measurements, "losses", {"margin": broken(9)})
    monkeypatch.setattr(Measurements, "probe", lambda *_, **__: broken(further))
    assert check_of("C4", m) == outcome


@pytest.mark.parametrize(("broken", "k", "outcome"), [(3, 6, "flag"), (0, 6, "pass"), (3, None, "not run")])
def test_what_the_attacker_who_knows_gains_is_flagged(
    broken: int,
    k: int | None,
    outcome: str,
    trained: nn.Module,
    shown: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY, k=k)
    nowhere = torch.full((COUNT,), -1)
    monkeypatch.setattr(Measurements, "white_box", m.right)
    monkeypatch.setattr(
        Measurements, "probe", lambda *_, **__: Probe(torch.arange(COUNT) < broken, nowhere, nowhere, NONE)
    )
    assert check_of("C15", m) == outcome


@pytest.mark.parametrize(("late", "outcome"), [(2.0, "flag"), (0.0, "pass")])
def test_a_margin_that_still_rises_is_flagged(
    late: float, outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    seen = torch.linspace(-5, -2, 21).clamp_max(-3).unsqueeze(1).repeat(1, 8)
    seen[-1] += late
    monkeypatch.setattr(Measurements, "margins_along_pgd", seen)
    assert check_of("C13", m) == outcome


def test_the_climb_is_that_of_the_images_that_stand(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    assert m.margins_along_pgd.shape == (21, int(m.white_box.sum()))
    assert (m.margins_along_pgd.diff(dim=0) >= 0).all()
    assert (m.margins_along_pgd < 0).all()
    assert check_of("C13", m) == "pass"


def row(alignment: float, fgsm: float, pgd: float) -> dict[str, float]:
    names = ("epoch", "gradient_alignment", "watched_fgsm_accuracy", "watched_pgd_accuracy")
    return dict(zip(names, (0, alignment, fgsm, pgd), strict=True))


@pytest.mark.parametrize(
    ("log", "outcome"),
    [
        ([row(0.9, 0.6, 0.5), row(0.2, 0.9, 0.1)], "flag"),
        ([row(0.9, 0.6, 0.5), row(0.8, 0.7, 0.6)], "pass"),
        ([], "not run"),
    ],
)
def test_a_training_that_overfitted_to_one_step_is_flagged(
    log: list[dict[str, float]], outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor]
) -> None:
    assert check_of("C16", Measurements(trained, Images(*shown), EPS, TINY, log=log)) == outcome


def test_an_undefended_network_that_stands_is_flagged(
    trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    assert check_of("C18", m) == "pass"
    monkeypatch.setattr("bpfc.auditing.checks.beside.undefended", lambda *_: nn.Sequential(BitDepth(), trained).eval())
    assert check_of("C18", m) == "flag"


def test_a_model_of_one_answer_is_not_told_to_stand_without_a_bound(shown: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.constant_(model[1].weight, 1e-6)
    model[1].bias.data[3] = 5.0
    assert check_of("C5", Measurements(model.eval(), Images(*shown), EPS, TINY)) == "not run"


def test_a_masked_model_is_flagged_on_images_of_one_answer(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    images, labels = shown
    masked = nn.Sequential(BitDepth(), trained).eval()
    one = masked(images).argmax(dim=1) == labels[0]
    assert one.any()
    assert check_of("C5", Measurements(masked, Images(images[one], labels[one]), EPS, TINY)) == "flag"


def test_images_of_one_class_say_nothing_of_an_undefended_network(
    trained: nn.Module, shown: tuple[Tensor, Tensor]
) -> None:
    images, labels = shown
    one = labels == labels[0]
    assert check_of("C18", Measurements(trained, Images(images[one], labels[one]), EPS, TINY)) == "not run"


def unsettled(id: str, m: Measurements) -> Finding:
    (check,) = (check for check in EVERY if check.id == id)
    return replace(check(m), outcome="flag", settled="open")


def test_a_claim_above_an_upper_bound_falls_though_flags_stay_open(
    trained: nn.Module, shown: tuple[Tensor, Tensor]
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    m.pgd("pgd", 20)
    finding = unsettled("C4", m)
    verdict, sentence = decide(m, [finding], [], claim=0.99)
    assert verdict == "falls"
    assert "C4 flagged and no attack settled it: this is an upper bound only" in sentence
    assert decide(m, [finding], [], claim=0.01)[0] == decide(m, [finding], [], claim=None)[0] == "open"


def test_an_open_flag_is_named_where_nothing_stands(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    m._within["everything"] = m.right
    for claim in (None, 0.0):
        verdict, sentence = decide(m, [unsettled("C4", m)], [], claim=claim)
        assert verdict == "stands"
        assert sentence.endswith("C4 flagged, but nothing is left to hide.")


@pytest.fixture
def attacked(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> Measurements:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    m.pgd("pgd", 20)
    assert 0.3 < m.share(m.left) < 0.9
    return m


def first(count: int, mask: Tensor) -> Tensor:
    """As many of those in the mask."""
    return mask & (mask.cumsum(0) <= count)


def test_a_flag_is_outweighed_by_proofs_that_the_claim_does_not_exceed(attacked: Measurements) -> None:
    flag = unsettled("C4", attacked)
    left = attacked.left
    proven = first(int(left.sum()) - 5, left)
    low, high = wilson_interval(int(proven.sum()), len(left))
    verdict, sentence = decide(attacked, [flag], [], high - 1e-6, proven)
    assert verdict == "stands"
    assert (
        f", {attacked.share(proven):.1%} ({low:.1%} … {high:.1%}) are proven to, {high:.1%} is claimed; C4" in sentence
    )
    assert sentence.endswith("C4 flagged and no attack settled it, but what is proven is enough.")
    verdict, sentence = decide(attacked, [flag], [], high + 1e-6, proven)
    assert verdict == "open"
    assert "are proven to" in sentence
    none = torch.zeros_like(left)
    assert decide(attacked, [flag], [], 0.01, none)[0] == "open"  # though the interval of none ends above that
    assert decide(attacked, [], [], 0.01, none)[0] == "stands"
    assert decide(attacked, [flag], [], 0.99, left)[0] == "falls"


def test_without_a_claim_proofs_must_leave_no_more_to_break_than_settles_a_flag(attacked: Measurements) -> None:
    flag = unsettled("C4", attacked)
    left = attacked.left
    count = int(left.sum())
    verdicts = [decide(attacked, [flag], [], None, first(count - open, left))[0] for open in (0, 1, 2)]
    assert len(left) < 200  # so that one image is the larger of the two thresholds
    assert verdicts == ["stands", "stands", "open"]


def test_proofs_are_of_the_same_images_and_undo_no_mask(attacked: Measurements) -> None:
    flags = [unsettled("C4", attacked), unsettled("C17", attacked)]
    assert decide(attacked, flags[:1], [], 0.2, attacked.left)[0] == "stands"
    assert decide(attacked, flags, [], 0.2, attacked.left)[0] == "open"
    lowered = replace(flags[0], settled="lower")
    assert decide(attacked, [lowered], [], 0.2, attacked.left)[0] == "masked"


def test_proofs_of_what_does_not_stand_are_refused(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    few, tiny = tuple(each[:20] for each in shown), replace(TINY, images=20)
    right = trained(to_float(few[0])).argmax(dim=1) == few[1]
    heard: list[str] = []
    with pytest.raises(ContradictionError, match=r"image \d+ is proven to stand, but [a-z-]+\d* breaks it: the"):
        audit(trained, *few, eps=EPS, budget=tiny, proven=right)
    with pytest.raises(ContradictionError, match=r"image \d+ is proven to stand, but it is misclassified as it is"):
        audit(trained, few[0], few[1].roll(1), eps=EPS, budget=tiny, proven=right, told=heard.append)
    for wrong, told in (
        (right[:3], r"torch.bool of shape \(3,\)"),
        (right.tolist(), "list"),
        (right.numpy(), "ndarray"),
    ):
        with pytest.raises(ValueError, match=rf"proven: is {told}, must be a tensor of bool, one an image: \(20,\)"):
            audit(trained, *few, eps=EPS, budget=tiny, proven=wrong, told=heard.append)  # type: ignore[arg-type]
    assert not heard  # nothing was attacked before


def test_train_mode_alone_is_cleared(trained: nn.Module, shown: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    few, tiny = tuple(each[:20] for each in shown), replace(TINY, images=20)
    found = audit(copy.deepcopy(trained).train(), *few, eps=EPS, budget=tiny, folder=tmp_path)
    assert (found.verdict, found.flags) == ("stands", ["C14"])
    assert [each.settled for each in found.findings if each.id == "C14"] == ["cleared"]
    # The same weights between other layers are another model, though their digest is the same.
    other = nn.Sequential(*trained[:3], nn.Tanh(), *trained[4:]).eval()
    with pytest.raises(ValueError, match=r"something else \(first_logits was"):
        audit(other, *few, eps=EPS, budget=tiny, folder=tmp_path)


@pytest.mark.parametrize(
    ("id", "left", "outcome"),
    [("C13", 28, "cleared"), ("C7", 28, "cleared"), ("C13", 12, "lower"), ("C9", 28, "lower")],
)
def test_more_effort_must_leave_the_interval(
    id: str, left: int, outcome: str, trained: nn.Module, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = Measurements(trained, Images(*shown), EPS, TINY)
    (check,) = (check for check in EVERY if check.id == id)
    finding = Finding(check.id, check.title, "flag", "measured", None, "", "", "", "", "", "")
    monkeypatch.setattr(Measurements, "white_box", torch.arange(COUNT) < 30)
    monkeypatch.setattr(Measurements, "left", torch.arange(COUNT) < left)
    (found,) = settled(m, [finding], [Settlement("a better attack", 30 / COUNT, left / COUNT, (id,))])
    assert found.settled == outcome


def test_images_stay_as_they_are_stored() -> None:
    """Floats are made of a batch alone, four times as large; so does the twin, which learns from all."""
    sizes: list[int] = []

    class Stored(Tensor):
        def float(self) -> Tensor:  # type: ignore[override]
            sizes.append(len(self))
            return super().float().as_subclass(Tensor)

    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    pixels = torch.randint(256, (120, 1, 4, 4), dtype=torch.uint8)
    labels = model(pixels / 255).argmax(dim=1)
    m = Measurements(model, Images(pixels.as_subclass(Stored), labels), 0.1, TINY, batch_size=32)
    floats = Measurements(model, Images(pixels / 255, labels), 0.1, TINY, batch_size=32)
    for each in (inputs, steadiness, zero_gradients):
        assert each.measure(m) == each.measure(floats)
    assert torch.equal(m.fgsm.broken, floats.fgsm.broken)
    near = m.some(slice(8))[0]
    taught = (twin(model, of.images, 0.1, epochs=2) for of in (m, floats))
    assert torch.equal(*(network(near) for network in taught))
    assert max(sizes) == 50  # the twin's batch
