"""The trade-off between clean and robust accuracy: a row and a point a recipe, made of results/ alone."""

import random
import re
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from test_report import put, share, summary

from bpfc.evaluation import Context, ThreatModel, parse
from bpfc.report.both_sides import spread
from bpfc.report.figures import Results
from bpfc.report.goals import GOALS
from bpfc.report.page.labels import Box, Label, placed
from bpfc.report.page.svg import BOTTOM, LEFT, RIGHT, TOP
from bpfc.report.plane import HEIGHT, WIDTH, Way, drawn
from bpfc.report.tables import PICTURES, TABLES, write_tables
from bpfc.report.trade_off import AUTOATTACK, IMAGES, PUBLISHED, RUNS, Point, points, suite, trade_off
from bpfc.report.trade_off_picture import CLOSER, picture
from bpfc.training.recipe import recipe_json
from bpfc.training.recipes import RECIPES

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


def judged(stands: float, *attacks: str, **changes: Any) -> dict[str, Any]:
    """An evaluation of all test images, under attacks that break one thousandth more each."""
    found = {name: share(stands + 0.001 * n) for n, name in enumerate(reversed(attacks))}
    return summary(**({"images": IMAGES["fashion-mnist"], "attacks": found, "worst_case": share(stands)} | changes))


def train(results: Results, run: str, name: str, **settings: Any) -> None:
    """A run by a real recipe, as far as tables read it."""
    put(results.folder / run / "recipe.json", recipe_json(RECIPES[name][1], "fp32") | settings)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """BPFC with two evaluations of all test images and one of fewer, which has the lowest figure; PGD-AT without."""
    made = Results(tmp_path / "results")
    train(made, "fashion-mnist-bpfc", "fashion-mnist-bpfc")
    train(made, "fashion-mnist-pgd-at-6-epochs", "fashion-mnist-pgd-at", epochs=6)
    for name, found in {
        "evaluation-10000": judged(0.68, "fgsm", "pgd-100"),
        "evaluation-pgd-1000": judged(0.67, "pgd-1000-last", "pgd-1000"),
        "evaluation-standard": judged(0.60, *sorted(AUTOATTACK), images=1000),
    }.items():
        put(made.folder / "fashion-mnist-bpfc" / name / "summary.json", found)
    return made


