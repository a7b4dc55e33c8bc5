import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from bpfc.methods import BPFC, METHODS, PGDAT, TRADES
from bpfc.methods.classes import MEANINGS, STANDINGS, standing
from bpfc.options import number
from bpfc.training.demo_recipes import DEMO_RECIPES
from bpfc.training.recipes import PAPER, RECIPES
from bpfc.training.settings import Schedule


def test_the_paper_s_settings() -> None:
    """protocol.md's table, row by row."""
    for name, eps, step, k, weight in (
        ("cifar-10", 8 / 255, 2 / 255, 5, 1),
        ("fashion-mnist", 0.1, 0.01, 6, 25),
        ("mnist", 0.3, 0.01, 7, 30),
    ):
        recipe = RECIPES[f"{name}-bpfc"][1]
        assert isinstance(recipe.method, BPFC)
        assert (recipe.eps, recipe.step_size, recipe.method.k, recipe.method.weight) == (eps, step, k, weight)
        assert (recipe.momentum, recipe.weight_decay, recipe.validation) == (0.9, 5e-4, 10_000)
        normal = RECIPES[f"{name}-normal"][1]
        assert (normal.lr, normal.epochs, normal.batch_size) == (recipe.lr, recipe.epochs, recipe.batch_size)
    cifar, fashion = RECIPES["cifar-10-bpfc"][1], RECIPES["fashion-mnist-bpfc"][1]
    assert (cifar.epochs, cifar.batch_size, cifar.lr, cifar.augment, cifar.ifgsm_steps) == (100, 128, 0.1, True, 7)
    assert (fashion.epochs, fashion.batch_size, fashion.lr, fashion.augment, fashion.ifgsm_steps) == (
        (50, 64, 0.01, False, 40)
    )
    assert cifar.select_from * 100 == 0
    assert fashion.select_from * 50 == 20


def test_drops_come_after_the_scripts_epoch_indices() -> None:
    cifar, fashion = RECIPES["cifar-10-bpfc"][1], RECIPES["fashion-mnist-bpfc"][1]
    weights = [cifar.method_at(epoch).weight for epoch in (25, 26, 50, 51, 75, 76, 99)]  # type: ignore[attr-defined]
    assert weights == [1, 9, 9, 81, 81, 729, 729]
    assert [cifar.lr_at(epoch) for epoch in (25.99, 26, 51, 76)] == pytest.approx([0.1, 0.02, 0.004, 0.0008])
    assert [fashion.lr_at(epoch) for epoch in (12, 13, 25, 26, 37, 38)] == pytest.approx(
        [0.01, 0.002, 0.002, 0.0004, 0.0004, 0.00008]
    )
    assert {fashion.method_at(epoch).weight for epoch in range(50)} == {25}  # type: ignore[attr-defined]


def test_the_l1_ablation_has_weights_of_its_own() -> None:
    """BPFC's would leave it at chance (results/bpfc-l1-weights)."""
    growing = RECIPES["cifar-10-bpfc-l1"][1]
    weights = [growing.method_at(epoch).weight for epoch in (25, 26, 51, 76)]  # type: ignore[attr-defined]
    assert weights == pytest.approx([0.1, 0.3, 0.9, 2.7])
    assert RECIPES["cifar-10-bpfc-l1-fast"][1].weight_schedule.factor == pytest.approx(27)
    for data, k, weight in (("mnist-5k", 7, 1), ("mnist", 7, 1), ("fashion-mnist", 6, 3), ("cifar-10", 5, 0.1)):
        assert RECIPES[f"{data}-bpfc-l1"][1].method == BPFC(k=k, weight=weight, distance="l1")


def test_recipes_of_ours_clip_the_gradient_and_the_paper_s_do_not() -> None:
    ours = {name for name, (text, _) in RECIPES.items() if "Class " in text or name.startswith("mnist-5k-")}
    assert {name for name, (_, recipe) in RECIPES.items() if recipe.clip_norm is not None} == ours
    assert all(recipe.clip_norm is not None for recipe in DEMO_RECIPES.values())


def test_every_row_of_table_1_has_a_short_training_of_the_same_method() -> None:
    for method in PAPER["cifar-10"]:
        paper, fast = RECIPES[f"cifar-10-{method}"][1], RECIPES[f"cifar-10-{method}-fast"][1]
        assert fast.method == paper.method
        assert (fast.epochs, fast.select, fast.flips, fast.averaging) == (15, "last", "alternating", 0.99)
        assert [fast.side_at(epoch, 32) for epoch in (0, 5, 6, 14)] == [24, 24, 32, 32]
        assert fast.lr_at(4.5) == pytest.approx(paper.lr)
        assert fast.weight_schedule.at(15, 15) == pytest.approx(paper.weight_schedule.at(99, 100))
    growing = RECIPES["cifar-10-bpfc-fast"][1]
    assert [growing.method_at(at).weight for at in (0, 5, 10)] == pytest.approx([1, 9, 81])  # type: ignore[attr-defined]


def test_smaller_images_and_flips_that_make_no_sense() -> None:
    recipe = RECIPES["cifar-10-normal"][1]
    assert recipe.side_at(0, 32) == 32
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"shrunk={wrong}"):
            replace(recipe, shrunk=wrong)
    with pytest.raises(ValueError, match="flips='alternating'"):
        replace(recipe, augment=False, flips="alternating")


