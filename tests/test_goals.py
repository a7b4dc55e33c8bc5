"""Our best beside the goals, and the settings of our recipes: rows made of results/ and of the recipes."""

from pathlib import Path

import pytest
from test_report import put, summary

from bpfc.files import read_json
from bpfc.report.both_sides import over_seeds
from bpfc.report.figures import Results, paper, percent
from bpfc.report.goals import GOALS, Goal, goals
from bpfc.report.own import own
from bpfc.report.tables import OURS, TABLES
from bpfc.report.trade_off import PUBLISHED
from bpfc.training.own_recipes import BEST
from bpfc.training.recipes import RECIPES

RESULTS = Results(Path(__file__).parent.parent / "results")


def cells(made: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in made.split("\n\n")[0].splitlines()[2:]]


PAPERS = "trained here as the paper has it"


@pytest.mark.parametrize(
    ("data", "run"), [("fashion-mnist", "fashion-mnist-ibp-curve-20-epochs"), ("cifar-10", "cifar-10-bpfc")]
)
def test_ours_come_after_the_paper_what_is_published_and_the_goals(data: str, run: str) -> None:
    first, *between, last = cells(goals(RESULTS, {data: [("evaluation-fast", (run,))]}))
    assert first[1:5] == ["0", paper(data, "bpfc", "clean"), paper(data, "bpfc", "pgd-1000"), "PGD-1000"]
    published = [f"– {row.name} (published)" for row in PUBLISHED[data]]
    assert first[0].endswith(": the paper's BPFC")
    assert [row[0] for row in between] == published + ["– goal"] * len(GOALS[data])
    assert {row[1] for row in between[: len(published)]} == ({"3"} if data == "cifar-10" else {"0", "1"})  # MMR
    assert between[-1][1:4] == ["0 or 1", *(f"≥ {100 * share:g}" for share in GOALS[data][-1][:2])]
    assert last[1] == "0"
    found = RESULTS.summary(f"{run}/evaluation-fast")
    shares = percent(found["clean"]["accuracy"]), percent(found["worst_case"]["accuracy"])
    whose, under = ("ours", "`fast`") if data != "cifar-10" else (PAPERS, "earlier `fast` (Square: 100 queries)")
    assert (last[0], *last[2:5]) == (f"– **{whose}: {RESULTS.label(run)}**", *shares, under)