def row(made: str, name: str) -> list[str]:
    """The cells of the row of that name."""
    (found,) = [line for line in made.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_lowest_figure_on_all_test_images_stands(results: Results) -> None:
    made = trade_off(results, "fashion-mnist")
    assert row(made, "BPFC") == ["BPFC", "0", "2", "`m-lenet`", "50", "86.0", "67.0", "PGD-1000", "–"]
    told = " ".join(made.split())
    assert "all 10,000 test images, ε 0.1. Of fewer" in told
    assert "One training a row, n = 1, seed 0." in told
    assert "From `results/fashion-mnist-bpfc/evaluation-pgd-1000`." in told


def test_what_another_attack_leaves_of_fewer_images_is_told_where_chance_does_not_explain_it(results: Results) -> None:
    told = " ".join(trade_off(results, "fashion-mnist").split())
    lower = "Of fewer images other attacks leave less, beyond the 95 % interval: BPFC 60.0 under AutoAttack"
    assert f"{lower} (the first 1,000). One training" in told
    drawn = picture(results, "fashion-mnist")
    assert "67.0 under PGD-1000, 60.0 under AutoAttack of 1,000 images;" in drawn
    (end,) = re.findall(r'class="arrow" d="M[\d.]+ [\d.]+V([\d.]+)', drawn[: drawn.rindex("class 0")])
    at = TOP + (HEIGHT - TOP - BOTTOM) * (1 - CLOSER["fashion-mnist"].share(60))
    assert float(end) == pytest.approx(at, abs=0.06)
    path = results.folder / "fashion-mnist-bpfc" / "evaluation-standard" / "summary.json"
    for found in (
        judged(0.665, *sorted(AUTOATTACK), images=1000),  # its interval holds the point
        judged(0.60, "pgd-1000", images=1000),  # the same attack: the images are harder
        judged(0.60, *sorted(AUTOATTACK), images=500),
        judged(0.60, *sorted(AUTOATTACK), images=1000, eps=0.2),
    ):
        put(path, found)
        assert "Of fewer images" not in trade_off(results, "fashion-mnist")
        assert 'class="arrow"' not in picture(results, "fashion-mnist")


def test_a_whole_suite_has_its_name() -> None:
    assert suite(sorted(AUTOATTACK)) == "AutoAttack"
    assert suite(["apgd-50", "fgsm", "square-200", *AUTOATTACK]) == "AutoAttack and others"
    assert suite(["apgd-50", "apgd-focused-100", "fgsm", "square-200"]) == "earlier `fast`"
    assert suite(["apgd-50", "behind-t3-20x2", "fgsm", "square-100"]) == "`fast` (Square: 100 queries)"
    assert suite(["apgd-50", "apgd-t3-50x2", "fgsm", "square-200"]) == "earlier `fast`"
    both = suite(["apgd-50", "apgd-t3-50x2", "fgsm", "square-100"])
    assert both == "earlier `fast` (Square: 100 queries)"
    assert suite(parse("fast", Context(ThreatModel("linf", 0.1), channels=1)).names) == "`fast`"
    assert suite(["apgd-50", "square-200"]) is None
    assert suite(["apgd-50", "fgsm"]) is None


def test_goals_are_stars_and_short_trainings_say_so(results: Results) -> None:
    drawn = picture(results, "fashion-mnist")
    words = {each.text or "" for each in ElementTree.fromstring(drawn).iter(f"{SVG}text")}
    assert drawn.count('class="goal"') == 1 + len(GOALS["fashion-mnist"])  # one in the legend
    assert {"goal", "ep.: epochs, where they were fewer than the paper's 50"} <= words
    assert not any("half width" in each for each in words)
    put(results.folder / "fashion-mnist-pgd-at-6-epochs" / "evaluation-10000" / "summary.json", judged(0.7, "pgd-100"))
    assert "PGD-AT, 6 ep., 41×" in picture(results, "fashion-mnist")


def test_autoattack_and_certificates_of_all_test_images_count(results: Results) -> None:
    between = {"certified": 0.61, "not_broken": 0.66, "open": 0.05}
    path = results.folder / "fashion-mnist-bpfc" / "evaluation-standard" / "summary.json"
    put(path, judged(0.66, *sorted(AUTOATTACK), between=between))
    assert row(trade_off(results, "fashion-mnist"), "BPFC")[5:] == ["86.0", "66.0", "AutoAttack", "61.0"]
    put(path, judged(0.66, "behind-50", *sorted(AUTOATTACK), between=between))
    assert row(trade_off(results, "fashion-mnist"), "BPFC")[7] == "AutoAttack and others"
    put(path, judged(0.66, *sorted(AUTOATTACK)[1:], between=between))
    assert row(trade_off(results, "fashion-mnist"), "BPFC")[7] == sorted(AUTOATTACK)[-1]


def test_what_has_no_evaluation_of_all_test_images_reads_not_run(results: Results) -> None:
    made = trade_off(results, "fashion-mnist")
    assert row(made, "PGD-AT") == ["PGD-AT", "5", "41", "`m-lenet`", "6", "not run", "not run", "–", "–"]
    assert row(made, "rss-at") == ["rss-at", *["–"] * 4, "not run", "not run", "–", "–"]
    assert len(made.split("\n\n")[0].splitlines()) == 2 + len(RUNS["fashion-mnist"]) + len(PUBLISHED["fashion-mnist"])
    assert not (results.folder / "fashion-mnist-rss-at").exists()


def test_own_recipes_are_named_with_their_curve(results: Results) -> None:
    train(results, "fashion-mnist-ibp-curve-20-epochs", "fashion-mnist-ibp-curve", epochs=20)
    made = row(trade_off(results, "fashion-mnist"), "IBP, tone curve")
    assert made[1:5] == ["0", "3", "`m-lenet-sparse@0.1-0.6`", "20"]


@pytest.mark.parametrize(("field", "other"), [("eps", 0.2), ("data", "mnist")])
def test_one_table_has_one_data_set_and_radius(results: Results, field: str, other: object) -> None:
    found = judged(0.7, "pgd-100", **{field: other})
    put(results.folder / "fashion-mnist-bpfc" / "evaluation-worst" / "summary.json", found)
    with pytest.raises(ValueError, match=f"different {field}.*make two tables"):
        trade_off(results, "fashion-mnist")


def test_a_caption_says_by_what_epochs_were_chosen(results: Results) -> None:
    chosen = "Their epochs were chosen by I-FGSM on validation images"
    assert f"{chosen}. From" in " ".join(trade_off(results, "fashion-mnist").split())
    train(results, "fashion-mnist-ibp-curve-20-epochs", "fashion-mnist-ibp-curve")
    put(results.folder / "fashion-mnist-ibp-curve-20-epochs" / "evaluation-standard" / "summary.json", judged(0.7, "x"))
    told = " ".join(trade_off(results, "fashion-mnist").split())
    assert f"{chosen}, but for `fashion-mnist-ibp-curve-20-epochs`, whose last one is kept. From" in told


def test_published_figures_are_shares_and_have_their_source() -> None:
    for found in (each for rows in PUBLISHED.values() for each in rows):
        shares = [share for share in (found.certified, found.stands, found.clean) if share is not None]
        assert sorted(shares) == shares
        assert 0.3 < shares[0] < shares[-1] < 1
        assert re.search(r"\d{4}", found.source)
        assert bool(found.under) == (found.stands is not None)


# The picture


def drawn_points(drawn: str) -> list[tuple[float, float, bool]]:
    """Where the signs in the plane stand, in figures' units, and whether they are hollow."""
    found = []
    root = ElementTree.fromstring(drawn)
    for parent, hollow in ((root, False), *((group, True) for group in root.findall(f"{SVG}g[@class='hollow']"))):
        for path in parent.findall(f"{SVG}path"):
            if (path.get("class") or "").startswith("mark"):
                x, y = re.findall(r"[\d.]+", path.get("transform") or "")
                found.append((float(x), float(y), hollow))
    return found


def x_of_percent(drawn: str) -> tuple[float, float]:
    """Factor and offset from per cent to figures' units, from the ticks below the plane."""
    ticks = [
        (float(each.text or ""), float(each.get("x") or ""))
        for each in ElementTree.fromstring(drawn).iter(f"{SVG}text")
        if each.get("class") == "tick" and each.get("text-anchor") == "middle"
    ]
    (low, left), *_, (high, right) = ticks
    factor = (right - left) / (high - low)
    return factor, left - factor * low


def half_width(results: Results, data: str) -> list[tuple[float, float]]:
    """Read off the tables of short trainings: BPFC along its λ where there are several, and the margin penalty."""
    found = []
    for name, row, (clean, stands) in (
        (f"short-weights-{data}", r"\| \d+ \|", (2, 3)),
        (f"short-{data}", r"\| margin penalty at x \|", (6, 7)),
    ):
        for line in TABLES[name](results).splitlines() if name in TABLES else ():
            if re.match(row, line):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                found.append((float(cells[clean]), float(cells[stands])))
    return found


@pytest.mark.parametrize("data", RUNS)
def test_the_committed_pictures_points_are_the_tables_rows(data: str) -> None:
    """The twin: figures read off the table, and signs read off the picture by its own ticks."""
    results = Results(ROOT / "results")
    drawn = (ROOT / "docs" / f"trade-off-{data}.svg").read_text()
    factor, offset = x_of_percent(drawn)
    axis = CLOSER[data]
    expected = []
    for line in trade_off(results, data).splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9 and cells[5] != "not run":
            robust = float(cells[8] if cells[6] == "–" else cells[6])
            if robust < axis.low:
                continue  # the legend names it
            y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - axis.share(robust))
            expected.append((factor * float(cells[5]) + offset, y, "(published)" in cells[0]))
    for clean, stands in half_width(results, data):
        if stands >= axis.low:
            y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - axis.share(stands))
            expected.append((factor * clean + offset, y, False))
    found = drawn_points(drawn)
    assert len(expected) == len(found) > len(PUBLISHED[data])
    for one, other in zip(sorted(expected, key=lambda each: each[2]), found, strict=True):
        assert one[2] == other[2]
        assert one[0] == pytest.approx(other[0], abs=0.06 * factor + 0.6)  # the table and the ticks are rounded
        assert one[1] == pytest.approx(other[1], abs=0.06 * (HEIGHT - TOP - BOTTOM) / (axis.high - axis.low) + 0.1)
        assert LEFT <= other[0] <= WIDTH - RIGHT


