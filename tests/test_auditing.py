"""The audit's controls: what is masked is called masked, for the right reason; what is honest is not."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import COUNT
from controls import BitDepth, BlockCosine, MedianFilter, Misled, NoGradient, RandomNoise, Rounded, Thermometer, Times
from torch import Tensor, nn

import bpfc
from bpfc.attacks.ascent import input_gradient
from bpfc.auditing import Audit, Budget, audit
from bpfc.auditing.checks import EVERY
from bpfc.auditing.layers import around, lost_layers
from bpfc.auditing.measurements import Measurements
from bpfc.data import DataSet, Images, to_float
from bpfc.evaluation import Context, ThreatModel, blocks, parse, run_block

TINY = Budget(COUNT, 20, (1, 3), 100, 5, (1e-3,), 2, (4, 8))
EPS = 0.13
"""Here one step leaves six images that more break, so that a control which misleads all but the first is masked."""


class Drowned(nn.Module):
    """The gradient is drowned in noise that has no mean, and the images have a trace of it."""

    def forward(self, images: Tensor) -> Tensor:
        noise = torch.randn_like(images)
        return (images + 0.02 * noise).detach() + (1 + 4 * noise) * (images - images.detach())


CONTROLS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bit depth": lambda network: nn.Sequential(BitDepth(), network),
    "times": lambda network: nn.Sequential(network, Times()),
    "softmax": lambda network: nn.Sequential(network, Times(), nn.Softmax(dim=1)),
    "noise": lambda network: nn.Sequential(Drowned(), network),
    "no gradient": NoGradient,
    "misled": lambda network: nn.Sequential(Misled(), network),
}
KNOWN: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bit depth": lambda network: nn.Sequential(BitDepth().known(), network),
    "noise": lambda network: bpfc.EOT(nn.Sequential(Drowned(), network), 8),
}
"""What an attacker who knows the defence attacks; the bare network where there is no entry."""
FLAGGED = {
    "bit depth": {"C5", "C8", "C9", "C11"},
    "times": {"C6", "C7", "C8"},
    "softmax": {"C5", "C8", "C14"},
    "no gradient": {"C5", "C8", "C9"},
    "misled": {"C1", "C5", "C12"},
    "noise": {"C12", "C14"},
}
REASON = {
    "bit depth": "layer 0, BitDepth",
    "times": "on logits x 0.000",
    "softmax": "before the softmax",
    "noise": "the mean of 4 answers",
    "no gradient": "code that records no gradients",
    "misled": "layer 0, Misled",
}
Auditor = Callable[[str], Audit]


@pytest.fixture(scope="module")
def audited(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> Auditor:
    """The audit of a control by its name, made once. It must leave the model as it found it."""

    @cache
    def of(name: str) -> Audit:
        with left_as_found(model := CONTROLS[name](copy.deepcopy(trained)).eval()):
            return audit(model, *shown, eps=EPS, budget=TINY)

    return of


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers = [type(module) for module in model.modules()]
    yield
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [type(module) for module in model.modules()] == layers
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.fixture(scope="module")
def honest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("honest")


@pytest.fixture(scope="module")
def honest(trained: nn.Module, shown: tuple[Tensor, Tensor], honest_folder: Path) -> Audit:
    return audit(trained, *shown, eps=EPS, budget=TINY, k=6, folder=honest_folder)


def strongest(model: nn.Module, shown: tuple[Tensor, Tensor]) -> float:
    """What stands under an attacker who knows all."""
    threat = ThreatModel("linf", EPS)
    plan = parse("pgd-20,pgd-margin-20,mt-pgd-5", Context(threat, 1), cascade=True)
    (block,) = blocks(Images(*shown), range(COUNT), COUNT)
    return sum(row["broken_by"] is None for row in run_block(model, block, plan)) / COUNT


@pytest.fixture(scope="module")
def undefended(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> float:
    return strongest(trained, shown)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_called_masked_for_its_reason(
    name: str, audited: Auditor, trained: nn.Module, shown: tuple[Tensor, Tensor], undefended: float
) -> None:
    found = audited(name)
    assert found.verdict == "masked"
    assert found.exit_status == 1
    assert set(found.flags) >= FLAGGED[name]
    assert REASON[name] in found.sentence
    knows = KNOWN.get(name)
    known = undefended if knows is None else strongest(knows(trained).eval(), shown)
    assert found.robust <= known + 0.02


def test_an_honest_network_is_not(honest: Audit, undefended: float) -> None:
    assert (honest.verdict, honest.flags, honest.exit_status) == ("stands", [], 0)
    assert not honest.settlements
    assert 0.3 < honest.robust <= undefended + 0.02
    assert undefended < honest.clean


@pytest.mark.parametrize("id", ["C1", "C5", "C6", "C7", "C8", "C9", "C11", "C12", "C14"])
def test_a_check_tells_one_from_the_other(id: str, honest: Audit, audited: Auditor) -> None:
    flagged = next(name for name, ids in FLAGGED.items() if id in ids)
    outcomes = [{each.id: each for each in found.findings}[id] for found in (honest, audited(flagged))]
    assert [finding.outcome for finding in outcomes] == ["pass", "flag"]
    assert outcomes[1].settled == "lower"
    assert all((outcomes[1].meaning, outcomes[1].next, outcomes[1].source))


def fitted(digits: DataSet, network: nn.Module, classes: int) -> nn.Module:
    """Normally trained on 2,000 digits, by their class or whether they are odd."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for batch in torch.randperm(2000).repeat(2).split(50):
        images, labels = to_float(digits.train.pixels[batch]), digits.train.labels[batch] % classes
        bpfc.Normal()(network, images, labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval()


@pytest.mark.parametrize(("activation", "classes"), [(nn.GELU, 10), (nn.ReLU, 2)])
def test_a_normal_network_falls_and_is_not_called_masked(
    activation: type[nn.Module], classes: int, digits: DataSet, shown: tuple[Tensor, Tensor]
) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2), activation(), nn.Flatten(), nn.Linear(8 * 196, classes)
    )
    images, labels = shown
    found = audit(fitted(digits, network, classes), images, labels % classes, eps=0.3, claim=60, budget=TINY)
    assert (found.verdict, found.exit_status) == ("falls", 1)
    assert found.robust < 0.05 < 0.8 < found.clean
    assert found.claim == 0.6


