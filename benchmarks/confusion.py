"""Whether the audit calls masked what is masked, and lets stand what is honest.

    python benchmarks/confusion.py [--data mnist-5k fashion-mnist] [--seeds 0 2 3] [--cases …] [--out OUT]

Each case is a small network, trained by a recipe on 4,000 images, mostly with a defence around it (controls.py). It is
audited as `bpfc audit --quick` does, on the first 50 test images, against the figure that a careless report would
claim: what stands under FGSM and PGD-40, or under FGSM alone where PGD itself sees through. Beside it, on the same
images, what stands under an attacker who knows the defence. Masked cases must be called masked or falling, with a
figure within 2 points of that attacker's, or below it; honest ones must stand. BPFC masks in some settings alone: what
it is, its attacker says.

The audit's thresholds have seen seed 0, and some of seed 1, which is left out therefore. Each case that is done is a
line in OUT/rows.jsonl, under a digest of the recipe, the budget and the code that decide it; it is not made again as
long as they are the same, so that a stopped benchmark goes on. OUT/summary.json holds the rows of today's digests.
Trained networks stay in RUNS.
"""

import ast
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch counts the cores

import controls
import torch
import tyro
from torch import nn

import bpfc
from bpfc.attacks import FGSM, PGD, Adaptive, Attack, ImageRng, MultiTargeted, Square
from bpfc.attacks.ascent import input_gradient
from bpfc.auditing import QUICK, audit
from bpfc.auditing.stand_ins import Near, Through, Ungraded
from bpfc.data import DataSet, Images, load
from bpfc.evaluation import Plan, PlannedAttack, ThreatModel, blocks, run_block
from bpfc.files import append_lines, read_jsonl, write_json
from bpfc.methods import BPFC, FGSMAT, IBP, PGDAT, TRADES
from bpfc.options import DataName
from bpfc.provenance import provenance
from bpfc.training.demo_recipes import DEMO_RECIPES
from bpfc.training.recipe import Recipe
from bpfc.training.run import Run
from bpfc.training.settings import Schedule
from bpfc.wrappers import EOT

TRAINED, IMAGES = 4_000, 50
NEAR_ENOUGH = 0.02
"""By how much a settling attack may miss what is known, and a claim may be ahead of it."""
NEAR, SAMPLES = 0.1, 16
"""Of ε, the deviation of the points that an attacker of rugged surfaces averages over; and how many answers anybody
averages over."""

JUDGING = {"judged", "main"}
"""What decides no figure here."""

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


def attacked(case: Case, method: object, judged: nn.Module, known: nn.Module, given: Images) -> float:
    """What stands under one who knows the defence: by the gradients of `known`, and by search."""
    eps = case.eps
    found: list[Attack] = [PGD(eps, eps / 8, 60, "margin"), PGD(eps, eps / 10, 100), MultiTargeted(eps, eps / 8, 20)]
    if isinstance(known, EOT):  # each step is worth SAMPLES of them
        found = [PGD(eps, eps / 8, 40, "margin"), PGD(eps, eps / 20, 100, "margin"), PGD(eps, eps / 8, 40)]
    if isinstance(method, BPFC):
        found.append(Adaptive(eps, eps / 8, 40, method.k))
    planned = [Through(each, known, alike=False) for each in found]
    return standing(judged, given, eps, [*planned, *([] if case.random else [Square(eps, 1000)])])


