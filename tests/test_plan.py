"""What decides a row, said once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import FGSM, PGD, CarliniWagner, LinfBall
from bpfc.evaluation import Context, Plan, PlannedAttack, ThreatModel, parse
from bpfc.evaluation.forms import FORMS
from bpfc.ledger import Ledger

LINF = ThreatModel("linf", 0.1)


def test_the_ball_follows_from_the_threat_model() -> None:
    assert LINF.ball == LinfBall(0.1)
    assert ThreatModel("l2", 1.5).ball.norm == "l2"
    with pytest.raises(ValueError, match=r"eps=8.*8/255"):
        ThreatModel("linf", 8)
    with pytest.raises(ValueError, match=r"eps=nan"):
        ThreatModel("l2", float("nan"))


def test_an_attack_of_another_threat_model_is_refused() -> None:
    Plan((PlannedAttack("fgsm", FGSM(0.1)), PlannedAttack("cw-5", CarliniWagner(5))), LINF)
    for attack, told in ((FGSM(0.2), "ℓ∞ ε 0.2"), (PGD(0.1, 0.01, 5, norm="l2"), "ℓ2 ε 0.1")):
        with pytest.raises(ValueError, match=f"'a': made for {told}, but the plan's threat model is ℓ∞ ε 0.1"):
            Plan((PlannedAttack("a", attack),), LINF)


def test_a_plan_makes_sense() -> None:
    fgsm = PlannedAttack("fgsm", FGSM(0.1))
    with pytest.raises(ValueError, match="'fgsm' is named twice"):
        Plan((fgsm, fgsm), LINF)
    with pytest.raises(ValueError, match="batch_size=0"):
        Plan((fgsm,), LINF, batch_size=0)
    with pytest.raises(ValueError, match="restarts must be 1 or more"):
        replace(fgsm, restarts=0)


@pytest.mark.parametrize("eps", [0.3, 8 / 255, 1 / 3, 0.1])
def test_every_named_attack_fits_its_threat_model(eps: float) -> None:
    """R-FGSM adds up two halves of ε: to the bit, or the plan would refuse it."""
    plan = parse("worst", Context(ThreatModel("linf", eps), channels=1, k=7))
    assert len(plan.attacks) > len(FORMS) / 2
    assert plan.header()["eps"] == eps


def test_the_header_holds_all_that_decides_a_row() -> None:
    context = Context(LINF, channels=1, step_size=0.02, k=6)
    plain = parse("pgd-5,adaptive-3", context)
    others = [
        parse("pgd-5,adaptive-4", context),
        parse("adaptive-3,pgd-5", context),
        parse("pgd-5,adaptive-3", replace(context, step_size=0.03)),
        parse("pgd-5,adaptive-3", replace(context, k=5)),
        parse("pgd-5,adaptive-3", replace(context, threat=ThreatModel("linf", 0.11))),
        *(replace(plain, **change) for change in ({"seed": 1}, {"cascade": True}, {"precision": "bf16"})),  # type: ignore[arg-type]
    ]
    headers = [json.dumps(plan.header()) for plan in (plain, *others)]
    assert len(set(headers)) == len(headers)
    assert replace(plain, batch_size=7).header() == plain.header()


def test_rows_of_the_shorter_steps_that_l2_had_are_not_gone_on_with(tmp_path: Path) -> None:
    header = parse("pgd-5", Context(ThreatModel("l2", 1.0), channels=1)).header()
    Ledger(tmp_path, {name: value for name, value in header.items() if name != "l2_steps"}, [0], ["pgd-5"])
    with pytest.raises(ValueError, match="l2_steps was None, is 'full'"):
        Ledger(tmp_path, header, [0], ["pgd-5"])


@pytest.mark.parametrize(("channels", "steps"), [(1, 40), (3, 7)])
def test_the_paper_s_suite_is_the_same_for_all_who_ask(
    channels: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bpfc.evaluate took I-FGSM-7 on MNIST, where the command line took 40."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, 3)).eval()
    monkeypatch.setattr("bpfc.evaluation.engine.run_block", lambda *_, **__: [])
    monkeypatch.setattr("bpfc.evaluation.api.summarise", lambda _, names, __: {"names": names})
    asked = bpfc.evaluate(model, torch.rand(2, channels, 4, 4), torch.tensor([0, 1]), attacks="paper", eps=0.1)
    assert asked.summary["names"][1] == f"ifgsm-{steps}"


def test_images_are_floats_in_their_block_alone(
    trained: nn.Module, test_digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfc.evaluation.api.check", lambda *_: None)  # it has forwards of its own
    images, labels = test_digits[0][:30], test_digits[1][:30]
    pixels = (images * 255).round().byte()
    sizes = []
    handle = trained.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    stored = bpfc.evaluate(trained, pixels, labels, attacks="fgsm", eps=0.1, batch_size=10)
    handle.remove()
    assert stored.rows == bpfc.evaluate(trained, images, labels, attacks="fgsm", eps=0.1).rows
    assert max(sizes) == 10
    assert pixels.dtype == torch.uint8
