"""Whether the demo's two trainings end well whatever the seed, the number of threads and the CPU's rounding.

    python benchmarks/stability.py [--seeds 20] [--settings float32-1-avx2,float32-2-avx2] [--out results/stability]

Each setting rounds otherwise: float32 or bfloat16, one thread or two, the instructions of this CPU or of an older one.
Without --settings, all those that this CPU can compute. Each run is a process of its own. Runs that are in
OUT/runs.jsonl already are not made again, so that a stopped benchmark goes on. Prints, and writes to OUT/summary.json,
a row a setting: runs, diverged, collapsed, and minimum, median and maximum of the accuracy on the first 250 held-out
digits, clean and under PGD-100. Exit status 1 where a run ended outside of the bounds: normal at most 5 % and BPFC at
least 40 % under PGD-100, both at least 94 % clean.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

INSTRUCTIONS = {
    "amx": {},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
"""What the environment tells the libraries, so that a newer CPU rounds as an older one; the newest first."""

SETTINGS = {
    f"{precision}-{threads}-{instructions}": (word, threads, instructions)
    for precision, word, threads, instructions in (
        ("float32", "fp32", 1, "avx512"),
        ("float32", "fp32", 2, "avx512"),
        ("bfloat16", "bf16", 1, "avx512"),
        ("bfloat16", "bf16", 2, "avx512"),
        ("float32", "fp32", 1, "avx2"),
        ("float32", "fp32", 2, "avx2"),
        ("bfloat16", "bf16", 1, "avx2"),
        ("bfloat16", "bf16", 2, "avx2"),
        ("bfloat16", "bf16", 1, "amx"),
    )
}
"""Precision, threads and instructions, by name. AMX has none for float32."""

IMAGES = 250
"""Held-out digits that are attacked, half of the demo's."""

LIMITS = {
    ("normal", "clean"): (0.94, 1.0),
    ("normal", "pgd_100"): (0.0, 0.05),
    ("bpfc", "clean"): (0.94, 1.0),
    ("bpfc", "pgd_100"): (0.4, 1.0),
}
"""Within which every run must end."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seeds", type=int, default=20)
    words.add_argument("--settings", default=",".join(computed_here(SETTINGS)))
    words.add_argument("--out", type=Path, default=Path("results/stability"))
    words.add_argument("--one", nargs=2, metavar=("PRECISION", "SEED"), help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.one:
        print(json.dumps(one(given.one[0], int(given.one[1]))))
        return
    settings = given.settings.split(",")
    if unknown := set(settings) - set(SETTINGS):
        words.error(f"--settings {unknown.pop()}: must be of {', '.join(SETTINGS)}")
    if too_new := set(settings) - set(computed_here(SETTINGS)):
        words.error(f"--settings {too_new.pop()}: this CPU does not have these instructions; leave it out")
    file = given.out / "runs.jsonl"
    rows = rows_of_this_recipe(file)
    for seed in range(given.seeds):
        for setting in settings:
            if any((row["setting"], row["seed"]) == (setting, seed) for row in rows):
                continue
            rows.append({"setting": setting, "seed": seed, **in_a_process(setting, seed)})
            given.out.mkdir(parents=True, exist_ok=True)
            with file.open("a") as lines:
                lines.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    summary = summarise(rows)
    write(given.out, summary)
    show(summary)
    sys.exit(1 if any(setting["outside"] for setting in summary) else 0)


def recipe_digest() -> str:
    """Of all settings that the demo's recipes say; what they leave at its default may be newer than the runs."""
    from bpfc.training.demo_recipes import DEMO_RECIPES

    said = {}
    for name, recipe in DEMO_RECIPES.items():
        defaults = {item.name: item.default_factory() for item in fields(recipe) if callable(item.default_factory)}
        defaults = {item.name: item.default for item in fields(recipe)} | defaults
        said[name] = {key: value for key, value in vars(recipe).items() if value != defaults[key]}
    return hashlib.sha256(repr(said).encode()).hexdigest()


def rows_of_this_recipe(file: Path) -> list[dict[str, Any]]:
    """The runs that were made before; none of another recipe may be among them."""
    from bpfc.files import read_jsonl

    rows = read_jsonl(file) if file.exists() else []
    if any(row["recipe"] != recipe_digest() for row in rows):
        sys.exit(f"{file}: holds runs of another demo recipe; delete it, or choose another --out")
    return rows


