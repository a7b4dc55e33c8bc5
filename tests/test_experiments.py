"""Which recipes and columns the paper's tables ask for, and whose figures stand side by side."""

from dataclasses import replace

from bpfc.report.budgets import BUDGETS
from bpfc.report.experiments import EXPERIMENTS, columns, source_trained_by, sources, trained_by
from bpfc.report.figures import METHODS, paper
from bpfc.report.reproduction import compared
from bpfc.report.shelf import shelf
from bpfc.report.task import Task
from bpfc.training.recipes import PAPER, RECIPES


def test_the_short_budgets_take_our_recipes_on_cifar() -> None:
    whole, half = BUDGETS["fast"], BUDGETS["fast-half"]
    for method in EXPERIMENTS["table1"].methods:
        recipe = RECIPES[f"cifar-10-{method}-fast"][1]
        assert trained_by("cifar-10", method, 3, whole) == replace(recipe, seed=3)
        assert trained_by("cifar-10", method, 3, half) == replace(recipe, seed=3, network="resnet-18-half")
    vgg = source_trained_by("cifar-10", "vgg-19", 0, whole)
    assert (vgg.network, vgg.epochs, vgg.shrunk) == ("vgg-19", 15, 0.0)
    assert source_trained_by("cifar-10", "resnet-18", 0, half) == RECIPES["cifar-10-normal-fast"][1]


def test_every_column_has_the_paper_s_figure_where_the_paper_has_one() -> None:
    budget = BUDGETS["paper"]
    for data in ("cifar-10", "fashion-mnist", "mnist"):
        for method in PAPER[data]:
            assert all(paper(data, method, each.paper) != "no row" for each in columns("table2", data, budget))
        for method in EXPERIMENTS["table3"].methods:
            told = [paper(data, method, each.paper) for each in columns("table3", data, budget)]
            assert "no row" not in told
            assert len(told) == 1 + len(sources(data))
    for method in EXPERIMENTS["table1"].methods:
        assert all(paper("cifar-10", method, each.paper) != "no row" for each in columns("table1", "cifar-10", budget))
    assert [paper("cifar-10", "bpfc-l1", each.paper) for each in columns("restarts", "cifar-10", budget)] == [
        "92.1",
        "37.5",
        "24.8",
    ]
    assert {method for experiment in EXPERIMENTS.values() for method in experiment.methods} == set(METHODS)


def test_a_figure_stands_beside_the_paper_s_of_the_same_attack_or_has_no_difference() -> None:
    """quick set PGD-20 beside the paper's PGD-1000, under the words PGD-20: paper."""
    cpu, whole = BUDGETS["cpu"], BUDGETS["paper"]
    quick = BUDGETS["quick"]
    last = columns("table1", "cifar-10", quick)[-1]
    assert (last.shown, last.beside, last.attacks[0]) == ("PGD-20", "", "pgd-20-last")
    assert paper("cifar-10", "bpfc", last.paper) == "35.7"
    assert columns("table2", "fashion-mnist", quick)[-1].beside == "PGD-1000"
    assert columns("table1", "cifar-10", cpu)[-1].beside == "PGD-1000"
    assert [each.beside for each in columns("restarts", "cifar-10", cpu)] == ["", "PGD-500", "PGD-500, worst of 100"]
    some = columns("restarts", "cifar-10", BUDGETS["fast"])
    assert [each.beside for each in some] == ["", "", "PGD-500, worst of 100"]
    for name in ("table1", "table2", "restarts"):
        assert not any(each.beside for each in columns(name, "cifar-10", whole))  # type: ignore[arg-type]
    header, rows, _ = compared(Task("table2", "fashion-mnist", cpu, None, 1, ("bpfc",)), shelf([]))
    assert header[6:] == ["PGD-100: paper (PGD-1000)", "ours", "difference", "minutes"]
    assert rows[0][6:] == ["67.7", "not run", "", "–"]
    header, _, _ = compared(Task("table1", "cifar-10", cpu, None, 1, ("bpfc",)), shelf([]))
    assert header[-2] == "PGD-100 (paper: PGD-1000)"


def test_the_caption_counts_the_images_that_a_training_sees() -> None:
    """5,000 stood there for mnist-5k too, which has 4,500, of which 500 are held out."""
    for data, told in (("mnist-5k", "4,000"), ("mnist", "5,000")):
        task = Task("table2", data, BUDGETS["quick"], None, 1, ("bpfc",))
        assert f"a fifth of the paper's epochs on {told} images." in compared(task, shelf([]))[2]
    assert "epochs. ±" in compared(Task("table2", "mnist", BUDGETS["cpu"], None, 1, ("bpfc",)), shelf([]))[2]


def test_a_limit_goes_before_the_table_s_own_number_of_images() -> None:
    """5,000 asked for were 1,000 without a word."""
    for limit, counted in ((None, 1_000), (5_000, 5_000)):
        assert Task("restarts", "cifar-10", BUDGETS["paper"], limit, 1, ("bpfc",)).counted == counted
