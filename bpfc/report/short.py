"""The recipes beyond the paper after short trainings: each with and without a tone curve, and along their weights."""

from collections.abc import Sequence

from bpfc.methods.classes import standing
from bpfc.report.captions import captioned, check_same, shown_images, shown_machine, shown_seeds, shown_sources
from bpfc.report.figures import DATA, Results, percent
from bpfc.report.page.svg import Axis
from bpfc.report.plane import Way, drawn
from bpfc.report.trade_off import Point, point_of
from bpfc.training.recipes import RECIPES as ALL
from bpfc.training.run import Run

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
ADVERSARIAL = {"fgsm-at": "FGSM-AT", "rss-at": "RSS-AT"}
"""Recipes that were trained as long for the time that they take alone."""
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
    points = weighted(results, data, recipe)
    named = zip(sorted({own, *others}), points, strict=True)
    rows = [[f"{weight:g}", _class(point), *_shares(point)] for weight, point in named]
    return captioned([symbol, "class", "clean", "stands", "certified"], rows, _caption(results, points))


def curves(results: Results, data: str) -> str:
    """A row a curve in front of the same recipe with interval bounds, in %.

    Raises:
        ValueError: the evaluations are of different images or ε.
    """
    points = [short_point(results, f"{data}-{recipe}", name) for name, recipe in CURVES.items()]
    rows = [[point.name, _class(point), point.network or "–", *_shares(point)] for point in points]
    return captioned(["curve", "class", "network", "clean", "stands", "certified"], rows, _caption(results, points))


def averaging(results: Results, data: str) -> str:
    """A row a decay of the moving average of the weights, of the same recipe with interval bounds, in %.

    Raises:
        ValueError: the evaluations are of different images or ε, or a run has another decay than its row.
    """
    points = [short_point(results, f"{data}-{recipe}", name) for name, recipe in AVERAGING.items()]
    for point in points:
        if not point.source:
            continue
        decay = results.recipe(point.source.split("/")[0])["averaging"]
        if (kept := "none" if decay is None else f"{decay:g}") != point.name:
            raise ValueError(f"{point.source}: was trained with averaging {kept}, not {point.name}")
    rows = [[point.name, _class(point), *_shares(point)] for point in points]
    return captioned(["decay", "class", "clean", "stands", "certified"], rows, _caption(results, points))


def pace(results: Results, data: str) -> str:
    """A row a recipe: passes of a step, and seconds of an epoch by the log.

    The fastest epoch counts: other work on the machine makes an epoch slower, and nothing makes it faster.

    Raises:
        ValueError: the trainings are of different length, arithmetic or machines.
    """
    names = {f"{data}-{recipe}-{LENGTH}": name for recipe, name in (RECIPES | ADVERSARIAL).items()}
    there = {run: results.recipe(run) for run in names if Run(results.folder / run).exists}
    machines = {run: {"machine": shown_machine(Run(results.folder / run).starts()[-1]["hardware"])} for run in there}
    check_same(there, "epochs", "precision", "limit", "validation")
    check_same(machines, "machine")
    seconds = {run: min(row["train_seconds"] for row in results.log(run)) for run in there}
    normal = seconds[f"{data}-normal-fast-{LENGTH}"]
    rows = []
    for run, recipe in there.items():
        number, passes = standing(Run(results.folder / run).recipe().method)
        averaging = "–" if recipe["averaging"] is None else f"{recipe['averaging']:g}"
        settings = [f"{number}", f"{passes}", recipe["optimizer"], f"{recipe['batch_size']}", averaging]
        rows.append([names[run], *settings, f"{seconds[run]:.0f}", f"{seconds[run] / normal:.1f}"])
    header = ["", "class", "passes", "optimizer", "batch", "averaging", "seconds an epoch", "times normal"]
    first = next(iter(there))
    told = (
        f"{DATA[data]}, half width, without a curve, in {there[first]['precision']} on {machines[first]['machine']}. "
        "Of each training its fastest epoch, because the machine had other work, too. Passes: forwards with their "
        f"backwards in a step, a normal step being 1. {shown_seeds(results, list(there))} {shown_sources(list(there))}"
    )
    return captioned(header, rows, told)


def short_picture(results: Results, data: str) -> str:
    """An SVG file: a line from each recipe to itself behind the curve, and one along BPFC's λ.

    Raises:
        ValueError: nothing was run, the evaluations are of different images or ε, or there is no room for the names.
    """
    pairs = [(bare, curve._replace(name=f"{curve.name}, tone curve")) for bare, curve in _pairs(results, data)]
    along = weighted(results, data, "bpfc-fast")
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
        (short_point(results, f"{data}-{recipe}", name), short_point(results, f"{data}-{recipe}-curve", name))
        for recipe, name in RECIPES.items()
    ]


def weighted(results: Results, data: str, recipe: str) -> list[Point]:
    """A recipe from its smallest weight to its largest."""
    symbol, own, others = WEIGHTS[recipe]
    found = []
    for weight in sorted({own, *others}):
        if weight == own:
            found.append(short_point(results, f"{data}-{recipe}", RECIPES[recipe.removesuffix("-curve")]))
            continue
        point = short_point(results, f"{data}-{recipe}-weight-{weight:g}", f"{symbol} {weight:g}")
        if point.source and (kept := results.recipe(point.source.split("/")[0])["method"]["weight"]) != weight:
            raise ValueError(f"{point.source}: was trained with {symbol} {kept:g}, not {weight:g}")
        found.append(point._replace(cost=None))  # it stands beside the recipe's name
    return found


def short_point(results: Results, run: str, name: str) -> Point:
    """A training of this length, under `fast`; without figures where it was not run."""
    evaluation = f"{run}-{LENGTH}/{SUITE}"
    found = {evaluation: results.summary(evaluation)} if results.has(evaluation) else {}
    return point_of(results, f"{run}-{LENGTH}", found)._replace(name=name)


def _class(point: Point) -> str:
    return "–" if point.number is None else f"{point.number}"


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
