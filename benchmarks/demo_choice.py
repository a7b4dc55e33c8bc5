"""How the demo's BPFC recipe is chosen: on validation digits, which the demo itself never shows.

    python benchmarks/demo_choice.py [--out results/stability]

Trains the demo's BPFC network with each λ and peak learning rate of a grid, two seeds each, and attacks the 500
validation digits of mnist-5k by I-FGSM-20. Chosen is the pair whose worse seed is the most robust, among those whose
worse seed reads 95 % of the clean digits. Prints, and writes to OUT/choice.json, a row a pair. One that is there
already is not made again.
"""

import argparse
import contextlib
import io
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bpfc.files import read_json, write_json
from bpfc.memory import keep_memory
from bpfc.methods import BPFC
from bpfc.provenance import provenance
from bpfc.training.demo_recipes import DEMO_RECIPES
from bpfc.training.health import TrainingError
from bpfc.training.start import train

LAMBDAS, RATES, SEEDS = (15.0, 30.0), (0.03, 0.06, 0.1), (0, 1)
CLEAN = 0.95
"""What the worse seed must read of the clean digits."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=Path("results/stability"))
    file = words.parse_args().out / "choice.json"
    keep_memory()
    pairs: list[dict[str, Any]] = read_json(file)["pairs"] if file.exists() else []
    for weight, lr in itertools.product(LAMBDAS, RATES):
        if any((pair["lambda"], pair["lr"]) == (weight, lr) for pair in pairs):
            continue
        seeds = [one(weight, lr, seed) for seed in SEEDS]
        pairs.append({"lambda": weight, "lr": lr, "seeds": seeds})
        print(pairs[-1], flush=True)
        fit = [pair for pair in pairs if worst(pair, "clean") >= CLEAN]
        best = max(fit, key=lambda pair: worst(pair, "ifgsm_20"), default=None)
        chosen = best and {name: best[name] for name in ("lambda", "lr")}
        made_by = {**provenance(torch.device("cpu")), "command": "python benchmarks/demo_choice.py"}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"pairs": pairs, "chosen": chosen, "provenance": made_by})


def one(weight: float, lr: float, seed: int) -> dict[str, float]:
    """Accuracies on the validation digits, after the last epoch; both 0 where training came to nothing."""
    recipe = DEMO_RECIPES["bpfc"]
    assert isinstance(recipe.method, BPFC)
    method = replace(recipe.method, weight=weight)
    recipe = replace(recipe, method=method, lr=lr, seed=seed, validation_attacked=500, ifgsm_steps=20)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        try:
            run = train(recipe, Path(folder), device="cpu", precision="fp32")
        except TrainingError:
            return {"clean": 0.0, "ifgsm_20": 0.0}
        row = run.log[-1]
    return {"clean": row["validation_accuracy"], "ifgsm_20": row["validation_ifgsm_accuracy"]}


def worst(pair: dict[str, Any], what: str) -> float:
    return min(seed[what] for seed in pair["seeds"])


if __name__ == "__main__":
    main()
