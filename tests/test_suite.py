"""Attacks by name and in suites, as an evaluation runs them."""

from dataclasses import replace

import pyautoattack
import pytest
import torch
from torch import Tensor, nn

import bpfc
from bpfc.attacks import (
    APGD,
    PGD,
    AutoAttackPart,
    CarliniWagner,
    DeepFool,
    ImageRng,
    MultiTargeted,
    NarrowingAPGD,
    Noise,
    Square,
    TargetedAPGD,
)
from bpfc.attacks.autoattack import PARTS, Part
from bpfc.evaluation import SUITES, Block, Context, ThreatModel, parse, run_block
from bpfc.evaluation.forms import FORMS
from bpfc.judge import exact_logits
from bpfc.models.curve import with_curve

Digits = tuple[Tensor, Tensor]
LINF = Context(ThreatModel("linf", 0.3), channels=1, step_size=0.01, k=7)
L2 = Context(ThreatModel("l2", 2.0), channels=3, step_size=0.1)
OURS = (
    "noise-5,corners-5,fgsm,rfgsm,ifgsm-8,pgd-20x3,pgd-margin-8,pgd-dlr-8x2,pgd-targeted-8,mt-pgd-4,adaptive-4,"
    "apgd-8x2,apgd-dlr-6-last,apgd-t3-4x2,apgd-narrowing-10,outside-in-8,deepfool,deepfool-l2,cw-8,spsa-2,square-40,"
    "pgd-8-last,mt-pgd-2-last"
)


def test_names() -> None:
    names = "pgd-margin-50x10,pgd-dlr-7-last,mt-pgd-20,pgd-targeted-5,corners-9,square-5000,cw-30"
    planned = parse(names, LINF).attacks
    assert [item.attack for item in planned] == [
        PGD(0.3, 0.01, 50, "margin"),
        PGD(0.3, 0.01, 7, "dlr"),
        MultiTargeted(0.3, 0.01, 20),
        MultiTargeted(0.3, 0.01, 5, targets=1),
        Noise(0.3, 9, corners=True),
        Square(0.3, 5000),
        CarliniWagner(30),
    ]
    assert [(item.restarts, item.any_iterate) for item in planned[:2]] == [(10, True), (1, False)]
    apgd = parse("apgd-100x5,apgd-dlr-30-last,apgd-t-100,apgd-t3-50x2,apgd-narrowing-100", L2).attacks
    assert [(item.attack, item.restarts, item.any_iterate) for item in apgd] == [
        (APGD(2.0, 100, norm="l2"), 5, True),
        (APGD(2.0, 30, "dlr", "l2"), 1, False),
        (TargetedAPGD(2.0, 100, norm="l2"), 1, True),
        (TargetedAPGD(2.0, 50, 3, "l2"), 2, True),
        (NarrowingAPGD(2.0, 100, norm="l2"), 1, True),
    ]
    assert parse("pgd-5,deepfool", L2).attacks[0].attack == PGD(2.0, 0.1, 5, norm="l2")
    assert parse("pgd-5,deepfool", L2).attacks[1].attack == DeepFool("l2")
    for wrong, told in {
        "cw-5-last": "leave out -last",
        "apgd-t-5-last": "apgd-t-5 has no last",
        "adaptive": r"did you mean adaptive-STEPS\? bpfc attacks lists",
        "square-0": "queries=0",
        "worst,pgd-100": "named twice",
        "pgd-3,": "^attack '': bpfc attacks lists them all$",
        "wurst": r"^attack 'wurst': did you mean worst\? bpfc attacks lists them all$",
        "pdg-x": r"did you mean pgd-STEPS\[xRESTARTS\] or pgd-margin-STEPS.* or pgd-targeted-STEPS\? bpfc attacks",
    }.items():
        with pytest.raises(ValueError, match=told):
            parse(wrong, LINF)
    with pytest.raises(ValueError, match="for ℓ∞; in ℓ2 take"):
        parse("fgsm", L2)
    with pytest.raises(ValueError, match="give --k"):
        parse("adaptive-5", replace(LINF, k=None))


