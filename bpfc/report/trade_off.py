"""Clean accuracy against robust accuracy: a point a recipe, and beside ours what others have published."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from bpfc.files import SUMMARY
from bpfc.methods.classes import standing
from bpfc.report.accuracy import ATTACKS
from bpfc.report.captions import captioned, check_same, shown_images, shown_seeds, shown_sources
from bpfc.report.figures import Results, percent
from bpfc.training.run import Run

RUNS: dict[str, tuple[str, ...]] = {
    "fashion-mnist": (
        "normal",
        "mixup",
        "bpfc",
        "bpfc-simple-quantisation",
        "bpfc-uniform-noise",
        "bpfc-l1",
        "ibp-curve-20-epochs",
        "ibp-batchnorm-curve",
        "ibp-curve-weight-0.15-40-epochs",
        "fgsm-at",
        "rss-at",
        "pgd-at-6-epochs",
    ),
    "mnist": ("normal", "mixup", "bpfc", "ibp-curve-half", "ibp-batchnorm-curve", "fgsm-at"),
    "cifar-10": (
        "normal-fast",
        "mixup-fast",
        "bpfc",
        "bpfc-fast",
        "bpfc-simple-quantisation-fast",
        "bpfc-uniform-noise-fast",
        "bpfc-l1-fast",
        "fgsm-at-fast",
        "rss-at-fast",
        "pgd-at-fast",
    ),
}
"""Whose points are shown, by the data set; a run's folder is DATA-RUN."""
IMAGES = {"fashion-mnist": 10_000, "mnist": 10_000, "cifar-10": 1_000}
"""Test images that the points of a data set count; of evaluations of so many, that with the lowest figure is shown."""
FEWEST = 1_000
"""Test images of an evaluation that is told beside such a point, where it has found less than chance explains."""
AUTOATTACK = {"aa-apgd-ce", "aa-apgd-t", "aa-fab-t", "aa-square"}
FAST = {"apgd-50", "fgsm"}
"""What `fast` has always held beside Square, whatever stands in front of the network."""
QUERIES = "200"
"""That Square is asked in `fast`; earlier it was asked less often."""
EARLIER = ("apgd-t3-50x2", "apgd-focused-100")
"""Attacks of an earlier `fast`, each in the place of what stands there now."""


class Published(NamedTuple):
    """What somebody else has measured, on their own network and perhaps on fewer images; shares.

    Attributes:
        name: of the method.
        number: its class (bpfc/methods/classes.py).
        clean, stands, certified: accuracy on clean images, under attack, and proven; None where nothing is known.
        under: the attack.
        source: where it stands.
    """

    name: str
    number: int
    clean: float
    stands: float | None
    under: str
    certified: float | None
    source: str


_DIST = "Zhang et al. 2021, arXiv:2102.05363"
_REMEMBERED = "as Zhang et al. 2021 report it, from memory"
_CROWN_IBP = "Zhang et al. 2020, arXiv:1906.06316, attacked by Croce and Hein 2020, arXiv:2003.01690"
_IBP = "Gowal et al. 2019, arXiv:1810.12715, attacked by the same"
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "fashion-mnist": (
        Published("ℓ∞-distance nets", 0, 0.879, None, "", 0.792, _DIST),
        Published("CROWN-IBP", 0, 0.843, 0.802, "PGD", 0.780, _REMEMBERED),
        Published("IBP", 0, 0.841, 0.806, "PGD", 0.777, _REMEMBERED),
        # It penalises margins over the norm of their gradient by the image.
        Published("MMR", 1, 0.855, 0.668, "PGD and MIP", 0.664, "Croce et al. 2019, arXiv:1810.07481"),
    ),
    "mnist": (
        Published("SortNet", 0, 0.986, None, "", 0.934, "Zhang et al. 2022, arXiv:2210.01787"),
        Published("ℓ∞-distance nets v2", 0, 0.986, 0.947, "PGD-100", 0.932, "Zhang et al. 2022, arXiv:2110.06850"),
        Published("CROWN-IBP", 0, 0.984, 0.940, "AutoAttack", 0.933, _CROWN_IBP),
        Published("IBP", 0, 0.983, 0.928, "AutoAttack", 0.918, _IBP),
    ),
    "cifar-10": (
        Published("CURE", 3, 0.831, 0.385, "AutoAttack", None, "Moosavi-Dezfooli et al. 2019, as RobustBench lists it"),
    ),
}
"""By the data set, at the ε of ours (0.1, 0.3, 8/255)."""