@pytest.mark.parametrize("name", ["eps", "step_size"])
def test_lengths_are_in_units_of_the_box(name: str) -> None:
    def given(value: float) -> None:
        changes: dict[str, Any] = {name: value}
        replace(RECIPES["cifar-10-normal"][1], **changes)

    for wrong in (0.0, 8.0, math.nan):
        with pytest.raises(ValueError, match=f"{name}={wrong}: .*8/255, not 8"):
            given(wrong)
    given(1.0)


def test_one_cycle() -> None:
    cycle = Schedule(shape="one-cycle")
    assert cycle.at(0, 10) == 0
    assert cycle.at(3, 10) == pytest.approx(1)
    assert cycle.at(1.5, 10) == pytest.approx(0.5)
    assert cycle.at(6.5, 10) == pytest.approx(0.5)
    assert cycle.at(10, 10) == pytest.approx(0)


def test_numbers() -> None:
    assert number("8/255") == 8 / 255
    assert number("0.1") == 0.1
    for wrong in ("a", "1/0", "", "1/2/3"):
        with pytest.raises(ValueError, match="8/255"):
            number(wrong)


def test_ramp() -> None:
    ramp = Schedule(shape="ramp", milestones=(0.1, 0.5))
    assert [ramp.at(position, 10) for position in (0, 1, 2, 3, 5, 9.5)] == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    for wrong in ((), (0.5,), (0.5, 0.1)):
        with pytest.raises(ValueError, match="a ramp needs"):
            Schedule(shape="ramp", milestones=wrong)


@pytest.mark.parametrize(
    ("shape", "milestones", "factor", "message"),
    [
        ("growth", (), -1.0, "factor=-1.0: .* above 0"),
        ("growth", (), 0.0, "factor=0.0: .* above 0"),
        ("steps", (0.5,), -1.0, "factor=-1.0: .* 0 or more"),
        ("steps", (0.5,), math.inf, "factor=inf"),
        ("one-cycle", (), math.nan, "factor=nan"),
        ("steps", (0.5, 25), 0.2, "milestones=.*: must be shares of the run, from 0 to 1, in order"),
        ("steps", (0.5, 0.25), 0.2, "in order"),
        ("steps", (-0.5,), 0.2, "from 0 to 1"),
        ("steps", (math.nan,), 0.2, "from 0 to 1"),
        ("ramp", (-0.5, 0.5), 1.0, "from 0 to 1"),
    ],
)
def test_schedules_that_make_no_sense(
    shape: Literal["steps", "growth"], milestones: tuple[float, ...], factor: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(shape, milestones, factor)


def test_shares_of_the_run_are_whole_epochs_where_they_are_meant_so() -> None:
    """0.29 · 100 is 28.999… to the machine."""
    for share in range(100):
        drop = Schedule(milestones=(share / 100,), factor=0.1)
        assert (drop.at(share, 100), drop.at(share + 1, 100)) == (1, 0.1)
        recipe = replace(RECIPES["cifar-10-normal"][1], epochs=100, shrunk=share / 100)
        assert sum(recipe.side_at(epoch, 32) == 24 for epoch in range(100)) == share


def test_ours_train_without_adversarial_examples_and_stand_with_and_without_a_curve() -> None:
    for data in ("mnist-5k", "mnist", "fashion-mnist"):
        for method in ("normal-fast", "bpfc-fast", "bpfc-blocks", "box", "margin", "margin-coarse", "ibp", "bpfc-ibp"):
            plain, behind = (RECIPES[f"{data}-{method}{curve}"] for curve in ("", "-curve"))
            assert behind[1] == replace(plain[1], network=behind[1].network)
            assert behind[1].network.partition("@")[0] == plain[1].network
            assert standing(plain[1].method).number <= 1
            assert f"Class {standing(plain[1].method).number}, cost" in plain[0]
            assert getattr(plain[1].method, "eps", plain[1].eps) == plain[1].eps
    assert {name for name in RECIPES if name.endswith("-best")} == {"mnist-best", "fashion-mnist-best"}


def test_every_method_has_a_class_and_pgd_s_cost_counts_its_steps() -> None:
    assert set(STANDINGS) == set(METHODS)
    assert standing(PGDAT(steps=7)) == (5, 8)
    assert standing(TRADES(steps=10)) == (5, 12)
    assert all(found.number < len(MEANINGS) for found in STANDINGS.values())


def test_the_tables_of_methods_md_have_each_method_s_class() -> None:
    page = (Path(__file__).parent.parent / "docs" / "methods.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| `\S+` .*\| \d \| [^|]+ \|$|\| `\S+`, `", line)]
    told = {name: int(row.split(" | ")[-2]) for row in rows for name in re.findall(r"`(\S+)`", row.split(" | ")[0])}
    grey = {name.removeprefix("mnist-"): recipe for name, (_, recipe) in RECIPES.items() if name.startswith("mnist-")}
    assert told == {
        name: standing(recipe.method).number
        for name, recipe in grey.items()
        if not name.endswith(("-curve", "best")) and not name.startswith("5k-")
    }