def test_a_picture_stands_alone_and_is_told_in_words(results: Results) -> None:
    drawn = picture(results, "fashion-mnist")
    assert drawn == picture(results, "fashion-mnist")
    root = ElementTree.fromstring(drawn)
    assert root.tag == f"{SVG}svg"
    title, told = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc") or ""
    assert title == "Fashion-MNIST: clean and robust accuracy"
    assert "BPFC (class 0): 86.0 clean, 67.0 under PGD-1000, 60.0 under AutoAttack of 1,000 images;" in told
    assert "PGD-AT, 6 ep.: not run;" in told
    assert "rss-at: not run;" in told
    assert "ℓ∞-distance nets (class 0, published): 87.9 clean, 79.2 certified" in told
    assert not re.search(r"href|@import|url\(", drawn)
    words = [each.text or "" for each in root.iter(f"{SVG}text")]
    assert {"BPFC, 2×", "MMR", "clean accuracy, %", "accuracy under attack, %"} <= set(words)
    assert not any("class 5" in each for each in words)


def test_lines_go_down_to_what_is_certified(results: Results) -> None:
    drawn = picture(results, "fashion-mnist")
    plane = drawn[: drawn.rindex("class 0")]
    ends = [float(end) for end in re.findall(r'class="line s[01]" d="M[\d.]+ [\d.]+V([\d.]+)', plane)]
    certified = [100 * point.certified for point in points(results, "fashion-mnist") if point.certified is not None]
    at = [TOP + (HEIGHT - TOP - BOTTOM) * (1 - CLOSER["fashion-mnist"].share(share)) for share in certified]
    assert ends == pytest.approx(at, abs=0.06)