class Below(NamedTuple):
    """What a stronger attack left, though of fewer test images."""

    stands: float
    under: str
    images: int


class Point(NamedTuple):
    """A row of the table and a point of the picture.

    Attributes:
        name: as the table calls it.
        number: of its class; None for a run that is not there.
        cost: of a step, in normal steps; None where it is not known.
        network, epochs: of its training, "" where they are not known.
        clean, stands, certified: shares of the test images; None where nothing is known.
        under: what `stands` was attacked by.
        source: the folder in results/ that the figures are from, "" where there is none; of what is published, where.
        published: not made here.
        below: what was found on fewer images, where its 95 % interval ends below `stands`.
    """

    name: str
    number: int | None
    cost: int | None
    network: str
    epochs: str
    clean: float | None
    stands: float | None
    under: str
    certified: float | None
    source: str = ""
    published: bool = False
    below: Below | None = None

    @property
    def height(self) -> float | None:
        """Where it stands in the picture: what no attack broke, or, where none was run, what is proven."""
        return self.certified if self.stands is None else self.stands


def points(results: Results, data: str) -> list[Point]:
    """Ours, then what is published.

    Raises:
        ValueError: the evaluations are of different data or ε.
    """
    check_same(dict(_found(results, data)), "data", "eps", "images")
    ours = []
    for run in RUNS[data]:
        point = point_of(results, f"{data}-{run}", dict(_found(results, data, (run,))))
        named = point if point.number is not None else point._replace(name=run)
        ours.append(named._replace(below=_below(results, point)))
    return ours + [
        Point(name, number, None, "", "", clean, stands, under or "no attack", certified, source, published=True)
        for name, number, clean, stands, under, certified, source in PUBLISHED[data]
    ]


def trade_off(results: Results, data: str) -> str:
    """The points as a table with its caption; a run without an evaluation of all test images reads "not run".

    Raises:
        ValueError: the evaluations are of different data or ε.
    """
    header = ["", "class", "cost", "network", "epochs", "clean", "stands", "under", "certified"]
    rows = []
    for point in (every := points(results, data)):
        name = f"{point.name} (published)" if point.published else point.name
        told = [point.number, point.cost, point.network, point.epochs, *_shares(point)]
        rows.append([name, *("–" if each in (None, "") else f"{each}" for each in told)])
    return captioned(header, rows, _caption(results, data, every))


def _shares(point: Point) -> list[str]:
    stands = "" if point.published and point.stands is None else percent(point.stands)
    proven = "" if point.certified is None else percent(point.certified)
    return [percent(point.clean), stands, point.under, proven]


def _caption(results: Results, data: str, every: list[Point]) -> str:
    ours = [point.source for point in every if point.source and not point.published]
    theirs = "; ".join(f"{point.name} ({point.source})" for point in every if point.published)
    told = (
        "Accuracy in %. Cost: of a training step, a normal one being 1. Stands: what is left by the attack beside it, "
        "the strongest that was run on these images. Published rows are not made here, nor of the same networks, "
        f"and count what their papers count: {theirs}. "
    )
    if ours:
        first = results.summary(ours[0])
        told += f"Ours: {shown_images(first).lower()}, ε {first['eps']:g}. "
        if lower := "; ".join(_told_below(point) for point in every if point.below):
            told += f"Of fewer images other attacks leave less, beyond the 95 % interval: {lower}. "
        runs = [name.split("/")[0] for name in ours]
        told += f"{shown_seeds(results, runs)} {chosen(results, runs)} {shown_sources(ours)}"
    return told


