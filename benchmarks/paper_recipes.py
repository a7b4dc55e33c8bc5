"""Whether the paper's own recipes, which do not clip the gradient, get through their first epochs.

    python benchmarks/paper_recipes.py [--seeds 3] [--data mnist,fashion-mnist] [--out results/stability]

Trains `mnist-bpfc` and `fashion-mnist-bpfc` for the first 8 of their 50 epochs, at the learning rate of those epochs,
before its first drop. Seed 0 is not trained again: its 50 epochs stand in results/DATA-bpfc. Fewer validation images
are attacked than in the recipe, which changes nothing in these epochs. Needs the data sets. A stopped benchmark goes on
where it was: trainings resume in --work, and those that are in OUT/paper.jsonl are not made again. Writes there, and
prints, a row a training: whether it diverged or collapsed, and loss and accuracy of each epoch, on training and on
validation images. Exit status 1 where a training came to nothing.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bpfc.files import read_jsonl
from bpfc.memory import keep_memory
from bpfc.training.health import TrainingError
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.settings import Schedule
from bpfc.training.start import train

EPOCHS = 8
"""All of them before the paper's first drop of the learning rate, after a quarter of 50."""

ATTACKED = 100
"""Validation images under attack after each epoch."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--data", default="mnist,fashion-mnist")
    words.add_argument("--out", type=Path, default=Path("results/stability"))
    words.add_argument("--work", type=Path, default=Path("runs/paper-recipes"))
    words.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    given = words.parse_args()
    keep_memory()
    file = given.out / "paper.jsonl"
    given.out.mkdir(parents=True, exist_ok=True)
    rows = read_jsonl(file) if file.exists() else []
    for seed in range(given.seeds):
        for data in given.data.split(","):
            if any((row["recipe"], row["seed"]) == (f"{data}-bpfc", seed) for row in rows):
                continue
            rows.append(trained(data, seed, given.work / f"{data}-{seed}", given.precision))
            with file.open("a") as lines:
                lines.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    sys.exit(1 if any(row["failed"] for row in rows) else 0)


def trained(data: str, seed: int, folder: Path, precision: Any) -> dict[str, Any]:
    """One training's row; `failed` says what it came to, if it came to nothing."""
    recipe = RECIPES[f"{data}-bpfc"][1]
    recipe = replace(recipe, epochs=EPOCHS, lr_schedule=Schedule(), validation_attacked=ATTACKED, seed=seed)
    run, failed = Run(folder if seed else Path("results") / f"{data}-bpfc"), None
    if seed:
        try:
            train(recipe, folder, device="cpu", precision=precision, resume=folder.exists())
        except TrainingError as failure:
            failed = str(failure)
    made_by = run.starts()[0]
    row = {"recipe": f"{data}-bpfc", "seed": seed, "failed": failed, "precision": run.precision}
    row |= {name: made_by[name] for name in ("commit", "versions", "hardware", "time")}
    epochs = run.log[:EPOCHS]
    return row | {name: [epoch[name] for epoch in epochs] for name in ("loss", "train_accuracy", "validation_accuracy")}


if __name__ == "__main__":
    main()
