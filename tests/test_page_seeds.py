"""Trainings that differ in the seed: told apart by it, and their mean and deviation."""

import json
import shutil
import statistics
from pathlib import Path

from page_runs import LIMIT, _quick, certify, change, made, run

from bpfc.report.page import render_page
from bpfc.report.page.names import told_apart, without_seed
from bpfc.report.page.proofs import PROVEN
from bpfc.report.page.records import Record, read_run
from bpfc.report.page.seeds import by_recipe, seed_tables
from bpfc.report.page.tables import STANDARD


def of_seeds(run: Path, *seeds: int) -> list[Path]:
    folders = []
    for seed in seeds:
        folders.append(Path(shutil.copytree(run, run.with_name(f"mnist-5k-bpfc-paper-seed{seed}"))))
        change(folders[-1] / "recipe.json", seed=seed)
        (folders[-1] / "evaluation" / "evaluation.json").unlink()
    return folders


def read(folders: list[Path]) -> list[Record]:
    return told_apart([read_run(folder) for folder in folders])


def test_seeds_are_told_apart_by_the_seed(run: Path) -> None:
    """By their folders' names, which ran out of the figures before the seed came."""
    folders = of_seeds(run, 0, 1, 2)
    records = read(folders)
    assert [record.label for record in records] == ["BPFC, seed 0", "BPFC, seed 1", "BPFC, seed 2"]
    assert {without_seed(record) for record in records} == {"BPFC"}
    change(folders[2] / "recipe.json", epochs=3, seed=1)
    assert [record.label for record in read(folders)] == [
        "BPFC, 2 epochs, seed 0",
        "BPFC, 2 epochs, seed 1",
        "BPFC, 3 epochs",
    ]
    change(folders[2] / "recipe.json", epochs=2)
    assert [record.label for record in read(folders)] == [
        "BPFC, seed 0",
        "BPFC, seed 1, mnist-5k-bpfc-paper-seed1",
        "BPFC, seed 1, mnist-5k-bpfc-paper-seed2",
    ]
    assert [len(group) for group in by_recipe(read(folders))] == [2]  # a seed counts once


def test_runs_of_one_name_in_two_places_and_of_two_data_sets_are_told_apart(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "elsewhere" / "digits"))
    assert [record.label for record in read([run, other])] == [f"BPFC, {run}", f"BPFC, {other}"]
    change(other / "recipe.json", data="mnist")
    assert [record.label for record in read([run, other])] == ["BPFC, mnist-5k", "BPFC, MNIST"]


def test_the_mean_and_the_deviation_over_seeds_stand_in_a_table(run: Path) -> None:
    folders = of_seeds(run, 0, 1, 2)
    shares = [0.25, 0.5, 0.25]
    for folder, share in zip(folders, shares, strict=True):
        attacks = {"pgd-5": {"accuracy": share, "interval_95": [0, 1]}}
        if folder is folders[0]:
            attacks["fgsm"] = attacks["pgd-5"]
        change(folder / "evaluation" / "summary.json", attacks=attacks)
    (table,) = seed_tables(read(folders))
    assert table.title == f"Over seeds, mnist-5k, ℓ∞ ε 0.1: the first {LIMIT} test images"
    assert table.header == ["", "seeds", "clean", "pgd-5", "fgsm"]
    ((name, cells),) = table.rows
    assert (name, cells[0].figure) == ("BPFC", "3")
    assert cells[1].interval == "± 0.0"
    assert cells[3] == ("25.0", "1 of 3 seeds")
    assert cells[2] == ("33.3", f"± {100 * statistics.stdev(shares):.1f}")
    page = render_page(folders, Path("page.html"))
    assert "Over seeds, mnist-5k" in page
    assert "How much more than 3 seeds would change the figures of BPFC." in page
    assert seed_tables(read(folders[:1])) == []


def test_recipes_that_are_told_apart_by_seed_or_folder_alone_have_a_row_each(run: Path) -> None:
    """λ stands in no label: each seed had a row of its own, or one row held the seeds of both recipes."""
    folders = of_seeds(run, 0, 1, 2, 3)
    weak = json.loads((run / "recipe.json").read_text())["method"] | {"weight": 0.5}
    for folder in folders[2:]:
        change(folder / "recipe.json", method=weak)
    (table,) = seed_tables(read(folders))
    assert [(name, cells[0].figure) for name, cells in table.rows] == [
        ("BPFC, seed 0 and 1 more", "2"),
        ("BPFC, seed 2 and 1 more", "2"),
    ]
    for seed, folder in enumerate(folders[2:]):
        change(folder / "recipe.json", seed=seed)
    (table,) = seed_tables(read(folders))
    assert [(name, cells[0].figure, cells[1].interval) for name, cells in table.rows] == [
        (f"BPFC, seed 0, mnist-5k-bpfc-paper-seed{seed} and 1 more", "2", "± 0.0") for seed in (0, 2)
    ]
    told = render_page(folders, Path("page.html"))
    assert "the figures of BPFC, seed 0, mnist-5k-bpfc-paper-seed2 and 1 more." in told


def test_suites_and_certificates_have_a_mean_too(run: Path) -> None:
    certify(run, lambda _: False)
    for folder in (folders := of_seeds(run, 0, 1)):
        change(folder / "evaluation" / "summary.json", cascade=True)
        shutil.copytree(folder / "evaluation", folder / "evaluation-standard")
        attacks = {name: {"accuracy": 0.5, "interval_95": [0, 1]} for name in STANDARD}
        change(folder / "evaluation-standard" / "summary.json", attacks=attacks)
    (table,) = seed_tables(read(folders))
    assert table.header == ["", "seeds", "clean", "worst of evaluation", "AutoAttack", PROVEN]
