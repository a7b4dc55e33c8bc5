"""Whether the demo's two trainings end well whatever the seed, the number of threads and the CPU's rounding.

    python benchmarks/stability.py [--seeds 20] [--settings float32-1,float32-2] [--out results/stability]

Each setting rounds otherwise: one thread or two, float32 or bfloat16, the instructions of this CPU or of one with
AVX2 alone. Each run is a process of its own. Runs that are in OUT/runs.jsonl already are not made
again, so that a stopped benchmark goes on. Prints, and writes to OUT/summary.json, a row a setting: runs, diverged,
collapsed, and minimum, median and maximum of the accuracy on the first 250 held-out digits, clean and under PGD-100.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

SETTINGS: dict[str, tuple[str, int, dict[str, str]]] = {
    "float32-1": ("fp32", 1, {}),
    "float32-2": ("fp32", 2, {}),
    "float32-1-avx2": ("fp32", 1, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}),
    "bfloat16-1": ("bf16", 1, {}),
    "bfloat16-1-avx2": ("bf16", 1, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}),
}
"""Precision, threads, and what the environment tells the libraries of the CPU."""


IMAGES = 250
"""Held-out digits that are attacked, half of the demo's."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seeds", type=int, default=20)
    words.add_argument("--settings", default="float32-1,float32-2,float32-1-avx2,bfloat16-1")
    words.add_argument("--out", type=Path, default=Path("results/stability"))
    words.add_argument("--one", nargs=2, metavar=("PRECISION", "SEED"), help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.one:
        print(json.dumps(one(given.one[0], int(given.one[1]))))
        return
    from bpfc.files import read_jsonl

    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "runs.jsonl"
    for seed in range(given.seeds):
        for setting in given.settings.split(","):
            if any((row["setting"], row["seed"]) == (setting, seed) for row in read_jsonl(file)):
                continue
            row = {"setting": setting, "seed": seed, **in_a_process(setting, seed)}
            with file.open("a") as rows:
                rows.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    write_summary(given.out, read_jsonl(file))


def in_a_process(setting: str, seed: int) -> dict[str, Any]:
    precision, threads, told = SETTINGS[setting]
    environment = {**os.environ, **told, "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, __file__, "--one", precision, str(seed)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def one(precision: Any, seed: int) -> dict[str, Any]:
    """Both trainings with that seed, and what they stand."""
    from bpfc.cli.demo import demo_recipes
    from bpfc.cli.evaluate import Evaluate, run
    from bpfc.cli.train import Train, train
    from bpfc.memory import keep_memory
    from bpfc.training.health import TrainingError

    keep_memory()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for name, recipe in demo_recipes().items():
            out = Path(folder) / name
            try:
                train(Train(recipe=replace(recipe, seed=seed), out=out, device="cpu", precision=precision))
            except TrainingError as failure:
                found[name] = {"failed": "diverged" if "finite" in str(failure) else "collapsed", "why": str(failure)}
                continue
            summary = run(Evaluate(out, attacks="pgd-100", limit=IMAGES, device="cpu", precision=precision))
            found[name] = {
                "clean": summary["clean"]["accuracy"],
                "pgd_100": summary["attacks"]["pgd-100"]["accuracy"],
            }
    return found


def write_summary(out: Path, rows: list[dict[str, Any]]) -> None:
    """The table, and what made it."""
    import torch

    from bpfc.files import write_json
    from bpfc.provenance import provenance

    settings = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        mine = [row for row in rows if row["setting"] == setting]
        failed = [network["failed"] for row in mine for network in (row["normal"], row["bpfc"]) if "failed" in network]
        entry: dict[str, Any] = {"name": setting, "runs": len(mine)}
        entry |= {what: failed.count(what) for what in ("diverged", "collapsed")}
        for figure in ("clean", "pgd_100"):
            entry[figure] = {
                name: [min(values), statistics.median(values), max(values)]
                for name in ("normal", "bpfc")
                if (values := [row[name][figure] for row in mine if figure in row[name]])
            }
        settings.append(entry)
    command = " ".join(["python", "benchmarks/stability.py", *sys.argv[1:]])
    made_by = {**provenance(torch.device("cpu")), "command": command}
    write_json(out / "summary.json", {"settings": settings, "provenance": made_by})


if __name__ == "__main__":
    main()
