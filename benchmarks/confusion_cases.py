"""The models that the confusion table audits: how each is trained and defended, what is claimed of it, who knows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import controls
import torch
from torch import nn

from bpfc.attacks import FGSM, PGD, Attack, ImageRng
from bpfc.attacks.ascent import input_gradient
from bpfc.auditing.stand_ins import Near, Through, Ungraded
from bpfc.data import Images
from bpfc.evaluation import Plan, PlannedAttack, ThreatModel, blocks, run_block
from bpfc.methods import BPFC, FGSMAT, IBP, PGDAT, TRADES
from bpfc.options import DataName
from bpfc.training.demo_recipes import DEMO_RECIPES
from bpfc.training.recipe import Recipe
from bpfc.training.settings import Schedule
from bpfc.wrappers import EOT

TRAINED = 4_000
"""Images that each network learns from."""
NEAR, SAMPLES = 0.1, 16
"""Of ε, the deviation of the points that an attacker of rugged surfaces averages over; and how many answers anybody
averages over."""

Change = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Setting:
    """What differs between the data sets, by the paper's protocol.

    Attributes:
        eps: of the networks that BPFC trains.
        bare: ε of networks that nothing defends but the layer around them.
        k, weight: of BPFC.
        rejects: how far apart two answers may lie before the detector rejects.
    """

    eps: float
    bare: float
    k: int
    weight: float
    rejects: float


SETTINGS = {"mnist-5k": Setting(0.3, 0.1, 7, 30.0, 0.5), "fashion-mnist": Setting(0.1, 0.05, 6, 25.0, 0.2)}


def recipes(data: DataName) -> dict[str, Recipe]:
    """The trainings, by name: the demo's one-cycle schedule with other methods and networks."""
    here = SETTINGS[data]
    base = replace(DEMO_RECIPES["normal"], data=data, limit=TRAINED, network="controls:small")
    l1 = BPFC(k=here.k, weight=3.0, distance="l1")
    bounded = replace(base, network="controls:sparse", epochs=8, lr=0.1, eps=0.1, weight_decay=0.0)
    growing = Schedule(shape="ramp", milestones=(0.05, 0.5))
    return {
        "normal": base,
        "gelu": replace(base, network="controls:gelu"),
        "dropout": replace(base, network="controls:dropout"),
        "thermometer": replace(base, network="controls:thermometer"),
        "k-winners": replace(base, network="controls:k_winners"),
        "fgsm-at": replace(base, epochs=24, lr=0.04, method=FGSMAT(eps=0.3)),
        "pgd-at": replace(base, eps=0.1, method=PGDAT(eps=0.1, step_size=0.03, steps=5)),
        "trades": replace(base, eps=0.1, method=TRADES(eps=0.1, step_size=0.03, steps=5, weight=3.0)),
        "bpfc": replace(DEMO_RECIPES["bpfc"], data=data, limit=TRAINED, method=BPFC(k=here.k, weight=here.weight)),
        "bpfc-l1": replace(base, epochs=10, method=l1, weight_schedule=Schedule(shape="ramp", milestones=(0.1, 0.8))),
        "ibp": replace(bounded, method=IBP(eps=0.1), weight_schedule=growing),
    }


def standing(judged: nn.Module, given: Images, eps: float, attacks: Sequence[Attack]) -> float:
    """The share that stands under attacks, each on what those before it left."""
    planned = [PlannedAttack(f"attack {i}", each) for i, each in enumerate(attacks)]
    plan = Plan(tuple(planned), ThreatModel("linf", eps), cascade=True)
    rows = [row for block in blocks(given, range(len(given)), len(given)) for row in run_block(judged, block, plan)]
    return sum(row["broken_by"] is None for row in rows) / len(rows)


def careless(model: nn.Module, judged: nn.Module, given: Images, eps: float, attacks: Sequence[Attack]) -> float:
    """What stands under attacks by the model's own gradients, idle where none comes through."""
    if lets_nothing_through(model, given):
        model = Ungraded(model).eval()
    return standing(judged, given, eps, [Through(each, model, alike=False) for each in attacks])


def lets_nothing_through(model: nn.Module, given: Images) -> bool:
    try:
        input_gradient(model, given.pixels[:1] / 255, given.labels[:1])
    except (ValueError, RuntimeError):
        return True
    return False


def one_step(model: nn.Module, judged: nn.Module, given: Images, eps: float) -> float:
    """What a report claims that knows FGSM alone."""
    return careless(model, judged, given, eps, [FGSM(eps)])


