"""The recipes beyond the paper after short trainings: each with and without a tone curve, and along their weights."""

from collections.abc import Sequence

from bpfc.methods.classes import standing
from bpfc.report.captions import captioned, check_same, shown_images, shown_seeds, shown_sources
from bpfc.report.figures import DATA, Results, percent
from bpfc.report.page.svg import Axis
from bpfc.report.trade_off import Point, point_of
from bpfc.report.trade_off_picture import Way, drawn
from bpfc.training.recipes import RECIPES as ALL

RECIPES = {
    "normal-fast": "normal",
    "bpfc-fast": "BPFC",
    "bpfc-blocks": "block noise",
    "box": "box consistency",
    "margin": "margin penalty at x",
    "margin-coarse": "margin penalty at q(x)",
    "ibp": "IBP",
    "bpfc-ibp": "BPFC with IBP",
}
"""How a table calls a recipe, by its name without the data set's in front and -curve behind."""
WEIGHTS: dict[str, tuple[str, float, tuple[float, ...]]] = {
    "bpfc-fast": ("λ", 25, (1, 5, 100)),
    "ibp-curve": ("κ", 0.5, (0.1, 0.2)),
}
"""By recipe on Fashion-MNIST: what formulas call its weight, the recipe's own, and others, whose runs have -weight-… in
their names."""
CURVES = {"none": "ibp", "fixed": "ibp-curve", "learned": "ibp-learned-curve"}
"""Recipes with interval bounds, by the curve in front of the network."""
AVERAGING = {"0.999": "ibp-curve", "none": "ibp-curve-unaveraged"}
"""Recipes with interval bounds, by the decay of the moving average of the weights."""
LENGTH = "half-8-epochs"
"""Of all these trainings: the network's width, and the epochs. A run's folder is DATA-RECIPE-LENGTH."""
SUITE = "evaluation-fast"
ROBUST = Axis("accuracy under attack, %", 45, 80, range(50, 81, 10))
"""Of the picture: normal training stands below it, and is named in the legend."""


def short(results: Results, data: str) -> str:
    """A row a recipe, in %: by itself, then behind a tone curve.

    Raises:
        ValueError: the evaluations are of different images or ε.
    """
    pairs = _pairs(results, data)
    rows = []
    for recipe, (bare, curve) in zip(RECIPES, pairs, strict=True):
        number, cost = standing(ALL[f"{data}-{recipe}"][1].method)
        rows.append([bare.name, f"{number}", f"{cost}", *_shares(bare), *_shares(curve)])
    columns = ("clean", "stands", "certified")
    header = ["", "class", "cost", *columns, *(f"curve: {column}" for column in columns)]
    return captioned(header, rows, _caption(results, [point for pair in pairs for point in pair]))


def weights(results: Results, data: str, recipe: str) -> str:
    """A row a weight of the recipe, in %.

    Raises:
        ValueError: the evaluations are of different images or ε, or a run has another weight than its name.
    """
    symbol, own, others = WEIGHTS[recipe]
    points = _weighted(results, data, recipe)
    rows = [[f"{weight}", *_shares(point)] for weight, point in zip(sorted({own, *others}), points, strict=True)]
    return captioned([symbol, "clean", "stands", "certified"], rows, _caption(results, points))


def curves(results: Results, data: str) -> str:
    """A row a curve in front of the same recipe with interval bounds, in %.

    Raises:
        ValueError: the evaluations are of different images or ε.
    """
    points = [_point(results, f"{data}-{recipe}", name) for name, recipe in CURVES.items()]
    rows = [[point.name, point.network or "–", *_shares(point)] for point in points]
    return captioned(["curve", "network", "clean", "stands", "certified"], rows, _caption(results, points))