def test_the_claim_decides(
    honest: Audit,
    honest_folder: Path,
    trained: nn.Module,
    shown: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The folder holds what was measured: nothing runs again, no twin is trained, and the claim may be another.
    monkeypatch.setattr("bpfc.auditing.measurements.twin", None)
    lines = (honest_folder / "measured.jsonl").read_text()
    above, below = (honest.interval[1] + change for change in (0.01, -0.01))
    for claim, verdict, status in ((above, "falls", 1), (below, "stands", 0)):
        found = audit(trained, *shown, eps=EPS, claim=claim, budget=TINY, k=6, folder=honest_folder)
        assert (found.verdict, found.exit_status, found.robust) == (verdict, status, honest.robust)
    assert (honest_folder / "measured.jsonl").read_text() == lines
    with pytest.raises(ValueError, match=r"eps was 0\.13, is 0\.2"):
        audit(trained, *shown, eps=0.2, budget=TINY, folder=honest_folder)


def test_a_killed_audit_goes_on(tmp_path: Path, trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    class KilledError(Exception):
        pass

    def kill(text: str) -> None:
        if text.startswith("C5"):
            raise KilledError

    few, brief = tuple(each[:10] for each in shown), replace(TINY, imitations=0)
    with pytest.raises(KilledError):
        audit(trained, *few, eps=EPS, budget=brief, folder=tmp_path, told=kill)
    before = (tmp_path / "measured.jsonl").read_text()
    found = audit(trained, *few, eps=EPS, budget=brief, folder=tmp_path)
    after = (tmp_path / "measured.jsonl").read_text()
    assert before
    assert after.startswith(before)
    assert len({json.loads(line)["probe"] for line in after.splitlines()}) == len(after.splitlines())
    assert found == audit(trained, *few, eps=EPS, budget=brief)


def test_what_was_handed_in_is_looked_at(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    checks = {check.id: check for check in EVERY}
    images, labels = shown
    twice_divided = Measurements(trained, Images(to_float(images) / 255, labels), EPS, TINY)
    assert checks["C17"](twice_divided).outcome == "flag"
    assert checks["C17"](Measurements(trained, Images(images, labels), EPS, TINY)).outcome == "pass"
    for wrong in ({"eps": 8}, {"eps": EPS, "claim": 101}):
        with pytest.raises(ValueError, match="must be"):
            audit(trained, images, labels, budget=TINY, **wrong)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        audit(trained, to_float(images) * 2 - 1, labels, eps=EPS, budget=TINY)


def test_noise_on_the_pixels_is_flagged(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    checks = {check.id: check for check in EVERY}
    m = Measurements(nn.Sequential(RandomNoise(), trained).eval(), Images(*shown), EPS, TINY)
    assert [checks[id](m).outcome for id in ("C12", "C14")] == ["flag", "flag"]


def test_train_mode_is_flagged_and_put_back(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(trained, nn.Dropout())
    model.train()
    m = Measurements(model, Images(*shown), EPS, TINY, train_mode=True)
    assert {check.id: check for check in EVERY}["C14"](m).outcome == "flag"
    trained.eval()


def test_layers_that_work_are_not_called_lost(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    images = to_float(shown[0])
    assert lost_layers(trained, images, EPS) == []
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(676))
    assert lost_layers(pooled.eval(), images, EPS) == []
    (lost,) = lost_layers(nn.Sequential(nn.Identity(), BitDepth(), trained), images, EPS)
    assert (lost.name, lost.told, lost.foreseen, lost.straight) == ("1", "layer 1, BitDepth", 0.0, True)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_layer_in_torchscript_is_found_and_attacked_around(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    """It takes no hooks."""
    images = to_float(shown[0])
    script = torch.jit.script(BitDepth())
    found = around(nn.Sequential(script, trained).eval(), images, shown[1], EPS)
    assert found is not None
    assert found.told == "layer 0, RecursiveScriptModule"
    knows = nn.Sequential(BitDepth().known(), trained)
    expected, mine = (input_gradient(each, images, shown[1]) for each in (knows, found.stand_ins[0]))
    torch.testing.assert_close(mine, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("freeze", [False, True])
def test_code_before_torchscript_is_attacked_around(
    freeze: bool, trained: nn.Module, shown: tuple[Tensor, Tensor]
) -> None:
    images = to_float(shown[0])
    script = torch.jit.script(trained)
    found = around(Rounded(torch.jit.freeze(script) if freeze else script).eval(), images, shown[1], EPS)
    assert found is not None
    assert found.told == "code before layer network, RecursiveScriptModule"


def test_code_without_a_layer_is_found_by_what_comes_after(trained: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    images = to_float(shown[0])
    found = around(Rounded(trained).eval(), images, shown[1], EPS)
    assert found is not None
    (stand_in,) = found.stand_ins
    assert found.told == "code before layer network.0, Conv2d"
    knows = nn.Sequential(BitDepth().known(), trained)
    expected, mine = (input_gradient(each, images, shown[1]) for each in (knows, stand_in))
    torch.testing.assert_close(mine, expected)
    assert around(trained, images, shown[1], EPS) is None


@pytest.mark.parametrize(
    "layer", [BitDepth(), MedianFilter(), BlockCosine(), Thermometer()], ids=lambda x: type(x).__name__
)
def test_who_knows_a_defence_sees_its_answers_and_a_gradient(layer: nn.Module, shown: tuple[Tensor, Tensor]) -> None:
    images = to_float(shown[0])[:4].requires_grad_()
    known = layer.known()(images)
    assert torch.allclose(known, layer(images), atol=1e-6)
    (gradient,) = torch.autograd.grad(known.square().sum(), images)
    assert torch.isfinite(gradient).all()
    assert gradient.any()


def test_a_cosine_basis_is_one() -> None:
    basis = BlockCosine().basis
    torch.testing.assert_close(basis @ basis.T, torch.eye(7))


def test_layers_that_change_the_channels_are_attacked_around(
    digits: DataSet, shown: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfc.auditing.fitted.STEPS", 300)
    images = to_float(shown[0])
    model = nn.Sequential(Thermometer(), nn.Conv2d(8, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    found = around(model.eval(), images, shown[1], EPS)
    assert found is not None
    (stand_in,) = found.stand_ins
    assert found.told == "layer 0, Thermometer"
    knows = nn.Sequential(Thermometer().known(), *model[1:])
    torch.testing.assert_close(stand_in(images), model(images))
    mine, known = (input_gradient(each, images, shown[1])[0].flatten(1) for each in (stand_in, knows))
    assert torch.cosine_similarity(mine, known).median() > 0.5


def test_figures_follow_from_what_was_measured(honest: Audit, audited: Auditor) -> None:
    figures = honest.figures
    json.dumps(honest.summary(), allow_nan=False)
    assert [eps for eps, _ in figures["eps"]] == [0.5 * EPS, EPS, 2 * EPS, 4 * EPS]
    first, last = figures["steps"].values()
    assert first[0][1] <= honest.clean
    assert first[-1][1] == last[0][1] == honest.cascade["pgd-10"] or first[-1][1] <= honest.clean
    shares = [share for points in (first, last, figures["restarts"]) for _, share in points]
    assert shares[-1] >= honest.robust
    surface = figures["surface"]
    loss = torch.tensor(surface["loss"])
    assert loss.shape == (len(surface["gradient"]), len(surface["random"])) == (13, 13)
    assert loss[-1].mean() > loss[6].mean() > loss[0].mean()
    assert audited("no gradient").figures["surface"] is None
