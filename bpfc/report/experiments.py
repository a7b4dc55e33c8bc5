"""The paper's tables as data: which networks, trained how, under which attacks, within a budget."""

from dataclasses import dataclass, replace

from bpfc.report.budgets import Budget, ExperimentName
from bpfc.report.figures import METHODS, paper
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.settings import Schedule


@dataclass(frozen=True)
class Column:
    """A figure of a table.

    Attributes:
        shown: its header.
        paper: what the paper's figure is called in `bpfc.report.figures.paper`.
        attacks: any of them gives it; the first is run where none was. None for clean accuracy.
        source: the network that the images are made on, for black-box figures.
        beside: the paper's attack, where it is a longer one than ours, so that no difference says anything.
    """

    shown: str
    paper: str
    attacks: tuple[str, ...] = ()
    source: str | None = None
    beside: str = ""


@dataclass(frozen=True)
class Experiment:
    """A table of the paper.

    Attributes:
        title: for people.
        data: what the paper has it for; taken where no other is asked for.
        methods: its rows.
        images: test images at most, where the paper took fewer than all.
    """

    title: str
    data: tuple[str, ...]
    methods: tuple[str, ...]
    images: int | None = None


_ALL = ("cifar-10", "fashion-mnist", "mnist")
_SIX = ("fgsm-at", "rss-at", "pgd-at", "normal", "mixup", "bpfc")
_ABLATIONS = ("bpfc", "bpfc-simple-quantisation", "bpfc-uniform-noise", "bpfc-l1")

EXPERIMENTS: dict[ExperimentName, Experiment] = {
    "table1": Experiment("Table 1: white box", ("cifar-10",), (*_SIX, *_ABLATIONS[1:])),
    "table2": Experiment("Table 2: white box, PGD-1000", _ALL, _SIX),
    "table3": Experiment("Table 3: black box, FGSM", _ALL, _SIX),
    "ablations": Experiment("Ablations", ("cifar-10",), _ABLATIONS),
    "restarts": Experiment("PGD with many random starts", ("cifar-10",), ("bpfc", "bpfc-l1"), images=1_000),
}
"""But for cost, which is measured and trains nothing."""

IMAGES = {
    "mnist-5k": (4_500, 500),
    "mnist": (60_000, 10_000),
    "fashion-mnist": (60_000, 10_000),
    "cifar-10": (50_000, 10_000),
}
"""Training and test images as published."""

SOURCES = {"cifar-10": ("vgg-19", "resnet-18")}
"""Networks that Table 3's images are made on; Net-A and M-LeNet where no other is named."""


def sources(data: str) -> tuple[str, str]:
    return SOURCES.get(data, ("net-a", "m-lenet"))


def columns(name: ExperimentName, data: str, budget: Budget) -> tuple[Column, ...]:
    """The figures of a table, in order, as far as the budget goes.

    The paper judges PGD's last iterate. So do the columns here that stand beside a short run of the paper's; in the
    long runs any iterate counts, which is at least as strong and hardly stronger.
    """
    clean, steps = Column("clean", "clean"), budget.steps
    any_iterate, last = f"pgd-{steps}", f"pgd-{steps}-last"
    if steps < 1_000 and any(paper(data, method, any_iterate) != "no row" for method in METHODS):
        long = Column(f"PGD-{steps}", any_iterate, (last, any_iterate))
    else:
        long = Column(f"PGD-{steps}", "pgd-1000", (any_iterate, last), beside="PGD-1000" if steps < 1_000 else "")
    if name == "table1":
        few = 7 if data == "cifar-10" else 40
        short = [
            Column(f"PGD-{n}", f"pgd-{n}", (f"pgd-{n}-last", f"pgd-{n}")) for n in dict.fromkeys((few, 20)) if n < steps
        ]
        one = [Column("FGSM", "fgsm", ("fgsm",)), Column(f"I-FGSM-{few}", f"ifgsm-{few}", (f"ifgsm-{few}",))]
        return (clean, *one, *short, long)
    if name == "restarts":
        half, many = steps // 2, budget.restarts
        once, worst = "PGD-500" if half < 500 else "", "PGD-500, worst of 100" if (half, many) != (500, 100) else ""
        return (
            clean,
            Column(f"PGD-{half}", "pgd-500", (f"pgd-{half}",), beside=once),
            Column(f"PGD-{half}, worst of {many}", "pgd-500x100", (f"pgd-{half}x{many}",), beside=worst),
        )
    if name == "table3":
        return (clean, *(Column(f"on {source}", f"from-{source}", ("fgsm",), source) for source in sources(data)))
    return (clean, long)


def trained_by(data: str, method: str, seed: int, budget: Budget) -> Recipe:
    """The recipe of a row.

    Raises:
        ValueError: there is none for the data set and the method, or the budget has none for the data set.
    """
    if budget.recipes and data != "cifar-10":
        raise ValueError(
            f"{budget.told}: these are for cifar-10, not for {data}; say --data cifar-10, or another --budget"
        )
    name = f"{data}-{method}{budget.recipes}"
    if name not in RECIPES:
        raise ValueError(f"{name}: no such recipe; bpfc recipes lists them")
    recipe = RECIPES[name][1]
    return _within(replace(recipe, network=budget.network or recipe.network), seed, budget)


def trained_on(recipe: Recipe) -> int:
    """How many images a training sees: without those held out, and within its limit."""
    left = IMAGES[recipe.data][0] - recipe.validation
    return min(left, recipe.limit or left)


def source_trained_by(data: str, network: str, seed: int, budget: Budget) -> Recipe:
    """The recipe of a network that images are made on: normal training; Net-A and VGG19 shortly, by ours."""
    normal = RECIPES[f"{data}-normal{budget.recipes}"][1]
    if network == normal.network:
        return _within(normal, seed, budget)
    # VGG19 halves an image five times, and takes none smaller than 32 pixels.
    fast = replace(normal, network=network, lr_schedule=Schedule(shape="one-cycle"), shrunk=0.0)
    if network == "net-a":
        fast = replace(fast, lr=0.03, epochs=5)
    return _within(fast, seed, budget)


def _within(recipe: Recipe, seed: int, budget: Budget) -> Recipe:
    return replace(
        recipe,
        seed=seed,
        epochs=max(1, round(budget.epochs * recipe.epochs)),
        limit=budget.training,
        validation_attacked=min(budget.validated, recipe.validation),
    )