def test_suites_name_every_attack() -> None:
    everything = set(parse("worst", replace(LINF, curve=True)).names)
    assert everything - set(parse("worst", LINF).names) == {"behind-50"}
    for form in FORMS:
        first = form.shown.split()[0].split("-")[0]
        assert any(name.removeprefix("aa-").startswith(first.removeprefix("aa")) for name in everything), form.shown
    assert parse("paper", LINF).names == [
        "fgsm", "ifgsm-40", "pgd-40-last", "pgd-20-last", "pgd-1000-last",
    ]  # fmt: skip
    assert all(parse(suite, LINF).cascade == (suite != "paper") for suite in SUITES)
    assert parse("fast", LINF).names == [
        "apgd-50",
        "apgd-narrowing-100",
        "outside-in-60",
        "fgsm",
        "square-200",
    ]  # the tripwires last
    curved = replace(LINF, curve=True)
    assert parse("fast", curved).names == ["apgd-50", "behind-t3-20x2", "fgsm", "square-200"]
    assert parse("fast", replace(L2, curve=True)).names == parse("fast", L2).names
    assert parse("fast", L2).names == ["apgd-50", "apgd-narrowing-100", "outside-in-60"]
    in_l2 = set(parse("worst", L2).names)
    assert in_l2 < everything
    assert {"pgd-100", "deepfool", "aa-square"} < in_l2
    assert not {"fgsm", "adaptive-40", "noise-100"} & in_l2


def test_rows_are_the_same_at_any_batch_size(trained: nn.Module, test_digits: Digits) -> None:  # 12
    wrong = int((trained(test_digits[0]).argmax(1) != test_digits[1]).nonzero()[0])
    some = [*range(4), wrong]
    images, labels = test_digits[0][some], test_digits[1][some]
    rows = [
        bpfc.evaluate(trained, images, labels, attacks=OURS, eps=0.15, step_size=0.02, k=6, batch_size=size).rows
        for size in (1, 3, 256)
    ]
    verdicts = [
        [(row["broken_by"], [(n, e["broken"], e["restart"]) for n, e in row["attacks"].items()]) for row in each]
        for each in rows
    ]
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert {row["broken_by"] for row in rows[0]} >= {None, "clean", "fgsm"}
    queries = [sum(e["queries"] for row in each for e in row["attacks"].values()) for each in rows]
    assert queries[0] == pytest.approx(queries[1], rel=0.01)
    assert queries[0] == pytest.approx(queries[2], rel=0.01)


def test_queries_are_counted(trained: nn.Module, test_digits: Digits) -> None:
    """What the ledger says is what the network was asked, but for the judge's own forwards."""
    images, labels = test_digits[0][:30], test_digits[1][:30]
    right = trained(images).argmax(1) == labels
    for name, each in {"pgd-9-last": 9, "fgsm": 1}.items():
        rows = bpfc.evaluate(trained, images, labels, attacks=name, eps=0.1).rows
        assert [row["attacks"][name]["queries"] for row, ok in zip(rows, right, strict=True) if ok] == [each] * int(
            right.sum()
        )
    rows = bpfc.evaluate(trained, images, labels, attacks="pgd-6x4", eps=0.15).rows
    for entry in (row["attacks"]["pgd-6x4"] for row, ok in zip(rows, right, strict=True) if ok):
        if entry["broken"]:
            assert entry["queries"] == 6 * entry["restart"] + min(entry["step"] + 1, 6)
        else:
            assert entry["queries"] == 24


@pytest.mark.parametrize("name", ["apgd-t-6x3", "apgd-t3-6x2", "apgd-narrowing-6x2"])
def test_what_an_image_costs_does_not_depend_on_the_batch(name: str, trained: nn.Module, test_digits: Digits) -> None:
    """Where images stand, fall at once, and fall on the way, at several targets at a time; one stands there twice."""
    places = [*range(9), 2]
    images, labels = test_digits[0][places], test_digits[1][places]
    costs = []
    for size in (1, 3, 256):
        rows = bpfc.evaluate(trained, images, labels, attacks=name, eps=0.12, batch_size=size).rows
        costs.append([(row["broken_by"], row["attacks"].get(name, {}).get("queries")) for row in rows])
    assert costs[0] == costs[1] == costs[2]
    assert len(set(costs[0])) > 3