def plain(model: nn.Module, judged: nn.Module, given: Images, eps: float) -> float:
    """What a careless report claims: FGSM and PGD-40."""
    return careless(model, judged, given, eps, [FGSM(eps), PGD(eps, eps / 4, 40)])


def not_fooled(model: nn.Module, judged: nn.Module, given: Images, eps: float) -> float:
    """What is claimed of a detector: under PGD-40 on the network alone, the answer is right or a rejection."""
    assert isinstance(model, controls.Detector)
    images, labels = given.pixels / 255, given.labels
    moved = PGD(eps, eps / 4, 40)(model.network, images, labels, ImageRng(0, range(len(given))))
    with torch.no_grad():
        answers = model(moved).argmax(dim=1)
    return float(((answers == labels) | (answers == 10)).float().mean())


@dataclass(frozen=True)
class Case:
    """A model that is audited.

    Attributes:
        recipe: of the network.
        eps: of the audit.
        honest: hides nothing. None where that depends: so it is if one who knows is not ahead of the claim by more
            than NEAR_ENOUGH.
        defend: the network with its defence.
        known: what an attacker who knows the defence differentiates.
        claim: what is claimed of it.
        random: it answers at random; the mean of SAMPLES answers is judged.
        odd: asked is whether the label is odd.
    """

    recipe: str
    eps: float
    honest: bool | None = False
    defend: Change = lambda network: network
    known: Change = lambda network: network
    claim: Callable[[nn.Module, nn.Module, Images, float], float] = plain
    random: bool = False
    odd: bool = False


def in_front(layer: controls.BitDepth | controls.MedianFilter | controls.BlockCosine, eps: float) -> Case:
    """A layer before a normal network, for the defender and for the attacker who knows it."""
    known = layer.known()
    return Case(
        "normal",
        eps,
        defend=lambda network: nn.Sequential(layer, network),
        known=lambda network: nn.Sequential(known, network),
    )


def averaged(model: nn.Module) -> nn.Module:
    return EOT(model, SAMPLES)


def random(change: Change, eps: float) -> Case:
    """A normal network with chance in it."""
    return Case("normal", eps, defend=change, known=lambda net: averaged(change(net)), claim=one_step, random=True)


def pruned(network: nn.Module) -> nn.Module:
    return controls.with_activation(network, lambda: nn.Sequential(nn.ReLU(), controls.ActivationPruning()))


def detector(squeeze: nn.Module, limit: float) -> Change:
    return lambda network: controls.Detector(network, squeeze, limit)


def cases(data: DataName) -> dict[str, Case]:
    here = SETTINGS[data]
    eps, bare, rejects = here.eps, here.bare, here.rejects
    bits, thermometer = controls.BitDepth(), controls.Thermometer()
    return {
        "fgsm-at": Case("fgsm-at", 0.3, claim=one_step),
        "bpfc-l1": Case("bpfc-l1", eps, honest=None),
        "bit-depth": in_front(bits, bare),
        "median": in_front(controls.MedianFilter(), bare),
        "block-cosine": in_front(controls.BlockCosine(), bare),
        "times-1000": Case("normal", bare, defend=lambda network: nn.Sequential(network, controls.Times())),
        "softmax": Case(
            "normal", bare, defend=lambda network: nn.Sequential(network, controls.Times(), nn.Softmax(dim=1))
        ),
        "noise": random(lambda network: nn.Sequential(controls.RandomNoise(), network), bare),
        "resize": random(lambda network: nn.Sequential(controls.RandomResize(), network), 0.1),
        "thermometer": Case(
            "thermometer", bare, known=lambda network: nn.Sequential(thermometer.known(), *list(network.children())[1:])
        ),
        "pruning": random(pruned, bare),
        "k-winners": Case("k-winners", 0.1, known=lambda network: averaged(Near(network, NEAR * 0.1)), claim=one_step),
        "detector": Case(
            "normal", bare, defend=detector(bits, rejects), known=detector(bits.known(), rejects), claim=not_fooled
        ),
        "no-gradient": Case("normal", bare, defend=controls.NoGradient),
        "pgd-at": Case("pgd-at", 0.1, honest=True),
        "trades": Case("trades", 0.1, honest=True),
        "bpfc": Case("bpfc", eps, honest=None),
        "ibp": Case("ibp", 0.1, honest=True),
        "normal": Case("normal", eps, honest=True),
        "gelu": Case("gelu", 0.1, honest=True),
        "dropout": Case("dropout", 0.1, honest=True),
        "two-classes": Case("pgd-at", 0.1, honest=True, defend=controls.Odd, known=controls.Odd, odd=True),
    }
