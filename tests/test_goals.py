"""Our best beside the goals, and the settings of our recipes: rows made of results/ and of the recipes."""

from pathlib import Path

import pytest

from bpfc.report.figures import Results
from bpfc.report.goals import GOALS, TO_BEAT, goals
from bpfc.report.own import own
from bpfc.report.tables import TABLES
from bpfc.training.own_recipes import BEST
from bpfc.training.recipes import RECIPES

RESULTS = Results(Path(__file__).parent.parent / "results")


def cells(made: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in made.split("\n\n")[0].splitlines()[2:]]


@pytest.mark.parametrize("data", GOALS)
def test_ours_stand_below_the_goals_and_what_is_published(data: str) -> None:
    rows = cells(TABLES["goals"](RESULTS))
    begins = [at for at, row in enumerate(rows) if row[0].endswith("the paper's BPFC")]
    names = [row[0].split(":")[0] for at, row in enumerate(rows) if at in begins]
    part = dict(zip(GOALS, (rows[a:b] for a, b in zip(begins, [*begins[1:], None], strict=True)), strict=True))[data]
    assert names == ["Fashion-MNIST", "MNIST", "CIFAR-10"]
    assert [row[0].startswith("– goal") for row in part].count(True) == len(GOALS[data])
    assert [row[0].endswith("(published)") for row in part].count(True) == len(TO_BEAT[data])
    assert part[-1][0].startswith("– **ours: ")
    assert part[-1][4] == "`fast`"


def test_no_goal_is_reached_as_results_md_says() -> None:
    rows = cells(TABLES["goals"](RESULTS))
    ours = [row for row in rows if "ours" in row[0]]
    for (data, wanted), row in zip(GOALS.items(), ours, strict=True):
        clean, stands = (float(cell.split(" ")[0]) / 100 for cell in row[2:4])
        for goal in wanted:
            assert clean < goal.clean or stands < goal.stands, data
    assert "**No goal is reached.**" in (RESULTS.folder.parent / "docs" / "results.md").read_text()


def test_what_was_not_run_is_said() -> None:
    made = goals(Results(Path("nowhere")), {"mnist": ("evaluation-fast", ())})
    assert cells(made)[-1] == ["– **ours**", "–", "not run", "not run", "–", "–"]


def test_every_recipe_of_ours_has_its_settings() -> None:
    rows = {row[0].strip("`"): row for row in cells(own(RESULTS))}
    both = {each for name in rows for each in (name, f"{name}-curve") if each in RECIPES}
    ours = {name for name, (text, recipe) in RECIPES.items() if "Class " in text and recipe.data in BEST}
    assert both == ours
    assert rows["mnist-best"][1:] == ["κ 0.3", "adam, 0.001, 32", "12", "`m-lenet-batchnorm@0.4-0.6`"]
    assert rows["fashion-mnist-bpfc-ibp"][1] == "k 6, λ 1, κ 0.5"
    assert rows["mnist-normal-fast"][1] == "–"