def computed_here(names: Iterable[str]) -> list[str]:
    """Those whose instructions this CPU has."""
    import torch

    has = torch.cpu.get_capabilities()  # of torch 2.13 on
    known = [word for word, flag in (("amx", "amx_bf16"), ("avx512", "avx512_f"), ("avx2", "avx2")) if has.get(flag)]
    return [name for name in names if SETTINGS[name][2] in known]


def in_a_process(setting: str, seed: int) -> dict[str, Any]:
    precision, threads, instructions = SETTINGS[setting]
    environment = {**os.environ, **INSTRUCTIONS[instructions], "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, __file__, "--one", precision, str(seed)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def one(precision: Any, seed: int) -> dict[str, Any]:
    """Both trainings with that seed, what they stand, and what made them."""
    import torch

    from bpfc.cli.evaluate import Evaluate, run
    from bpfc.memory import keep_memory
    from bpfc.provenance import provenance
    from bpfc.training.demo_recipes import DEMO_RECIPES
    from bpfc.training.health import TrainingError
    from bpfc.training.start import train

    keep_memory()
    made_by = provenance(torch.device("cpu"))
    found: dict[str, Any] = {name: made_by[name] for name in ("commit", "versions", "hardware", "time")}
    found["recipe"] = recipe_digest()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for name, recipe in DEMO_RECIPES.items():
            out = Path(folder) / name
            try:
                train(replace(recipe, seed=seed), out, device="cpu", precision=precision)
            except TrainingError as failure:
                found[name] = {"failed": "diverged" if "finite" in str(failure) else "collapsed", "why": str(failure)}
                continue
            summary = run(Evaluate(out, attacks="pgd-100", limit=IMAGES, device="cpu", precision=precision))
            found[name] = {
                "clean": summary["clean"]["accuracy"],
                "pgd_100": summary["attacks"]["pgd-100"]["accuracy"],
            }
    return found


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a setting; `outside` counts the runs that failed or ended outside of the limits."""
    settings = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        mine = [row for row in rows if row["setting"] == setting]
        failed = [row[name]["failed"] for row in mine for name in ("normal", "bpfc") if "failed" in row[name]]
        entry: dict[str, Any] = {"name": setting, "runs": len(mine)}
        entry |= {what: failed.count(what) for what in ("diverged", "collapsed")}
        entry["outside"] = sum(not within(row) for row in mine)
        for figure in ("clean", "pgd_100"):
            entry[figure] = {
                name: [min(values), statistics.median(values), max(values)]
                for name in ("normal", "bpfc")
                if (values := [row[name][figure] for row in mine if figure in row[name]])
            }
        settings.append(entry)
    return settings


def within(row: dict[str, Any]) -> bool:
    """Whether the run ended within the limits; one that failed has no figures."""
    return all(low <= row[name].get(figure, -1.0) <= high for (name, figure), (low, high) in LIMITS.items())


def write(out: Path, settings: list[dict[str, Any]]) -> None:
    """The table, and what made it; what made each run stands in its row."""
    import torch

    from bpfc.files import write_json
    from bpfc.provenance import provenance

    command = " ".join(["python", "benchmarks/stability.py", *sys.argv[1:]])
    made_by = {**provenance(torch.device("cpu")), "command": command}
    write_json(out / "summary.json", {"settings": settings, "provenance": made_by})


def show(settings: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Minimum / median / maximum accuracy in %")
    titles = [f"{'BPFC' if name == 'bpfc' else name}: {figure.replace('pgd_', 'PGD-')}" for name, figure in LIMITS]
    for column in ("", "runs", "diverged", "collapsed", "outside", *titles):
        table.add_column(column, justify="right" if column else "left")
    for entry in settings:
        spans = [" / ".join(f"{100 * value:.1f}" for value in entry[figure].get(name, [])) for name, figure in LIMITS]
        counts = [str(entry[what]) for what in ("runs", "diverged", "collapsed", "outside")]
        table.add_row(entry["name"], *counts, *spans)
    Console().print(table)


if __name__ == "__main__":
    main()