def chosen(results: Results, runs: list[str]) -> str:
    """By what the epochs of the trainings were chosen: an attack may have been it."""
    free = [f"`{run}`" for run in runs if results.recipe(run).get("select", "ifgsm") == "last"]
    attacked = [f"`{run}`" for run in runs if f"`{run}`" not in free]
    if free and len(attacked) < len(free):
        but = f", but for {' and '.join(attacked)}, where I-FGSM on validation images chose it" if attacked else ""
        return f"The last epoch is kept{but}."
    but = f", but for {' and '.join(free)}, whose last one is kept" if free else ""
    return f"Their epochs were chosen by I-FGSM on validation images{but}."


def _found(results: Results, data: str, runs: tuple[str, ...] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The evaluations of as many test images as the points count, by their folders."""
    for run in runs or RUNS[data]:
        for name, summary in evaluations(results, f"{data}-{run}"):
            if summary["images"] == IMAGES[data]:
                yield name, summary


def evaluations(results: Results, run: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The evaluations of a training, by their folders."""
    for path in sorted(results.folder.glob(f"{run}/evaluation*/{SUMMARY}")):
        name = f"{run}/{path.parent.name}"
        yield name, results.summary(name)


def _below(results: Results, point: Point) -> Below | None:
    """The lowest figure of fewer images, under another attack, that chance does not explain."""
    if point.stands is None:
        return None
    images, eps = (results.summary(point.source)[field] for field in ("images", "eps"))
    found = []
    for _, summary in evaluations(results, point.source.split("/")[0]):
        entry, under = _strongest(summary)
        other = FEWEST <= summary["images"] < images and summary["eps"] == eps and under != point.under
        if other and entry["interval_95"][1] < point.stands:
            found.append(Below(entry["accuracy"], under, summary["images"]))
    return min(found, default=None)


def _told_below(point: Point) -> str:
    stands, under, images = point.below or (None, "", 0)
    return f"{point.name} {percent(stands)} under {under} (the first {images:,})"


def point_of(results: Results, run: str, found: dict[str, dict[str, Any]]) -> Point:
    """Of a training, by the lowest of its evaluations.

    Args:
        found: summaries by their folders, of the same images; none of a run that is not there, or not attacked.
    """
    training = Run(results.folder / run)
    if not training.folder.is_dir():
        return Point(run, None, None, "", "", None, None, "", None)
    recipe = training.recipe()
    number, cost = standing(recipe.method)
    name = results.label(run)
    told = (number, cost, f"`{recipe.network}`", f"{recipe.epochs}")
    if not found:
        return Point(name, *told, None, None, "", None)
    source = min(found, key=lambda each: lowest(found[each])[0])
    proven = [summary["between"]["certified"] for summary in found.values() if "between" in summary]
    clean = found[source]["clean"]["accuracy"]
    return Point(name, *told, clean, *lowest(found[source]), max(proven, default=None), source)


def suite(attacks: Collection[str]) -> str | None:
    """How a table calls these attacks where they are all of AutoAttack, or all of `fast`; None where they are not.

    Where it was an earlier `fast` it says so, or how often that asked Square.
    """
    if set(attacks) >= AUTOATTACK:
        return "AutoAttack and others" if len(attacks) > len(AUTOATTACK) else "AutoAttack"
    queries = [name.removeprefix("square-") for name in attacks if name.startswith("square-")]
    if not queries or not set(attacks) >= FAST:
        return None
    name = "earlier `fast`" if set(EARLIER) & set(attacks) else "`fast`"
    return name if QUERIES in queries else f"{name} (Square: {queries[0]} queries)"


def lowest(summary: dict[str, Any]) -> tuple[float, str]:
    """What a whole suite leaves, or else the strongest single attack, and which it is."""
    entry, under = _strongest(summary)
    return entry["accuracy"], under


def _strongest(summary: dict[str, Any]) -> tuple[dict[str, Any], str]:
    attacks = summary["attacks"]
    if (whole := suite(attacks)) is not None:
        return summary["worst_case"], whole
    name = min(attacks, key=lambda each: attacks[each]["accuracy"])
    return attacks[name], ATTACKS.get(name, name)