@pytest.mark.parametrize(
    "name",
    [
        *("pgd-5x3", "apgd-8x2", "apgd-t-3x2", "apgd-t3-4x2", "apgd-narrowing-4x2", "mt-pgd-4", "behind-3x2"),
        *("noise-5", "square-40", "outside-in-6", "spsa-3", "deepfool", "cw-8"),
    ],
)
def test_queries_are_all_that_the_network_was_asked(
    name: str, trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing breaks; but for the judge's own forwards, and what looks at the gradient first."""
    model = with_curve(trained, 0.0, 1.0).eval()
    right = (model(test_digits[0][:6]).argmax(1) == test_digits[1][:6]).nonzero()[:4, 0]
    images, labels = test_digits[0][right], test_digits[1][right]
    asked: list[int] = []

    def judged(at: nn.Module, some: Tensor) -> Tensor:
        logits = exact_logits(at, some)
        asked.append(-len(some))
        return logits

    monkeypatch.setattr("bpfc.judge.exact_logits", judged)
    monkeypatch.setattr("bpfc.evaluation.engine.blind_at_start", lambda _, some, *__, **___: [None] * len(some))
    handle = trained.register_forward_hook(lambda _, args, __: asked.append(len(args[0])))
    plan = parse(name, replace(LINF, threat=ThreatModel("linf", 1e-6)), batch_size=8)
    rows = run_block(model, Block(right.tolist(), images, labels), plan)
    handle.remove()
    # Targets are found once for an image's two restarts.
    shared = 4 if name.startswith(("apgd-t", "apgd-narrowing")) else 0
    assert sum(row["attacks"][name]["queries"] for row in rows) == sum(asked) + shared
    assert not any(row["attacks"][name]["broken"] for row in rows)


@pytest.mark.parametrize("part", PARTS)
def test_the_authors_code_leaves_the_model_as_found(part: Part) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6)).eval()
    model[1].bias.requires_grad_(False)
    images = torch.rand(4, 1, 4, 4)
    AutoAttackPart(0.01, part)(model, images, model(images).argmax(1), ImageRng(0, range(4)))
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False]
    assert all(parameter.grad is None for parameter in model.parameters())


FOUR = [4, 5, 6, 7]
"""One of these stands, which costs the most."""


@pytest.fixture(scope="module")
def counted(trained: nn.Module, test_digits: Digits) -> dict[str, tuple[bpfc.Evaluation, int]]:
    """`fast` and `standard` on the same four digits, with the images that went through the network, forth and back."""
    images, labels = test_digits[0][FOUR], test_digits[1][FOUR]
    passes: list[int] = []

    def count(_: nn.Module, args: tuple[Tensor], logits: Tensor) -> None:
        passes.append(len(args[0]))
        if logits.requires_grad:
            logits.register_hook(lambda gradient: passes.append(len(gradient)))

    handle = trained.register_forward_hook(count)
    found = {}
    for suite in ("fast", "standard"):
        passes.clear()
        evaluation = bpfc.evaluate(trained, images, labels, attacks=suite, eps=0.12)
        found[suite] = evaluation, sum(passes)
    handle.remove()
    return found


def test_standard_is_no_weaker_than_the_authors_own_run(
    trained: nn.Module, test_digits: Digits, counted: dict[str, tuple[bpfc.Evaluation, int]]
) -> None:
    images, labels = test_digits[0][FOUR], test_digits[1][FOUR]
    official = pyautoattack.AutoAttack(trained, norm="Linf", eps=0.12, seed=0, version="standard")
    official.fab.n_target_classes = official.apgd_targeted.n_target_classes = 9
    with torch.random.fork_rng():
        adversaries, _ = official.run_standard_evaluation(images, labels, batch_size=4)
    trained.zero_grad(set_to_none=True)  # theirs leaves gradients behind
    theirs = (trained(adversaries).argmax(1) == labels).float().mean().item()
    ours, _ = counted["standard"]
    assert 0.2 < theirs < 0.9
    assert ours.robust <= theirs + 0.005
    tried = [len([row for row in ours.rows if name in row["attacks"]]) for name in ours.summary["attacks"]]
    assert tried == sorted(tried, reverse=True)
    assert tried[-1] < tried[0]


def test_fast_breaks_what_standard_breaks_at_a_tenth_of_its_passes(
    counted: dict[str, tuple[bpfc.Evaluation, int]],
) -> None:
    broken = {
        suite: {row["index"] for row in evaluation.rows if row["broken_by"] is not None}
        for suite, (evaluation, _) in counted.items()
    }
    assert broken["fast"] >= broken["standard"]
    assert 0 < len(broken["fast"]) < 4
    assert counted["fast"][1] < counted["standard"][1] / 10


def test_square_is_no_weaker_than_the_authors_own(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = test_digits[0][:150], test_digits[1][:150]
    theirs = pyautoattack.square.SquareAttack(trained, norm="Linf", eps=0.12, n_queries=400, seed=0, device="cpu")
    with torch.random.fork_rng():
        adversaries = theirs.perturb(images, labels)
    robust = (trained(adversaries).argmax(1) == labels).float().mean().item()
    ours = bpfc.evaluate(trained, images, labels, attacks="square-400", eps=0.12)
    assert 0.3 < ours.robust <= robust + 0.02
