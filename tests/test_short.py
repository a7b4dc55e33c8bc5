"""Short trainings with and without a tone curve: a row and two points a recipe, made of results/ alone."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from test_report import HARDWARE, put, share
from test_trade_off import SVG, drawn_points, judged, row, train, x_of_percent

from bpfc.files import read_json, write_jsonl
from bpfc.report.figures import Results
from bpfc.report.page.svg import BOTTOM, TOP
from bpfc.report.plane import HEIGHT
from bpfc.report.short import LENGTH, RECIPES, ROBUST, averaging, curves, pace, short, short_picture, weights
from bpfc.report.tables import TABLES

ROOT = Path(__file__).parent.parent


def judge(results: Results, recipe: str, clean: float, stands: float, behind: str = "", **changes: Any) -> None:
    """A short training on Fashion-MNIST by a recipe, behind its name perhaps -weight-λ or so, and its evaluation."""
    run = f"fashion-mnist-{recipe}{behind}-{LENGTH}"
    train(results, run, f"fashion-mnist-{recipe}", epochs=8, select="last")
    if behind.startswith("-weight"):
        settings = read_json(results.folder / run / "recipe.json")
        settings["method"]["weight"] = float(behind.split("-")[-1])
        put(results.folder / run / "recipe.json", settings)
    found = judged(stands, "apgd-50", "fgsm", "square-200", clean=share(clean), **{"images": 2000} | changes)
    put(results.folder / run / "evaluation-fast" / "summary.json", found)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """BPFC with both, IBP behind the curve alone, and BPFC by one more λ."""
    made = Results(tmp_path / "results")
    judge(made, "bpfc-fast", 0.85, 0.65)
    judge(made, "bpfc-fast-curve", 0.84, 0.67)
    judge(made, "ibp-curve", 0.80, 0.71, between={"certified": 0.7, "not_broken": 0.71, "open": 0.01})
    judge(made, "bpfc-fast", 0.90, 0.5, behind="-weight-5")
    return made


def test_a_recipe_stands_beside_itself_behind_the_curve(results: Results) -> None:
    made = short(results, "fashion-mnist")
    assert row(made, "BPFC")[1:] == ["0", "2", "85.0", "65.0", "–", "84.0", "67.0", "–"]
    assert row(made, "IBP")[3:] == ["not run", "not run", "–", "80.0", "71.0", "70.0"]
    assert len(made.split("\n\n")[0].splitlines()) == 2 + len(RECIPES)
    told = " ".join(made.split())
    assert "The first 2,000 test images, ε 0.1." in told
    assert "8 epochs, the last one kept, trained in fp32. One training a row, n = 1, seed 0." in told
    assert f"`results/fashion-mnist-ibp-curve-{LENGTH}/evaluation-fast`" in told


def test_classes_and_costs_are_told_whatever_was_run(results: Results) -> None:
    assert row(short(results, "fashion-mnist"), "IBP")[1:3] == ["0", "3"]
    assert row(short(results, "fashion-mnist"), "margin penalty at x")[1:3] == ["1", "4"]


def test_curves_stand_beside_each_other(results: Results) -> None:
    made = curves(results, "fashion-mnist")
    assert row(made, "none") == ["none", "–", "–", "not run", "not run", "–"]
    assert row(made, "fixed")[1:] == ["0", "`m-lenet-sparse@0.1-0.6`", "80.0", "71.0", "70.0"]


def test_averaging_stands_beside_none(results: Results) -> None:
    judge(results, "ibp-curve", 0.79, 0.7, behind="-unaveraged")
    for behind, decay in (("", 0.999), ("-unaveraged", None)):
        path = results.folder / f"fashion-mnist-ibp-curve{behind}-{LENGTH}" / "recipe.json"
        put(path, {**read_json(path), "averaging": decay})
    made = averaging(results, "fashion-mnist")
    assert row(made, "0.999")[1:] == ["0", "80.0", "71.0", "70.0"]
    assert row(made, "none")[1:] == ["0", "79.0", "70.0", "–"]
    put(path, {**read_json(path), "averaging": 0.9})
    with pytest.raises(ValueError, match="unaveraged.*was trained with averaging 0.9, not none$"):
        averaging(results, "fashion-mnist")


def test_lambda_goes_from_small_to_large(results: Results) -> None:
    made = weights(results, "fashion-mnist", "bpfc-fast").splitlines()
    assert [line.strip("| ").split(" | ")[0] for line in made[2:6]] == ["1", "5", "25", "100"]
    assert made[3:5] == ["| 5 | 0 | 90.0 | 50.0 | – |", "| 25 | 0 | 85.0 | 65.0 | – |"]
    assert "not run" in made[2]
    judge(results, "bpfc-fast", 0.9, 0.5, behind="-weight-100")
    path = results.folder / f"fashion-mnist-bpfc-fast-weight-100-{LENGTH}"
    path.rename(path.with_name(f"fashion-mnist-bpfc-fast-weight-1-{LENGTH}"))
    with pytest.raises(ValueError, match="weight-1-.*was trained with λ 100, not 1$"):
        weights(results, "fashion-mnist", "bpfc-fast")


def test_weights_tell_what_is_certified(results: Results) -> None:
    made = weights(results, "fashion-mnist", "ibp-curve").splitlines()
    assert made[0] == "| κ | class | clean | stands | certified |"
    assert made[4] == "| 0.5 | 0 | 80.0 | 71.0 | 70.0 |"
    assert made[2].startswith("| 0.1 | – | not run |")


@pytest.mark.parametrize(("field", "other"), [("eps", 0.2), ("data", "mnist"), ("images", 1000)])
def test_one_table_is_of_the_same_images(results: Results, field: str, other: object) -> None:
    judge(results, "box", 0.8, 0.6, **{field: other})
    for made in (short, short_picture):
        with pytest.raises(ValueError, match=f"different {field}"):
            made(results, "fashion-mnist")


def test_one_table_is_of_trainings_of_one_length(results: Results) -> None:
    judge(results, "box", 0.8, 0.6)
    train(results, f"fashion-mnist-box-{LENGTH}", "fashion-mnist-box", epochs=9, select="last")
    with pytest.raises(ValueError, match="different epochs"):
        short(results, "fashion-mnist")


def test_nothing_run_is_said(tmp_path: Path) -> None:
    assert "Not run." in short(Results(tmp_path), "fashion-mnist")
    with pytest.raises(
        ValueError, match="nothing to draw, for none of normal, .*, λ 100 was run and stands at 45 % or more"
    ):
        short_picture(Results(tmp_path), "fashion-mnist")


def ways(drawn: str) -> list[tuple[str, list[tuple[float, ...]]]]:
    """The kinds of lines through points in the plane, with these points."""
    found = re.findall(r'class="way (solid|dashed)" d="M([\d. L]+)"', drawn[: drawn.rindex("class 0")])
    return [(kind, [tuple(map(float, spot.split())) for spot in way.split("L")]) for kind, way in found]


def words(drawn: str) -> set[str]:
    return {each.text or "" for each in ElementTree.fromstring(drawn).iter(f"{SVG}text")}


def told(drawn: str) -> str:
    return ElementTree.fromstring(drawn).findtext(f"{SVG}desc") or ""


def test_lines_join_a_recipe_with_itself_and_go_along_lambda(results: Results) -> None:
    drawn = short_picture(results, "fashion-mnist")
    assert {"BPFC, 2×", "IBP, tone curve, 3×", "λ 5"} <= words(drawn)
    assert "BPFC, tone curve, 2×" not in words(drawn)  # a line leads there
    assert "BPFC, tone curve (class 0): 84.0 clean" in told(drawn)
    spots = {(x, y) for x, y, _ in drawn_points(drawn)}
    assert len(spots) == 4
    (dashed, pair), (solid, along) = ways(drawn)
    assert (dashed, solid) == ("dashed", "solid")
    assert (len(pair), len(along)) == (2, 2)
    assert pair[0] == along[1]  # BPFC by its own λ is on both
    assert {*pair, *along} <= spots


def test_a_line_breaks_off_where_a_point_is_missing(results: Results) -> None:
    judge(results, "bpfc-fast", 0.91, 0.48, behind="-weight-1")
    judge(results, "bpfc-fast", 0.80, 0.64, behind="-weight-100")
    (whole,) = [way for kind, way in ways(short_picture(results, "fashion-mnist")) if kind == "solid"]
    assert len(whole) == 4
    (results.folder / f"fashion-mnist-bpfc-fast-weight-5-{LENGTH}" / "evaluation-fast" / "summary.json").unlink()
    (rest,) = [way for kind, way in ways(short_picture(results, "fashion-mnist")) if kind == "solid"]
    assert rest == whole[2:]


def test_points_below_the_axis_are_named_in_the_legend_alone(results: Results) -> None:
    judge(results, "normal-fast", 0.92, 0.0)
    drawn = short_picture(results, "fashion-mnist")
    assert "not shown, below 45 %: normal" in words(drawn)
    assert len(drawn_points(drawn)) == 4
    assert "normal (class 0): 92.0 clean, 0.0 under `fast`" in (
        ElementTree.fromstring(drawn).findtext(f"{SVG}desc") or ""
    )
    assert row(short(results, "fashion-mnist"), "normal")[3:5] == ["92.0", "0.0"]
    judge(results, "normal-fast-curve", 0.91, 0.5)
    assert "normal, tone curve, 1×" in words(short_picture(results, "fashion-mnist"))  # nothing leads there


def test_the_committed_pictures_points_are_the_tables_rows() -> None:
    """The twin: figures read off the tables, and signs read off the picture by its own ticks."""
    results = Results(ROOT / "results")
    drawn = (ROOT / "docs" / "short-fashion-mnist.svg").read_text()
    factor, offset = x_of_percent(drawn)
    expected = []
    for name, pairs in (("short-fashion-mnist", ((3, 4), (6, 7))), ("short-weights-fashion-mnist", ((2, 3),))):
        for line in TABLES[name](results).split("\n\n")[0].splitlines()[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] == "25":
                continue  # the recipe's own: in the first table too
            for clean, stands in ((cells[left], cells[right]) for left, right in pairs):
                if stands != "not run" and float(stands) >= ROBUST.low:
                    y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - ROBUST.share(float(stands)))
                    expected.append((factor * float(clean) + offset, y))
    found = [(x, y) for x, y, _ in drawn_points(drawn)]
    assert len(found) == len(expected) > 6
    for one, other in zip(expected, found, strict=True):
        assert one[0] == pytest.approx(other[0], abs=0.06 * factor + 0.6)
        assert one[1] == pytest.approx(other[1], abs=0.8)


def test_seconds_are_those_of_the_fastest_epoch(results: Results) -> None:
    """Of a loaded machine a slower one tells nothing."""
    judge(results, "normal-fast", 0.9, 0.0)
    for recipe, seconds in (("normal-fast", (20.0, 10.0)), ("bpfc-fast", (19.0, 33.0))):
        run = results.folder / f"fashion-mnist-{recipe}-{LENGTH}"
        write_jsonl(run / "log.jsonl", [{"epoch": n, "train_seconds": each} for n, each in enumerate(seconds)])
        put(run / "provenance.json", [{"hardware": HARDWARE}])
    made = pace(results, "fashion-mnist")
    assert row(made, "normal")[1:] == ["0", "1", "sgd", "64", "–", "10", "1.0"]
    assert row(made, "BPFC")[1:] == ["0", "2", "sgd", "64", "–", "19", "1.9"]
    assert "in fp32 on 1 thread of Intel Xeon Processor." in " ".join(made.split())
    put(run / "provenance.json", [{"hardware": HARDWARE | {"threads": 2}}])
    with pytest.raises(ValueError, match="different machine"):
        pace(results, "fashion-mnist")


def test_what_a_step_takes_as_readme_and_methods_md_say() -> None:
    found = {}
    for line in TABLES["pace"](Results(ROOT / "results")).split("\n\n")[0].splitlines()[2:]:
        name, *_, times = (cell.strip() for cell in line.strip("|").split("|"))
        found[name] = float(times)
    assert (round(found["BPFC"]), round(found["margin penalty at x"])) == (2, 4)
    assert (round(found["IBP"]), round(found["BPFC with IBP"])) == (6, 7)
    told = " ".join((ROOT / "README.md").read_text().split())
    assert "BPFC takes about twice, interval bounds about six times as long as normal training" in told
