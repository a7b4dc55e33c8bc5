"""What is committed under results/: small, and the files that its summaries speak of."""

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import stability

from bpfc.files import read_jsonl
from bpfc.report.budgets import BUDGETS
from bpfc.report.figures import Results, paper, percent
from bpfc.report.reproduction import compared, reproduced
from bpfc.report.shelf import shelf
from bpfc.report.task import Task
from bpfc.training.own_recipes import BEST
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
MEGABYTE = 10**6


def weights_named(run: Path) -> set[str]:
    """The digests of a run's weights, as its folder keeps them."""
    found = {json.loads(path.read_text())["weights_sha256"] for path in run.glob("evaluation*/summary.json")}
    file = run / "weights.sha256"
    return found | ({file.read_text().split()[0]} if file.exists() else set())


def test_a_clone_is_small() -> None:
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    assert len(files) > 100
    assert sum(path.stat().st_size for path in files if path.exists()) < 45 * MEGABYTE


def test_committed_weights_are_those_that_were_judged() -> None:
    committed = sorted(RESULTS.glob("*/model.safetensors"))
    assert committed
    for path in committed:
        assert weights_named(path.parent) == {hashlib.sha256(path.read_bytes()).hexdigest()}, path


@pytest.mark.parametrize("table", sorted(path.parent.name for path in RESULTS.glob("*-table-3/summary.json")))
def test_every_network_of_table_3_keeps_its_digest(table: str) -> None:
    summary = json.loads((RESULTS / table / "summary.json").read_text())
    for run, digest in summary["sources_sha256"].items():
        assert weights_named(RESULTS / run) == {digest}, run
    for run in summary["targets"]:
        assert len(weights_named(RESULTS / run)) == 1, run


def test_a_wide_tables_differences_are_of_the_same_column() -> None:
    task = Task("table1", "cifar-10", BUDGETS["fast"], None, 1, ("bpfc",))
    header, (ours, theirs, apart), told = compared(task, shelf([RESULTS]))
    place = header.index("PGD-20")
    assert float(ours[place]) - float(theirs[place]) == pytest.approx(float(apart[place].replace("−", "-")))
    assert theirs[place] == paper("cifar-10", "bpfc", "pgd-20")
    assert "Minutes are of a training, on NVIDIA" in told


def test_a_short_table_names_below_it_what_was_not_run() -> None:
    made = reproduced(Results(RESULTS), "table1", "cifar-10", seeds=1, images=1_000, short=True)
    rows, told = made.split("\n\n")
    assert [line.split(" |")[0] for line in rows.splitlines()[2:5]] == ["| BPFC", "| – the paper", "| – difference"]
    named = " ".join(told.split()).partition("Not run: ")[2].rstrip(".").split("; ")
    assert "FGSM-AT" in named
    assert len(rows.splitlines()) == 2 + 3 * (9 - len(named))


def test_what_the_short_trainings_on_cifar_10_show() -> None:
    """As results.md has it in words."""
    found = {}
    ablations, adversarial = ("bpfc-simple-quantisation", "bpfc-uniform-noise"), ("rss-at", "fgsm-at", "pgd-at")
    for method in ("bpfc", "normal", "mixup", "bpfc-l1", *ablations, *adversarial):
        summary = json.loads((RESULTS / f"cifar-10-{method}-fast" / "evaluation-1000" / "summary.json").read_text())
        attacks = (summary["attacks"][name]["accuracy"] for name in ("fgsm", "pgd-1000"))
        found[method] = [100 * share for share in (summary["clean"]["accuracy"], *attacks)]
    above = {
        name: [round(one - other, 1) for one, other in zip(each, found["bpfc"], strict=True)]
        for name, each in found.items()
    }
    assert [round(above[name][2]) for name in adversarial] == [4, 4, 7]
    assert sorted(round(above[name][0]) for name in adversarial) == [4, 5, 7]
    assert [round(above[name][2]) for name in ablations] == [-2, -2]
    assert sorted(round(above[name][0]) for name in ablations) == [1, 2]
    assert all(abs(above[name][1]) < 0.5 for name in ablations)
    robust = {"bpfc", *ablations, "rss-at", "pgd-at"}
    lost = [float(paper("cifar-10", name, "clean")) - found[name][0] for name in robust]
    assert (round(min(lost)), round(max(lost))) == (11, 16)
    kept = found["bpfc"][2] / found["bpfc"][1]
    assert kept > float(paper("cifar-10", "bpfc", "pgd-1000")) / float(paper("cifar-10", "bpfc", "fgsm"))
    assert found["normal"][2] == found["mixup"][2] == 0
    ours = ("bpfc", *ablations, "bpfc-l1")
    theirs = {name: [float(paper("cifar-10", name, what)) for what in ("clean", "fgsm", "pgd-1000")] for name in ours}
    for rows in (found, theirs):
        assert max(ours, key=lambda name: rows[name][0]) == "bpfc-l1"
        lost_to_steps = {name: rows[name][1] - rows[name][2] for name in ours}
        assert lost_to_steps.pop("bpfc-l1") > 1.5 * max(lost_to_steps.values())
    assert found["bpfc-l1"][2] < found["bpfc"][2]
    assert theirs["bpfc-l1"][2] > theirs["bpfc"][2]
    assert round(float(paper("cifar-10", "bpfc-l1", "clean")) - found["bpfc-l1"][0]) == 5
    long = json.loads((RESULTS / "cifar-10-bpfc" / "evaluation-pgd-1000" / "summary.json").read_text())["attacks"][
        "pgd-1000"
    ]
    low, high = (100 * share for share in long["interval_95"])
    assert low < found["bpfc"][2] < high
    told = " ".join((ROOT / "docs" / "results.md").read_text().split())
    for words in (
        "Under PGD-1000 it stands four points below RSS-AT and FGSM-AT, and seven below PGD-AT",
        "On clean images it is four to seven points below the three",
        "Under PGD-1000 BPFC stands two points above A1 and A2",
        "On clean images it is one or two points below them, and under FGSM all three are alike",
        "BPFC loses little from FGSM to PGD-1000, and a smaller share than in the paper",
        "BPFC, A1, A2, RSS-AT and PGD-AT lose eleven to sixteen points of clean accuracy against the paper's, A3 five",
        "**A3** has the highest clean accuracy of BPFC and its ablations, and loses by far the most",
    ):
        assert words in told, words