def hits(one: Box, other: Box) -> bool:
    """Whether two boxes overlap, by their centres."""
    across = abs((one.left + one.right) - (other.left + other.right)) < one.right - one.left + other.right - other.left
    down = abs((one.top + one.bottom) - (other.top + other.bottom)) < one.bottom - one.top + other.bottom - other.top
    return across and down


@pytest.mark.parametrize("seed", range(3))
def test_names_hide_no_point_and_no_name(seed: int) -> None:
    draw = random.Random(seed)
    room = Box(0, 0, 360, 360)
    names = [(f"recipe {n}", (draw.gauss(180, 40), draw.gauss(120, 25))) for n in range(14)]
    found: list[Label] = placed(names, room)
    assert [(each.words, each.spot) for each in found] == names
    for one, other in combinations(found, 2):
        assert not hits(one.box, other.box), (one, other)
    for label in found:
        assert label.box.within(room)
        for _, (x, y) in names:
            assert not hits(label.box, Box(x - 4, y - 4, x + 4, y + 4)), label


def test_where_lines_leave_no_room_a_name_lies_on_them_and_hides_no_point() -> None:
    def at(n: int) -> Point:
        return Point(f"the recipe number {n}", 0, None, "", "", 0.8 + 0.1 * (n % 2), n / 50, "", None)

    every = [at(n) for n in range(51)]  # a zigzag over the whole plane, its lines nearer than a name is high
    made = drawn("zigzag", "A zigzag", every, ways=[Way(every, "solid", "all")], unnamed=every[1:])
    spots = [(x, y) for x, y, _ in drawn_points(made)]
    assert len(spots) == len(every)
    (name,) = (each for each in ElementTree.fromstring(made).iter(f"{SVG}text") if each.text == every[0].name)
    x, y = float(name.get("x") or ""), float(name.get("y") or "") - 4
    assert not any(x < left < x + 60 and y - 4 < down < y + 4 for left, down in spots)
    assert any(min(one, other) < y < max(one, other) for (_, one), (_, other) in pairwise(spots))


def test_too_many_names_are_an_error() -> None:
    with pytest.raises(ValueError, match="no free place for 'name.*make it larger or show fewer points"):
        placed([(f"name {n}", (20.0, 10.0 + n)) for n in range(12)], Box(0, 0, 80, 40))


def test_a_picture_is_written_beside_the_page_that_shows_it(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("![Points](trade-off-fashion-mnist.svg) and ![another](other.svg)\n")
    write_tables((page,), results.folder)
    assert {f"trade-off-{data}.svg" for data in RUNS} < set(PICTURES)
    assert [path.name for path in tmp_path.glob("*.svg")] == ["trade-off-fashion-mnist.svg"]
    assert (tmp_path / "trade-off-fashion-mnist.svg").read_text() == picture(results, "fashion-mnist")


def test_seeds_are_told_by_mean_and_deviation() -> None:
    assert spread([0.5]) == "50.0"
    assert spread([0.5, 0.6]) == "55.0 ± 7.1"