def averaging(results: Results, data: str) -> str:
    """A row a decay of the moving average of the weights, of the same recipe with interval bounds, in %.

    Raises:
        ValueError: the evaluations are of different images or ε, or a run has another decay than its row.
    """
    points = [_point(results, f"{data}-{recipe}", name) for name, recipe in AVERAGING.items()]
    for point in points:
        if not point.source:
            continue
        decay = results.recipe(point.source.split("/")[0])["averaging"]
        if (kept := "none" if decay is None else f"{decay:g}") != point.name:
            raise ValueError(f"{point.source}: was trained with averaging {kept}, not {point.name}")
    rows = [[point.name, *_shares(point)] for point in points]
    return captioned(["decay", "clean", "stands", "certified"], rows, _caption(results, points))


def short_picture(results: Results, data: str) -> str:
    """An SVG file: a line from each recipe to itself behind the curve, and one along BPFC's λ.

    Raises:
        ValueError: nothing was run, the evaluations are of different images or ε, or there is no room for the names.
    """
    pairs = [(bare, curve._replace(name=f"{curve.name}, tone curve")) for bare, curve in _pairs(results, data)]
    along = _weighted(results, data, "bpfc-fast")
    every = list(dict.fromkeys([*(point for pair in pairs for point in pair), *along]))
    _caption(results, every)
    ways = [Way(pair, "dashed", "to the same recipe behind a tone curve") for pair in pairs]
    ways.append(Way(along, "solid", "BPFC with other λ, without a curve"))
    ends = [curve for bare, curve in pairs if 100 * (bare.stands or 0) >= ROBUST.low]  # their beginnings have names
    title = f"{DATA[data]}: clean and robust accuracy after short trainings"
    return drawn(f"short-{data}", title, every, ROBUST, ways, ends)


def _pairs(results: Results, data: str) -> list[tuple[Point, Point]]:
    """Each recipe by itself, and behind the curve."""
    return [
        (_point(results, f"{data}-{recipe}", name), _point(results, f"{data}-{recipe}-curve", name))
        for recipe, name in RECIPES.items()
    ]


def _weighted(results: Results, data: str, recipe: str) -> list[Point]:
    """A recipe from its smallest weight to its largest."""
    symbol, own, others = WEIGHTS[recipe]
    found = []
    for weight in sorted({own, *others}):
        if weight == own:
            found.append(_point(results, f"{data}-{recipe}", RECIPES[recipe.removesuffix("-curve")]))
            continue
        point = _point(results, f"{data}-{recipe}-weight-{weight:g}", f"{symbol} {weight:g}")
        if point.source and (kept := results.recipe(point.source.split("/")[0])["method"]["weight"]) != weight:
            raise ValueError(f"{point.source}: was trained with {symbol} {kept:g}, not {weight:g}")
        found.append(point._replace(cost=None))  # it stands beside the recipe's name
    return found


def _point(results: Results, run: str, name: str) -> Point:
    evaluation = f"{run}-{LENGTH}/{SUITE}"
    found = {evaluation: results.summary(evaluation)} if results.has(evaluation) else {}
    return point_of(results, f"{run}-{LENGTH}", found)._replace(name=name)


def _shares(point: Point) -> list[str]:
    proven = "–" if point.certified is None else percent(point.certified)
    return [percent(point.clean), percent(point.stands), proven]


def _caption(results: Results, points: Sequence[Point]) -> str:
    """Raises ValueError where the evaluations or trainings are not alike."""
    sources = [point.source for point in points if point.source]
    if not sources:
        return "Not run."
    summaries = {source: results.summary(source) for source in sources}
    check_same(summaries, "data", "eps", "images")
    runs = [source.split("/")[0] for source in sources]
    recipes = {run: results.recipe(run) for run in runs}
    check_same(recipes, "epochs", "precision", "select", "limit", "validation")
    first, recipe = summaries[sources[0]], recipes[runs[0]]
    networks = sorted({f"`{each['network']}`" for each in recipes.values()})
    suites = sorted({f"`{','.join(summary['attacks'])}`" for summary in summaries.values()})
    told = (
        f"Accuracy in %. {shown_images(first)}, ε {first['eps']:g}. Stands: under `fast`, here {' or '.join(suites)}. "
        f"Networks: {', '.join(networks)}. {recipe['epochs']} epochs, the last one kept, trained in "
        f"{recipe['precision']}. {shown_seeds(results, runs)} "
    )
    return told + shown_sources(sources)
