"""What is missing and how long it takes here, before any of it is done; what a step of each method costs."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from table_runs import _tiny, run

from bpfc.cli.speed import ROUNDS, Estimate, Speed, passes
from bpfc.ledger import Ledger
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.state import State


def test_a_dry_run_says_what_and_how_long_and_makes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, dry_run=True, seeds=2)
    assert printed.count("train    mnist-5k-") == 4
    assert "seed1, 2 epochs; attack 12 images with pgd-3: 0:00:0" in printed
    assert "4 pieces of work, about 0:00:" in printed
    assert printed.count("–") == 2 * 6 + 1  # two seeds, two figures and the paper's, minutes; the caption
    assert not Path("runs").exists()


def test_a_dry_run_says_that_attacks_take_at_most_what_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """A normal network, of which nothing stands, was given twenty minutes without a word, where two are due."""
    told = "Attacks take at most their share of it: every image is counted to its last step"
    assert told in " ".join(run(capsys, dry_run=True).split())
    assert "at most" not in run(capsys, "table3", dry_run=True)  # one step an image, broken or not


def test_a_dry_run_counts_what_a_kill_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Finished epochs and attacked images were counted again."""
    monkeypatch.setattr(Speed, "steps", lambda *_: [3_600.0])
    monkeypatch.setattr(Speed, "images_pass", lambda *_: 15.0)

    def left(word: str, of: object, to: object) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(of, word, to)
            with pytest.raises(KeyboardInterrupt):
                run(capsys, methods=("bpfc",))
        return run(capsys, methods=("bpfc",), dry_run=True)

    save, append = Run.save, Ledger.append

    def one(self: Run, state: State) -> None:
        save(self, state)
        raise KeyboardInterrupt

    def five(self: Ledger, rows: list[object], warnings: object = ()) -> None:
        append(self, list(rows)[:5], warnings)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    whole = run(capsys, methods=("bpfc",), dry_run=True)
    assert "seed0, 2 epochs; attack 12 images" in whole
    half = left("save", Run, one)
    assert "train    mnist-5k-bpfc-quick-seed0, the last 1 of 2 epochs; attack 12 images with pgd-3: " in half
    attack = 12 * passes("pgd-3") * 15

    def seconds(printed: str) -> float:
        hours, minutes, rest = re.findall(r"about (\d+):(\d+):(\d+) here", printed)[0]
        return int(hours) * 3600 + int(minutes) * 60 + int(rest) - attack

    assert seconds(half) == seconds(whole) / 2
    last = left("append", Ledger, five)
    assert "reuse    runs/mnist-5k-bpfc-quick-seed0; attack the last 7 of 12 images with pgd-3: 0:07:00" in last


def test_costs_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "cost", methods=("bpfc",), markdown=True)
    lines = printed.splitlines()
    assert lines[0] == "| | passes | milliseconds a step | normal training is 1 |"
    assert lines[2].startswith("| normal | 1 | ")
    assert lines[2].endswith("| 1.00 |")
    assert lines[3].startswith("| BPFC | 2 | ")