def test_seeds_of_one_row_are_of_the_same_images_and_all_or_none_have_proofs(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for run, more in (("a", {"images": 77}), ("b", {}), ("c", {"between": {"certified": 0.1}})):
        put(tmp_path / run / "evaluation" / "summary.json", summary() | more)
    with pytest.raises(ValueError, match="one table with different images"):
        over_seeds(results, "evaluation", ("a", "b"))
    with pytest.raises(ValueError, match="^b/evaluation: without certificates, which the other seeds have"):
        over_seeds(results, "evaluation", ("b", "c"))
    assert over_seeds(results, "evaluation", ("b", "d"))[1][2] == "–"


def reached(data: str) -> list[Goal]:
    """The goals that one of our rows reaches in all."""
    ours = [row for row in cells(goals(RESULTS, {data: OURS[data]})) if row[0].startswith("– **")]
    figures = [[float(cell.split(" ")[0]) / 100 for cell in (*row[2:4], row[5]) if cell != "–"] for row in ours]
    assert ours
    return [
        goal
        for goal in GOALS[data]
        if any(all(share >= (least or 0) for share, least in zip(row, goal, strict=False)) for row in figures)
    ]


def test_which_goals_are_reached_as_results_md_says() -> None:
    assert [reached(data) for data in GOALS] == [[GOALS["fashion-mnist"][1]], [], []]
    rows = cells(TABLES["goals"](RESULTS))
    *fashion, mnist, _ = (row for row in rows if row[0].startswith("– **"))
    told = " ".join((RESULTS.folder.parent / "docs" / "results.md").read_text().split())
    assert "**One goal is reached, by one training: the second on Fashion-MNIST.**" in told
    assert not any("±" in cell for cell in fashion[1])
    nets = next(row for row in rows if row[0].startswith("– ℓ∞-distance nets (pub"))
    assert "ℓ∞-distance nets have more proven than either of ours leaves under attack" in told
    assert len(fashion) == 2
    assert all(float(nets[5]) > float(row[3].split(" ")[0]) for row in fashion)
    assert "On MNIST all four published networks have more proven than ours" in told
    proven = [100 * (row.certified or 0) for row in PUBLISHED["mnist"]]
    assert len(proven) == 4
    assert min(proven) > float(mnist[5].split(" ")[0])


def test_a_smaller_share_of_the_bounds_reaches_the_second_goal() -> None:
    """As results.md has it in words."""
    second = GOALS["fashion-mnist"][1]
    told = " ".join((RESULTS.folder.parent / "docs" / "results.md").read_text().split())
    before = RESULTS.summary("fashion-mnist-ibp-curve-weight-0.2-12-epochs/evaluation-fast")
    assert before["worst_case"]["accuracy"] >= second.stands
    assert 0.01 <= second.clean - before["clean"]["accuracy"] < 0.015
    assert "With κ 0.2 and twelve epochs, one seed, enough stood, but clean accuracy lacked a point." in told
    found = RESULTS.summary("fashion-mnist-ibp-curve-weight-0.15-40-epochs/evaluation-fast")
    bpfc = RESULTS.summary("fashion-mnist-bpfc/evaluation-pgd-1000")
    clean, stands = (100 * found[what]["accuracy"] for what in ("clean", "worst_case"))
    assert 1 < clean - 100 * bpfc["clean"]["accuracy"] < 2
    assert 7 <= stands - 100 * bpfc["attacks"]["pgd-1000"]["accuracy"] < 8
    assert "over a point more clean accuracy than the paper's BPFC, as that was trained here" in told
    assert "and seven to eight points more stand" in told
    for name in ("standard", "both-ways"):
        attacked = RESULTS.summary(f"fashion-mnist-ibp-curve-weight-0.15-40-epochs/evaluation-{name}-1000")
        assert attacked["images"] == 1000
        assert {"aa-apgd-ce", "aa-apgd-t", "aa-fab-t", "aa-square"} <= attacked["attacks"].keys()
        assert attacked["worst_case"]["accuracy"] >= second.stands
        assert attacked["clean"]["accuracy"] >= second.clean
        assert attacked["worst_case"]["interval_95"][0] < second.stands
        assert any("gradients may be masked" in warning for warning in attacked["warnings"])
    assert found["worst_case"]["interval_95"][0] < second.stands
    assert found["between"]["certified"] < second.stands
    assert "What is certified lies below the goal" in told
    audited = read_json(RESULTS.folder / "fashion-mnist-ibp-curve-weight-0.15-40-epochs/audit-quick/audit.json")
    assert (audited["verdict"], audited["images"]) == ("stands", 200)
    assert "A quick audit, of 200 images, finds no masking and lets the figure stand" in told
    assert attacked["worst_case"]["accuracy"] < attacked["attacks"]["square-200"]["accuracy"]
    assert "Both runs warn of masked gradients" in told
    assert "It is reached narrowly: the intervals begin below it, on all 10,000 images too" in told
    assert "On the first 1,000 test images that leaves enough, on the images" in told
    fgsm_at = RESULTS.summary("fashion-mnist-fgsm-at/evaluation-pgd-1000")
    assert abs(stands - 100 * fgsm_at["attacks"]["pgd-1000"]["accuracy"]) < 1
    assert 0 < 100 * fgsm_at["clean"]["accuracy"] - clean < 1
    assert "stand about as high as FGSM-AT, whose clean accuracy is a little higher" in told


def test_what_was_not_run_is_left_out() -> None:
    made = goals(Results(Path("nowhere")), {"mnist": [("evaluation-fast", ("mnist-best",))]})
    assert cells(made)[-1][0] == "– goal"
    assert "Ours: not run." in made


def test_every_recipe_of_ours_has_its_settings() -> None:
    rows = {row[0].strip("`"): row for row in cells(own(RESULTS))}
    both = {each for name in rows for each in (name, f"{name}-curve") if each in RECIPES}
    ours = {name for name, (text, recipe) in RECIPES.items() if "Class " in text and recipe.data in BEST}
    assert both == ours
    assert rows["mnist-best"][1:] == ["κ 0.3", "adam, 0.001, 32", "0.999", "12", "`m-lenet-batchnorm@0.4-0.6`"]
    assert rows["fashion-mnist-bpfc-ibp"][1] == "k 6, λ 1, κ 0.5, blocks"
    assert rows["mnist-normal-fast"][1] == "–"