@pytest.mark.parametrize("data", ["fashion-mnist", "mnist"])
def test_what_is_called_best_was_trained_and_attacked(data: str) -> None:
    best = RECIPES[f"{data}-best"][1]
    (judged,) = [known for known in shelf([RESULTS]).runs if all(like(known.recipe, best)) and known.has_weights]
    summary = json.loads((judged.run.folder / f"evaluation-{BEST[data].attacked}" / "summary.json").read_text())
    assert summary["images"] == 10_000
    shares = summary["clean"]["accuracy"], summary["worst_case"]["accuracy"], summary["between"]["certified"]
    assert [f"{figure:.1f}" for figure in BEST[data].expected] == [percent(share) for share in shares]
    assert BEST[data].precision == judged.run.precision


@pytest.mark.parametrize(("run", "more"), [("fashion-mnist-ibp-curve-20-epochs", 2), ("mnist-ibp-batchnorm-curve", 3)])
def test_what_autoattack_breaks_beyond_fast_both_ways(run: str, more: int) -> None:
    """As results.md has it in words."""
    summary = json.loads((RESULTS / run / "evaluation-both-ways-1000" / "summary.json").read_text())
    left = {name: round(share["accuracy"] * summary["images"]) for name, share in summary["attacks"].items()}
    assert summary["images"] == 1000
    assert left["square-200"] - left["aa-square"] == more
    assert left["aa-behind-square"] == left["aa-square"]
    told = " ".join((ROOT / "docs" / "results.md").read_text().split())
    assert "AutoAttack breaks two and three images of a thousand. Its parts behind the curve, which came last" in told


def test_the_demo_s_trainings_end_well_over_seeds_threads_and_roundings() -> None:
    rows = read_jsonl(RESULTS / "stability" / "runs.jsonl")
    settings = json.loads((RESULTS / "stability" / "summary.json").read_text())["settings"]
    assert {row["recipe"] for row in rows} == {stability.recipe_digest()}
    assert stability.summarise(rows) == settings
    for setting in settings:
        assert {row["seed"] for row in rows if row["setting"] == setting["name"]} == set(range(20))
        assert (setting["runs"], setting["outside"]) == (20, 0)


def test_a_recipe_says_how_many_of_its_trainings_diverged() -> None:
    """And none says so of which none did."""
    rows = read_jsonl(RESULTS / "stability" / "paper.jsonl")
    words = ("no", "one", "two", "three")
    for recipe in {row["recipe"] for row in rows}:
        fates = [row["failed"] for row in rows if row["recipe"] == recipe]
        diverged = sum(fate is not None and "finite" in fate for fate in fates)
        assert diverged == sum(fate is not None for fate in fates)  # or the text must tell of a collapse
        told = f"Of {words[len(fates)]} trainings {words[diverged]} diverged in its first"
        assert (told in RECIPES[recipe][0]) == (diverged > 0)
        assert ("diverged" in RECIPES[recipe][0]) == (diverged > 0)


def like(recipe: Recipe, other: Recipe) -> Iterator[bool]:
    """Whether two recipes are one but for the look at the validation images, which chooses nothing here."""
    for field in dataclasses.fields(Recipe):
        if field.name not in ("validation_attacked", "ifgsm_steps"):
            yield getattr(recipe, field.name) == getattr(other, field.name)


def test_what_apgd_takes_from_bpfc_on_mnist_beyond_pgd() -> None:
    """As results.md and README have it in words: fifty steps of APGD, on the same images as a thousand of PGD."""
    bpfc = RESULTS / "mnist-bpfc"
    fast, pgd = (
        json.loads((bpfc / f"evaluation-{name}" / "summary.json").read_text()) for name in ("fast-1000", "pgd-1000")
    )
    assert (fast["images"], fast["data_sha256"]) == (pgd["images"], pgd["data_sha256"])
    assert fast["attacks"]["apgd-50"]["accuracy"] < pgd["attacks"]["pgd-1000"]["accuracy"]


def test_what_the_short_trainings_on_mnist_show() -> None:
    """As results.md has it in words."""

    def stands(recipe: str) -> float:
        summary = json.loads(
            (RESULTS / f"mnist-{recipe}-half-8-epochs" / "evaluation-fast" / "summary.json").read_text()
        )
        return float(summary["worst_case"]["accuracy"])

    bare = {recipe: stands(recipe) for recipe in ("normal-fast", "bpfc-fast", "bpfc-blocks", "box", "margin")}
    curve = {recipe: stands(f"{recipe}-curve") for recipe in ("bpfc-fast", "bpfc-blocks", "box")}
    assert stands("normal-fast-curve") > bare["bpfc-fast"]
    assert max(curve.values()) - min(curve.values()) < 0.02
    assert bare["bpfc-blocks"] > bare["bpfc-fast"] + 0.05
    assert max(bare["box"], bare["margin"]) < bare["bpfc-fast"]
