"""Whether the audit calls masked what is masked, and lets stand what is honest.

    python benchmarks/confusion.py [--data mnist-5k fashion-mnist] [--seeds 0 2 3] [--cases …] [--out OUT]

Each case is a small network, trained by a recipe on 4,000 images, mostly with a defence around it (controls.py). It is
audited as `bpfc audit --quick` does, on the first 100 test images, against the figure that a careless report would
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch counts the cores

import torch
import tyro
from confusion_cases import Case, averaged, cases, recipes, standing
from torch import nn

import bpfc
from bpfc.attacks import PGD, Adaptive, Attack, MultiTargeted, Square
from bpfc.auditing import QUICK, audit
from bpfc.auditing.stand_ins import Through
from bpfc.data import DataSet, Images, load
from bpfc.files import append_lines, read_jsonl, write_json
from bpfc.methods import BPFC
from bpfc.options import DataName
from bpfc.provenance import provenance
from bpfc.training.recipe import Recipe
from bpfc.training.run import Run
from bpfc.wrappers import EOT

IMAGES = 100
NEAR_ENOUGH = 0.02
"""By how much a settling attack may miss what is known, and a claim may be ahead of it."""
JUDGING = {"judged", "main"}
"""What decides no figure here."""


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
        here / "confusion_cases.py",
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
