import json
from pathlib import Path
from typing import Any

import pytest

from bpfc.report.accuracy import accuracies, demo
from bpfc.report.captions import check_same
from bpfc.report.figures import METHODS, Results, paper, percent, with_interval
from bpfc.report.logs import fast, overfitting
from bpfc.report.markdown import fill, names, outside, table
from bpfc.report.scale import imagenet, scale
from bpfc.report.stability import paper_recipes, stability
from bpfc.report.suites import cascade, costs
from bpfc.report.tables import TABLES, render, write_tables
from bpfc.training.recipes import PAPER

HARDWARE = {"device": "Intel(R) Xeon(R) Processor", "cores": 2, "threads": 1, "processes": 1}


def share(accuracy: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "interval_95": [accuracy - 0.01, accuracy + 0.01]}


def summary(**changes: Any) -> dict[str, Any]:
    """As an evaluation writes it, as far as tables read it; of a schema to come, with a field that they don't know."""
    attacks = {"fgsm": share(0.71), "pgd-100": share(0.654)}
    content = {"schema": 3, "data": "fashion-mnist", "images": 1000, "eps": 0.1, "precision": "bf16", "seed": 0}
    content |= {"clean": share(0.86), "attacks": attacks, "worst_case": share(0.65), "seconds": 120.0, "plan": "new"}
    return content | {"images_resumed": 0, "provenance": {"hardware": HARDWARE}} | changes