def row_of(case: Case, recipe: Recipe, run: Run, data: DataSet) -> dict[str, Any]:
    """The audit of a case, and the figures beside it."""
    network = run.model(data, trusted=recipe.network).eval().requires_grad_(False)
    pixels, labels = data.test.pixels[:IMAGES], data.test.labels[:IMAGES]
    given = Images(pixels, labels % 2 if case.odd else labels)
    model = case.defend(network).eval()
    judged = averaged(model).eval() if case.random else model
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        claim = case.claim(model, judged, given, case.eps)
        known = attacked(case, recipe.method, judged, case.known(network).eval(), given)
    started = time.perf_counter()
    k = recipe.method.k if isinstance(recipe.method, BPFC) else None
    found = audit(
        model, given.pixels, given.labels, eps=case.eps, claim=claim, k=k, quick=True, seed=recipe.seed, log=run.log
    )
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "verdict": found.verdict,
        "clean": found.clean,
        "claim": claim,
        "robust": found.robust,
        "known": known,
        "flags": {each.id: each.settled for each in found.findings if each.outcome == "flag"},
        "sentence": found.sentence,
        "settlements": [asdict(each) for each in found.settlements],
        "measured": {each.id: each.value for each in found.findings if each.value is not None},
    }


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """The row with what the model was, whether the audit came near enough to what is known, and whether it is right."""
    case = cases(row["data"])[row["case"]]
    honest = row["claim"] <= row["known"] + NEAR_ENOUGH + 1e-9 if case.honest is None else case.honest
    near = row["robust"] <= row["known"] + NEAR_ENOUGH + 1e-9
    called = row["verdict"] == "stands" if honest else row["verdict"] in ("masked", "falls")
    return row | {"honest": honest, "near": near, "right": called and (honest or near)}


def code() -> str:
    """A digest of the code that decides a row: the audit's, the attacks' and this, without comments and docstrings."""
    here = Path(__file__).parent
    package = Path(bpfc.__file__).parent
    rooms = ("auditing", "attacks")
    files = [
        here / "controls.py",
        here / "confusion.py",
        *(f for room in rooms for f in (package / room).rglob("*.py")),
    ]
    return hashlib.sha256("".join(_bare(file) for file in sorted(files)).encode()).hexdigest()[:16]


def _bare(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", None) not in JUDGING]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                each for each in node.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            ]
    return ast.dump(tree)


def trained(data: DataName, name: str, seed: int, folder: Path) -> tuple[Recipe, Run]:
    from bpfc.training.start import train

    recipe = replace(recipes(data)[name], seed=seed)
    out = folder / f"{data}-{name}-{seed}"
    return recipe, train(recipe, out, device="cpu", precision="fp32", resume=out.exists())


@dataclass(frozen=True)
class Confusion:
    """What to audit; see above."""

    data: tuple[DataName, ...] = ("mnist-5k", "fashion-mnist")
    seeds: tuple[int, ...] = (0, 2, 3)
    cases: tuple[str, ...] = tuple(cases("mnist-5k"))
    out: Path = Path("results/confusion")
    runs: Path = Path("runs/confusion")


def main(options: Confusion) -> None:
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "rows.jsonl"
    version, today = code(), []
    for seed, data, name in itertools.product(options.seeds, options.data, options.cases):
        case = cases(data)[name]
        recipe, run = trained(data, case.recipe, seed, options.runs)
        decides = json.dumps([asdict(recipe), asdict(QUICK), IMAGES, version], sort_keys=True)
        digest = hashlib.sha256(decides.encode()).hexdigest()[:16]
        key = {"data": data, "case": name, "seed": seed, "digest": digest}
        today.append(key)
        if any(key.items() <= row.items() for row in read_jsonl(file)):
            continue
        row = key | {"recipe": case.recipe, "eps": case.eps} | row_of(case, recipe, run, load(data))
        append_lines(file, [row])
        row = judged(row)
        shown = ("verdict", "clean", "claim", "robust", "known", "flags", "seconds")
        print("" if row["right"] else "WRONG", data, name, seed, {each: row[each] for each in shown}, flush=True)
    rows = [judged(row) for key in today for row in read_jsonl(file) if key.items() <= row.items()]
    made_by = {
        **provenance(torch.device("cpu")),
        "command": " ".join(["python", "benchmarks/confusion.py", *sys.argv[1:]]),
    }
    write_json(options.out / "summary.json", {"images": IMAGES, "rows": rows, "provenance": made_by})
    for kind in (False, True):
        mine = [row for row in rows if row["honest"] is kind]
        print("honest" if kind else "masked", f"{sum(row['right'] for row in mine)} of {len(mine)} called so")


if __name__ == "__main__":
    main(tyro.cli(Confusion, description=__doc__))