def test_several_jobs_on_one_cpu_take_as_long_as_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The total was divided by --jobs, though they share the cores that the one timing had."""
    monkeypatch.setattr(Speed, "steps", lambda *_: [100.0])
    monkeypatch.setattr(Speed, "images_pass", lambda *_: 0.0)
    told = [run(capsys, dry_run=True, jobs=count).split("about ")[1][:14] for count in (1, 4)]
    assert told[0] == told[1]
    monkeypatch.setattr("bpfc.cli.work_list.pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("bpfc.cli.work_list.resolve", lambda *_: "bf16")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert run(capsys, dry_run=True, jobs=1).split("about ")[1][:14] == told[0]
    assert run(capsys, dry_run=True, jobs=4).split("about ")[1][:14] != told[0]


def test_a_machine_with_other_work_to_do_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wall time alone showed 40 minutes where 3 were due, and once that BPFC is faster than normal training."""
    clock = {"wall": 0.0, "busy": 0.0}

    def works(wall: float, busy: float) -> None:
        clock["wall"] += wall
        clock["busy"] += busy

    monkeypatch.setattr("bpfc.cli.speed.time.perf_counter", lambda: clock["wall"])
    monkeypatch.setattr("bpfc.cli.speed.time.process_time", lambda: clock["busy"])
    speed, threads = Speed(torch.device("cpu"), "fp32"), torch.get_num_threads()
    assert speed._seconds(lambda: works(1.0, 1.0)) == 1.0
    assert speed.got == 1
    assert speed._seconds(lambda: works(9.0, 3.0)) == pytest.approx(3.0 / threads)
    assert speed.got == pytest.approx((1 + 3 / threads) / 10)
    monkeypatch.setattr(Speed, "steps", lambda *_: [100.0])
    monkeypatch.setattr(Speed, "images_pass", lambda *_: 0.0)
    monkeypatch.setattr(Speed, "got", 0.25)
    printed = " ".join(run(capsys, dry_run=True, methods=("normal",)).split())
    assert "about 0:26:40 here" in printed
    assert "had 25% of its cores. Alone it would take 0:06:40 at best" in printed
    assert "had 25% of its cores. The milliseconds" in " ".join(run(capsys, "cost", methods=("normal",)).split())


def test_a_clock_too_coarse_for_a_step_says_nothing_of_other_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step that took no seconds of the process divided by zero."""
    monkeypatch.setattr("bpfc.cli.speed.time.process_time", lambda: 7.0)
    for table, told in (("cost", "| 1.00 |"), ("table2", "2 pieces of work, about ")):
        printed = run(capsys, table, markdown=True, dry_run=table != "cost")
        assert told in printed
        assert "of its cores" not in printed


def test_what_is_timed_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, two methods met different loads."""
    order: list[str] = []
    speed = Speed(torch.device("cpu"), "fp32")
    speed._best([lambda: order.append("a"), lambda: order.append("b")], budget=60.0)
    assert "".join(order) == "ab" * ROUNDS
    monkeypatch.setattr(Speed, "_step", lambda _, recipe, count: lambda: order.append(f"{recipe.data} {count}"))
    speed.steps([RECIPES[name][1] for name in ("mnist-bpfc", "cifar-10-bpfc")], budget=0.0)
    assert order[2 * ROUNDS :] == ["mnist 64", "cifar-10 16"]


def test_estimates_multiply_a_step_of_the_method_and_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of normal training times the method's passes was twice what PGD-AT took."""
    costs = {"bpfc": 4.0, "pgd-at": 50.0}
    monkeypatch.setattr(Speed, "steps", lambda _, recipes: [costs[recipe.method.name] for recipe in recipes])
    monkeypatch.setattr(Speed, "images_pass", lambda *_: 0.5)
    estimate = Estimate(Speed(None, "fp32"))  # type: ignore[arg-type]
    recipe = replace(RECIPES["mnist-bpfc"][1], epochs=3, limit=640, validation_attacked=10, ifgsm_steps=8)
    assert estimate.training(recipe) == 3 * (10 * 4.0 + 10 * 20 * 0.5)
    assert estimate.training(recipe, done=2) == 10 * 4.0 + 10 * 20 * 0.5
    assert estimate.training(replace(recipe, method=RECIPES["mnist-pgd-at"][1].method)) == 3 * (500 + 100)
    smaller = replace(recipe, shrunk=0.7, data="cifar-10")  # two of its epochs
    assert estimate.training(smaller) == (2 * (24 / 32) ** 2 + 1) * 40 + 3 * 100
    assert estimate.evaluation(recipe, "fgsm,pgd-20", 4) == 4 * (2 + 21) * 0.5
    assert passes("pgd-500x100") == 1 + 200 * 100