def recipe(method: str = "bpfc", **settings: Any) -> dict[str, Any]:
    settings = {"distance": "l2", "coarse": "quantise", "noise": True, "weight": 25.0} | settings
    return {
        "data": "fashion-mnist",
        "network": "m-lenet",
        "epochs": 50,
        "seed": 0,
        "precision": "fp32",
        "validation_attacked": 300,
        "method": {"name": method, **settings},
    }


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two trainings, each evaluated once."""
    for run, method in (("one", "bpfc"), ("two", "normal")):
        put(tmp_path / run / "recipe.json", recipe(method))
        put(tmp_path / run / "evaluation" / "summary.json", summary())
    return Results(tmp_path)


def test_a_row_is_the_summary_beside_the_paper(results: Results) -> None:
    made = accuracies(results, ["one/evaluation"], ("fgsm", "pgd-100", "pgd-1000"), "clean")
    lines = made.splitlines()
    assert lines[0] == "| | class | epochs | paper: clean | clean | FGSM | PGD-100 | PGD-1000 | arithmetic |"
    assert lines[2] == (
        "| BPFC | 0 | 50 | 87.2 | 86.0 (85.0 … 87.0) | 71.0 | 65.4 (64.4 … 66.4) | not run | fp32, bf16 |"
    )
    for said in ("The first 1,000 test images, ε 0.1.", "n = 1, seed 0", "`results/one/evaluation`"):
        assert said in " ".join(lines[3:])


@pytest.mark.parametrize(("field", "other"), [("images", 10_000), ("eps", 0.2), ("data", "mnist")])
def test_one_table_has_one_denominator(results: Results, field: str, other: object) -> None:
    put(results.folder / "two" / "evaluation" / "summary.json", summary(**{field: other}))
    with pytest.raises(ValueError, match=f"different {field}.*make two tables"):
        accuracies(results, ["one/evaluation", "two/evaluation"], ("fgsm",))


def test_a_missing_summary_is_named(results: Results) -> None:
    with pytest.raises(ValueError, match="one/nothing/summary.json: no such file"):
        accuracies(results, ["one/nothing"], ("fgsm",))


def test_bounds_are_known_by_an_unusual_share_in_the_loss(results: Results) -> None:
    for weight, label in ((0.5, "IBP"), (0.2, "IBP, κ 0.2")):
        put(results.folder / "one" / "recipe.json", recipe("ibp", weight=weight))
        assert results.label("one") == label


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, "BPFC"),
        ({"noise": False}, "BPFC, A1 (simple quantisation)"),
        ({"coarse": "uniform-noise"}, "BPFC, A2 (uniform noise)"),
        ({"distance": "l1", "weight": 3.0}, "BPFC, A3 (ℓ1), λ 3"),
    ],
)
def test_ablations_are_known_by_their_recipe(results: Results, settings: dict[str, Any], label: str) -> None:
    put(results.folder / "one" / "recipe.json", recipe(**settings))
    assert results.label("one") == label


def test_paper_figures() -> None:
    assert paper("fashion-mnist", "bpfc", "clean") == "87.2"
    assert paper("cifar-10", "bpfc", "pgd-20") == "35.7"
    assert paper("mnist", "normal", "from-m-lenet") == "16.60"
    assert paper("mnist", "bpfc-l1", "clean") == "no row"
    assert paper("mnist-5k", "bpfc", "clean") == "no row"
    assert {method for rows in PAPER.values() for method in rows} == set(METHODS)


def test_numbers() -> None:
    assert percent(0.6742) == "67.4"
    assert percent(None) == "not run"
    assert with_interval({"accuracy": 1.0, "interval_95": [0.99, 1.0]}) == "100.0 (99.0 … 100.0)"


def test_demo_and_stability(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert stability(results) == "Not run."
    for name in ("normal", "bpfc"):
        put(tmp_path / "demo" / name / "recipe.json", recipe(name))
    accuracy = {"clean": {"normal": 0.97, "bpfc": 0.96}, "pgd-100": {"normal": 0.0, "bpfc": 0.5}}
    content = {"accuracy": accuracy, "images": 200, "eps": 0.3, "seed": 0, "seconds": 99.6}
    put(tmp_path / "demo" / "summary.json", content | {"provenance": {"hardware": HARDWARE}})
    made = demo(results)
    assert "| BPFC | 50 | 96.0 | 50.0 |" in made
    assert "200 held-out digits" in made
    assert "100 s in all, on 1 thread of Intel Xeon Processor" in " ".join(made.split())
    put(tmp_path / "demo" / "summary.json", content | {"seconds": None, "provenance": {"hardware": HARDWARE}})
    assert "a time not measured" in " ".join(demo(results).split())
    spans = {"normal": [0.9, 0.95, 0.96], "bpfc": [0.4, 0.5, 0.6]}
    setting = {"name": "two threads", "runs": 20, "diverged": 0, "collapsed": 1, "clean": spans, "pgd_100": spans}
    put(tmp_path / "stability" / "summary.json", {"settings": [setting]})
    rows = stability(results).splitlines()
    assert rows[2].startswith(
        "| two threads | 20 | 0 | 1 | 90.0 / 95.0 / 96.0 | 90.0 / 95.0 / 96.0 | 40.0 / 50.0 / 60.0"
    )


def test_paper_recipes_are_told_by_seed_and_fate(tmp_path: Path) -> None:
    row = {"recipe": "mnist-bpfc", "failed": None, "precision": "fp32", "hardware": HARDWARE}
    good = row | {"seed": 1, "loss": [1.3, 0.8, 0.7], "train_accuracy": [0.8, 0.96, 0.97]}
    bad = row | {
        "seed": 0,
        "loss": [1.3, 2.3, 2.303],
        "train_accuracy": [0.8, 0.1, 0.11],
        "failed": "it has collapsed (epoch 2): put",
    }
    (tmp_path / "stability").mkdir()
    (tmp_path / "stability" / "paper.jsonl").write_text("\n".join(map(json.dumps, (good, bad))) + "\n")
    first, second = paper_recipes(Results(tmp_path)).splitlines()[2:4]
    assert first.startswith(
        "| `mnist-bpfc` | 0 | 3 | collapsed in epoch 2 | 1.300 / 2.303 / 2.303 | 80.0 / 10.0 / 11.0 |"
    )
    assert second.startswith("| `mnist-bpfc` | 1 | 3 | neither | 1.300 / 0.800 / 0.700 | 80.0 / 96.0 / 97.0 |")


def test_scale_tells_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    def row(what: str, images: int, processes: int, cpu: float) -> dict[str, Any]:
        told = {"what": what, "images": images, "processes": processes, "seconds": 2 * cpu, "cpu_seconds": cpu}
        return told | {"peak_mib": 1_900, "provenance": {"hardware": HARDWARE | {"cores": 2}}}

    benchmarks = tmp_path / "benchmarks"
    counted: dict[str, dict[str, Any]] = {
        "fast": {
            "forwards": 160,
            "backwards": 80,
            "settings": "apgd-50,apgd-narrowing-100,outside-in-60,fgsm,square-200",
        },
        "standard": {"forwards": 800, "backwards": 0, "stand": 4},
    }
    put(benchmarks / "fast.json", {"networks": {"fashion-mnist-bpfc": {"images": 8, **counted}}})
    assert scale(Results(tmp_path)).count("not run") == 9 * 5
    assert (
        imagenet(Results(tmp_path)).splitlines()[2].startswith("| `fast` | 20 | 10 | not run | 0.17 | 0.021 | 0.0027")
    )

    rows = [row("forward", 100, 1, 10), row("gradient", 100, 1, 30), row("decoding", 1_000, 1, 25)]
    rows += [row("evaluation", 1_000, 2, 500), row("evaluation", 10_000, 2, 5_500)]
    (benchmarks / "scale.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    found = scale(Results(tmp_path)).splitlines()
    assert found[3] == "| 1,000 | 2 | 1,000 | 500 | 0.500 | 5.0% | 1,900 MiB |"
    assert found[6] == "| 10,000 | 2 | 11,000 | 5,500 | 0.550 | not run | 1,900 MiB |"
    told = " ".join(found)
    assert "With 2 processes, each of 10,000 images costs 10.0% more than each of 1,000." in told
    assert "1 thread of Intel Xeon Processor, of 2 cores" in told
    # 50,000 images of 20 forwards at 0.1 s and 10 backwards at 0.2 s, times 4.1 / 1.8
    assert imagenet(Results(tmp_path)).splitlines()[2].startswith("| `fast` | 20 | 10 | 127 | 0.17 |")

    counted["fast"]["settings"] = "apgd-50,apgd-t3-50x2,fgsm,square-200"
    put(benchmarks / "fast.json", {"networks": {"fashion-mnist-bpfc": {"images": 8, **counted}}})
    assert imagenet(Results(tmp_path)).splitlines()[2].startswith("| earlier `fast` | 20 | 10 | 127 |")


def test_fast_stands_beside_autoattack_image_by_image(tmp_path: Path) -> None:
    def found(seconds: float, passes: int, **more: Any) -> dict[str, Any]:
        told = {"seconds": seconds, "forwards": passes, "backwards": passes, "stand": 5, "settings": "pgd-3"}
        return {**told, "only_standard": [], "only_here": [], **more}

    one = {"images": 8, "standard": found(100, 5_000), "fast": found(5, 450, only_standard=[3, 7])}
    two = {"images": 8, "standard": found(10, 50), "fast": found(1, 5, settings="pgd-4", warnings=["masked"])}
    two["adv-lib"] = found(5, 25, only_here=[2], devices=["Another Processor"])
    content = {"networks": {"one": one, "two": two}, "provenance": {"hardware": HARDWARE}}
    put(tmp_path / "benchmarks" / "fast.json", content)
    rows = fast(Results(tmp_path), "fast").splitlines()
    assert rows[2] == "| one | 8 | AutoAttack | 5 | |  | 10,000 | 100.0 |"
    assert rows[3] == "| |  | `fast` | 5 | 2 | 0 | 900 (9.0 %) | 5.0 (5.0 %) |"
    assert rows[6] == "| |  | adv-lib, APGD-CE + APGD-T | 5 | 0 | 1 | 50 (50.0 %) | 5.0 |"  # of another machine
    told = " ".join(rows[8:])
    assert "`fast` was `pgd-3` or `pgd-4`, and warned of two. Of the 8 images of the others it alone leaves 2" in told
    assert "Seconds of one core (Another Processor, Intel Xeon Processor), float32." in told

    one["device"] = two["device"] = "cuda"
    put(tmp_path / "benchmarks" / "fast.json", content)
    assert " Seconds (Another Processor" in " ".join(fast(Results(tmp_path), "fast").splitlines())

    one["first"] = 500
    put(tmp_path / "benchmarks" / "fast.json", content)
    assert "| one | 501 … 508 | AutoAttack " in fast(Results(tmp_path), "fast")

    del two["fast"], two["adv-lib"]  # killed before the other suites' first blocks of this network
    put(tmp_path / "benchmarks" / "fast.json", content)
    rows = fast(Results(tmp_path), "fast").splitlines()
    assert rows[4] == "| two | 8 | AutoAttack | 5 | |  | 100 | 10.0 |"
    assert "`fast` was `pgd-3`. " in " ".join(rows[5:])
    del one["fast"]
    put(tmp_path / "benchmarks" / "fast.json", content)
    assert "`fast`" not in fast(Results(tmp_path), "fast")


def test_what_fast_leaves_as_evaluate_md_says() -> None:
    root = Path(__file__).parent.parent
    networks = json.loads((root / "results/benchmarks/fast-500.json").read_text())["networks"]
    more = {name: entry["fast"]["stand"] - entry["standard"]["stand"] for name, entry in networks.items()}
    passes = {
        name: [entry[suite]["forwards"] + entry[suite]["backwards"] for suite in ("fast", "standard")]
        for name, entry in networks.items()
    }
    masked_name = "fashion-mnist-k-winners"
    a3, masked = (networks[name]["fast"] for name in ("cifar-10-bpfc-l1-fast", masked_name))
    told = " ".join((root / "docs" / "evaluate.md").read_text().split())
    for words, holds in (
        ("All networks but one keep to that. It is k-winners", [n for n in more if more[n] > 1] == [masked_name]),
        ("there `fast` leaves far more, says so", more["fashion-mnist-k-winners"] > 9 and masked["warnings"]),
        (
            "and takes a little more than a tenth of the passes",
            [name for name, (ours, theirs) in passes.items() if ours > theirs / 10] == ["fashion-mnist-k-winners"],
        ),
        ("`fast` leaves one more, and warns", len(a3["only_standard"]) == 1 and a3["warnings"]),
        ("adv-lib leaves more there", networks["cifar-10-bpfc-l1-fast"]["adv-lib"]["stand"] > a3["stand"]),
    ):
        assert words in told, words
        assert holds, words


def test_cascade_counts_what_each_attack_takes(results: Results) -> None:
    rows = cascade(results, "one/evaluation").splitlines()
    assert rows[2:5] == ["| none: clean | 86.0 | |", "| `fgsm` | 71.0 | 150 |", "| `pgd-100` | 65.4 | 56 |"]


def test_costs_count_what_ran_in_one_go(results: Results) -> None:
    for suite in ("standard", "worst"):
        put(results.folder / "one" / f"evaluation-{suite}" / "summary.json", summary(images_resumed=875))
    assert "| BPFC | `worst` | 125 | 2 | 1 thread of Intel Xeon Processor |" in costs(results, ["one"])


def test_overfitting_finds_the_deepest_fall(results: Results) -> None:
    rows = [
        {"epoch": at, "watched_fgsm_accuracy": 0.8, "watched_pgd_accuracy": pgd, "gradient_alignment": 0.5}
        for at, pgd in enumerate((0.5, 0.7, 0.1, 0.6))
    ]
    (results.folder / "one" / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = overfitting(results, ["one"])
    assert "on 256 validation images" in made
    row = made.splitlines()[2]
    assert row == "| Fashion-MNIST: BPFC | 4 | 80.0 | 60.0 | 0.50 | 3 | 80.0 | 10.0 | 0.50 |"


TEXT = """# Title

