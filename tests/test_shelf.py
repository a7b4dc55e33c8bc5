"""Which figures of the runs that are there are those of the paper's tables: made of files, without any training."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bpfc.attacks import FGSM, PGD
from bpfc.files import write_json, write_jsonl
from bpfc.report.accuracy import accuracies
from bpfc.report.budgets import BUDGETS
from bpfc.report.figures import Results
from bpfc.report.reproduction import compared
from bpfc.report.shelf import shelf
from bpfc.report.task import Task
from bpfc.training.recipe import Recipe, recipe_json

WHITE, BLACK = (Task(name, "mnist", BUDGETS["quick"], 20, 1, ("bpfc",)) for name in ("table2", "table3"))
RESULTS = Results(Path(__file__).parent.parent / "results")
RECIPE = WHITE.recipe("bpfc", 0)
SETTINGS = repr(PGD(RECIPE.eps, RECIPE.step_size, 20))


def finished(folder: Path, recipe: Recipe, weights: bytes | None = None) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "recipe.json", recipe_json(recipe, "fp32"))
    write_jsonl(folder / "log.jsonl", [{"train_seconds": 60.0}] * recipe.epochs)
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)


def share(accuracy: float) -> dict[str, float]:
    return {"accuracy": accuracy}


def white_box(**changes: object) -> list[str]:
    """The row of a run whose evaluation is the planned one but for the changes; None takes an entry away."""
    summary = {
        "attack_settings": {"pgd-20": SETTINGS},
        "norm": "linf",
        "eps": RECIPE.eps,
        "cascade": False,
        "eot": None,
        "data": "mnist",
        "images": 20,
        "clean": share(0.75),
        "attacks": {"pgd-20": share(0.5)},
    } | changes
    run = Path("runs/mine")
    if not run.exists():
        finished(run, RECIPE)
        (run / "evaluation").mkdir()
    write_json(run / "evaluation" / "summary.json", {name: value for name, value in summary.items() if value != "gone"})
    row = compared(WHITE, shelf([Path("runs")]))[1][0]
    return [row[4], row[7]]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_planned_attack_counts_as_versions_before_this_wrote_it_too() -> None:
    assert white_box() == ["75.0", "50.0"]
    step = SETTINGS.replace("step_size=", "step=")
    assert step != SETTINGS
    for told in (step, f"PGD(eps={RECIPE.eps}, step={RECIPE.step_size}, steps=20)"):
        assert white_box(attack_settings={"pgd-20": told}) == ["75.0", "50.0"]
    for name in ("attack_settings", "norm", "eot", "data"):
        assert white_box(**{name: "gone"}) == ["75.0", "50.0"]
    assert white_box(eot=0) == ["75.0", "50.0"]  # as None was written
    assert white_box(eps=RECIPE.eps + 1e-12) == ["75.0", "50.0"]


def test_another_attack_of_the_name_does_not_count() -> None:
    """A step of a millionth, which breaks nothing, stood in the table as PGD-20."""
    other = [
        PGD(RECIPE.eps, 1e-6, 20),
        PGD(RECIPE.eps, RECIPE.step_size, 2),
        PGD(RECIPE.eps, RECIPE.step_size, 20, "margin"),
    ]
    for told in (*map(repr, other), SETTINGS.replace("PGD", "APGD"), SETTINGS.replace("steps", "walks"), "?"):
        assert white_box(attack_settings={"pgd-20": told}) == ["75.0", "not run"]


def test_figures_of_other_data_or_of_a_mean_of_answers_do_not_count() -> None:
    for changes in ({"data": "some-other-data"}, {"eot": 20}, {"eps": 0.001}, {"norm": "l2"}):
        assert white_box(**changes) == ["not run", "not run"]


def test_the_caption_says_which_columns_judge_the_last_iterate_alone() -> None:
    def caption(seeds: int = 1) -> str:
        return compared(replace(WHITE, seeds=seeds), shelf([Path("runs")]))[2]

    white_box()
    assert "last iterate" not in caption()
    settings = {"pgd-20-last": SETTINGS}
    assert white_box(attack_settings=settings, attacks={"pgd-20-last": share(0.4)}) == ["75.0", "40.0"]
    assert "the first 20 test images. PGD-20 judges the last iterate alone. Trained by" in caption()
    shutil.copytree("runs/mine", "runs/other")
    write_json(Path("runs/other/recipe.json"), recipe_json(replace(RECIPE, seed=1), "fp32"))
    white_box()
    assert "PGD-20 (in part) judges the last iterate alone." in caption(seeds=2)


def test_so_does_that_of_accuracies() -> None:
    name, attacks = "cifar-10-bpfc/evaluation-10000", ("fgsm", "pgd-7-last", "pgd-20-last", "pgd-100")
    assert "PGD-7 and PGD-20 judge the last iterate alone." in accuracies(RESULTS, [name], attacks)
    assert "last iterate" not in accuracies(RESULTS, [name], attacks[::3])
    name = "fashion-mnist-bpfc/evaluation-pgd-1000"  # whose header says it
    assert accuracies(RESULTS, [name], ("pgd-1000", "pgd-1000-last")).count("last iterate") == 1


TARGET, SOURCES = "target", {name: BLACK.sources(0)[name] for name in ("net-a", "m-lenet")}
PROVEN = hashlib.sha256(b"weights").hexdigest()


def black_box(**changes: Any) -> list[str]:
    """The row of a black-box evaluation on two sources with weights."""
    runs = Path("runs")
    if not runs.exists():
        finished(runs / TARGET, RECIPE, b"weights")
        for name, recipe in SOURCES.items():
            finished(runs / name, recipe, b"weights")
        (runs / "table" / TARGET).mkdir(parents=True)
    target = {"images": 20, "clean": share(0.75), "attacks": {f"fgsm@{name}": share(0.5) for name in SOURCES}}
    content = {
        "attack_settings": {"fgsm": repr(FGSM(RECIPE.eps))},
        "norm": "linf",
        "eps": RECIPE.eps,
        "data": "mnist",
        "sources_sha256": dict.fromkeys(SOURCES, PROVEN),
        "targets": {TARGET: target},
    } | changes
    write_json(runs / "table" / "summary.json", {name: value for name, value in content.items() if value != "gone"})
    row = compared(BLACK, shelf([runs]))[1][0]
    return row[3:6]


def test_images_of_the_sources_that_are_there_count() -> None:
    assert black_box() == ["75.0", "50.0", "50.0"]
    assert black_box(attack_settings="gone", norm="gone") == ["75.0", "50.0", "50.0"]
    assert black_box(sources_sha256={"net-a": PROVEN, "m-lenet": "0" * 64}) == ["75.0", "50.0", "not run"]
    (Path("runs") / "m-lenet" / "model.safetensors").unlink()
    assert black_box(sources_sha256={"net-a": PROVEN, "m-lenet": "0" * 64}) == ["75.0", "50.0", "50.0"]


def test_a_black_box_of_another_ball_or_attack_does_not_count() -> None:
    """ε 0.001 stood in the table of ε 0.3."""
    assert black_box(eps=0.001, attack_settings={"fgsm": repr(FGSM(0.001))}) == ["not run"] * 3
    assert black_box(data="fashion-mnist") == ["not run"] * 3
    assert black_box(attack_settings={"fgsm": repr(FGSM(0.001))}) == ["75.0", "not run", "not run"]


def test_a_target_that_was_trained_anew_since_does_not_count() -> None:
    black_box()
    header = Path("runs/table") / TARGET / "evaluation.json"
    write_json(header, {"weights_sha256": PROVEN})
    assert black_box() == ["75.0", "50.0", "50.0"]
    write_json(header, {"weights_sha256": "0" * 64})
    assert black_box() == ["not run"] * 3


def test_a_recipe_is_known_by_all_but_its_look_at_validation_images() -> None:
    finished(Path("runs/mine"), replace(RECIPE, validation_attacked=7))
    finished(Path("runs/other"), replace(RECIPE, lr=0.5))
    assert [known.run.name for known in shelf([Path("runs")]).of(RECIPE)] == ["mine"]