<!-- table: one -->
old
<!-- end -->

Between.

<!-- table: two -->
<!-- end -->
"""


def test_fill_changes_nothing_outside_the_markers() -> None:
    filled = fill(TEXT, lambda name: f"made {name}")
    assert filled == TEXT.replace("old", "made one").replace("two -->\n", "two -->\nmade two\n")
    assert fill(filled, lambda name: f"made {name}") == filled
    assert names(TEXT) == ["one", "two"]
    assert outside(filled).split() == ["#", "Title", "Between."]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- table: one -->\nno end\n",
        "<!-- table: one -->\n<!-- table: two -->\n<!-- end -->\n",
        "<!-- end -->\n",
    ],
)
def test_markers_that_do_not_pair_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="must be followed by"):
        fill(text, str)


def test_an_unknown_table_is_named(results: Results) -> None:
    with pytest.raises(ValueError, match="headlines -->: no such table; there are headline"):
        render("<!-- table: headlines -->\n<!-- end -->\n", results)
    assert set(TABLES) >= {"headline", "demo", "stability"}


def test_table_is_markdown() -> None:
    assert table(["", "a"], [["x", ""]]) == "| | a |\n| --- | --: |\n| x | |"


def test_check_same_lets_equal_fields_pass() -> None:
    check_same({"a": {"images": 1, "eps": 1}, "b": {"images": 1, "eps": 2}}, "images")


def test_write_tables_changes_the_file_or_names_it(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n<!-- table: stability -->\n<!-- end -->\n")
    write_tables((page,), results.folder)
    assert page.read_text() == "Text.\n\n<!-- table: stability -->\nNot run.\n<!-- end -->\n"
    page.write_text("<!-- table: none -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match=r"page.md: <!-- table: none -->: no such table"):
        write_tables((page,), results.folder)
