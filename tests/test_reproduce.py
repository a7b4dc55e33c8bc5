"""The paper's tables by one command: what is there is taken, what is missing is made, what a kill left goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from table_runs import TINY, _tiny, figures, options, run

from bpfc.cli import jobs, reproduce
from bpfc.cli.jobs import Job
from bpfc.cli.narrow import _short, narrow
from bpfc.cli.side_by_side import do
from bpfc.files import read_json, read_jsonl, without_checksum, write_json, write_jsonl
from bpfc.ledger import Ledger
from bpfc.report.budgets import BUDGETS, BudgetName, ExperimentName
from bpfc.report.experiments import EXPERIMENTS
from bpfc.report.reproduction import _difference, _spread, compared
from bpfc.report.shelf import shelf
from bpfc.report.task import Task
from bpfc.training.health import TrainingError
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.state import State


def test_what_is_missing_is_made_once_and_the_table_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys)
    assert "1/2 train    mnist-5k-normal-quick-seed0, 2 epochs; attack 12 images with pgd-3" in " ".join(
        first.split("\n")
    )
    weights = sorted(Path("runs").glob("*/model.safetensors"))
    assert len(weights) == 2
    before = [path.stat().st_mtime_ns for path in weights]
    summary = json.loads(Path("runs/mnist-5k-bpfc-quick-seed0/evaluation-pgd-3-first-12/summary.json").read_text())
    row = figures()[1]
    assert row[:3] == ["BPFC", "0", "1"]
    assert row[4] == f"{100 * summary['clean']['accuracy']:.1f}"
    assert row[7] == f"{100 * summary['attacks']['pgd-3']['accuracy']:.1f}"
    second = run(capsys, markdown=True)
    assert " train " not in second
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert f"| {' | '.join(row)} |".replace("  ", " ") in second
    assert "the first 12 test images. Trained by a test's schedule on 100 images." in " ".join(second.split())


def test_a_wide_table_has_the_papers_figures_below_ours() -> None:
    task = Task("table1", "mnist-5k", TINY, None, 1, ("normal", "bpfc"))
    header, rows, _ = compared(task, shelf([Path("runs")]))
    assert header[:5] == ["", "class", "seeds", "clean", "FGSM"]
    assert [row[0] for row in rows] == ["normal", "– the paper", "BPFC", "– the paper"]
    assert rows[1][1:3] == ["", ""]
    assert all(len(row) == len(header) for row in rows)


def test_seeds_have_a_mean_and_a_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, methods=("normal",), seeds=2)
    assert len(list(Path("runs").glob("*-seed*"))) == 2
    assert "±" in printed.split("Accuracy in %")[0]
    assert _spread([], 2) == "not run"
    assert _spread([61.0], 1) == "61.0"
    assert _spread([60.0, 62.0, 64.0], 3) == "62.0 ± 2.0"
    assert _spread([60.0, 64.0], 3) == "62.0 ± 2.8 (n = 2)"
    path = Path("runs/mnist-5k-normal-quick-seed1/evaluation-pgd-3-first-12/summary.json")
    summary = read_json(path)
    write_json(path, without_checksum(summary) | {"attacks": {}})  # as of a seed whose attack is still to come
    row = compared(Task("table2", "mnist-5k", TINY, None, 2, ("normal",)), shelf([Path("runs")]))[1][0]
    assert row[2] == "2"
    assert "±" in row[4]
    assert row[7].endswith("(n = 1)")
    assert _difference([80.4], "85.7") == "−5.3"
    assert _difference([75.3], "15.1") == "+60.2"
    assert _difference([1.0], "no row") == ""


@pytest.mark.parametrize("where", ["training", "evaluation"])
def test_a_killed_reproduction_goes_on_where_it_was(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit, against one that nothing stopped."""
    run(capsys, methods=("bpfc",), out=Path("whole"))
    save, append = Run.save, Ledger.append

    def dies_after(self: Run, state: State) -> None:
        save(self, state)
        raise KeyboardInterrupt

    def dies_half_way(self: Ledger, rows: list[object], warnings: object = ()) -> None:
        append(self, list(rows)[:5], warnings)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((Run, "save", dies_after) if where == "training" else (Ledger, "append", dies_half_way)))
        with pytest.raises(KeyboardInterrupt):
            run(capsys, methods=("bpfc",), out=Path("cut"))
    name = "mnist-5k-bpfc-quick-seed0"
    left = (len(Run(Path("cut") / name).log), len(list((Path("cut") / name).glob("*/ledger.jsonl"))))
    assert left == ((1, 0) if where == "training" else (2, 1))
    run(capsys, methods=("bpfc",), out=Path("cut"))
    for file in ("model.safetensors", "evaluation-pgd-3-first-12/ledger.jsonl"):
        assert (Path("cut") / name / file).read_bytes() == (Path("whole") / name / file).read_bytes()


def test_seeds_whose_epochs_were_chosen_otherwise_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """± then holds more than the seed's share."""
    told = run(capsys, methods=("bpfc",), seeds=2)
    assert "holds that difference" not in " ".join(told.split())
    path = Path("runs/mnist-5k-bpfc-quick-seed0/recipe.json")
    write_json(path, without_checksum(read_json(path)) | {"validation_attacked": 7})
    told = " ".join(run(capsys, methods=("bpfc",), seeds=2, dry_run=True).split())
    assert "on 7 or 10 validation images; in the row BPFC ± holds that difference too." in told


def test_the_minutes_of_a_row_s_trainings_stand_in_it_and_the_machines_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the caption alone, 97 minutes of one row and 2 to 5 of the others were nobody's."""
    run(capsys, methods=("normal",), seeds=3)
    for seed, device, seconds in ((0, "an H", 70.0), (1, "an H", 130.0), (2, "a slow one", 4_000.0 * 60)):
        folder = Path(f"runs/mnist-5k-normal-quick-seed{seed}")
        (start,) = read_json(folder / "provenance.json", list)
        start["hardware"]["device"] = device
        write_json(folder / "provenance.json", [start])
        rows = read_jsonl(folder / "log.jsonl")
        write_jsonl(folder / "log.jsonl", [row | {"train_seconds": seconds / len(rows)} for row in rows])

    def shown(table: ExperimentName, seeds: int) -> tuple[list[str], str]:
        header, body, told = compared(
            Task(table, "mnist-5k", TINY, None, seeds, ("normal", "bpfc")), shelf([Path("runs")])
        )
        assert header[-1] == "minutes"
        assert {len(row) for row in body} == {len(header)}
        return [row[-1] for row in body], told

    assert shown("table2", 3)[0] == ["1 to 4,000", "–"]
    minutes, told = shown("table1", 2)
    assert minutes[::2] == ["1 to 2", "–"]
    assert not any(minutes[1::2])  # beside the paper's
    network = RECIPES["mnist-5k-normal"][1].network
    assert f"Network: `{network}`, 2 epochs. Minutes are of a training, on an H. From" in told
    assert "Minutes are of a training, on a slow one or an H." in shown("table2", 3)[1]
    run(capsys, methods=("bpfc",))
    folder = Path("runs/mnist-5k-bpfc-quick-seed0")
    (start,) = read_json(folder / "provenance.json", list)
    start["hardware"]["device"] = "another"
    write_json(folder / "provenance.json", [start])
    assert "Minutes are of a training, on an H; of BPFC on another. From" in shown("table1", 1)[1]
    shutil.rmtree(folder)
    rows = read_jsonl(Path("runs/mnist-5k-normal-quick-seed0/log.jsonl"))
    write_jsonl(Path("runs/mnist-5k-normal-quick-seed0/log.jsonl"), [{"epoch": row["epoch"]} for row in rows])
    Path("runs/mnist-5k-normal-quick-seed0/provenance.json").unlink()
    minutes, told = shown("table2", 1)
    assert minutes == ["–", "–"]
    assert "Minutes" not in told


def test_the_black_box_table_trains_sources_and_transfers(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "table3", methods=("normal",))
    assert [line.split()[:2] for line in printed.splitlines() if line[1:3] == "/3"] == [
        ["1/3", "train"],
        ["2/3", "train"],
        ["3/3", "transfer"],
    ]
    task = Task("table3", "mnist-5k", TINY, None, 1, ("normal",))
    row = compared(task, shelf([Path("runs")]))[1][0]
    summary = json.loads(Path("runs/mnist-5k-table3-quick-seed0-first-12/summary.json").read_text())
    target = summary["targets"]["mnist-5k-normal-quick-seed0"]
    shares = [100 * share["accuracy"] for share in (target["clean"], *target["attacks"].values())]
    assert row[3:6] == [f"{share:.1f}" for share in shares]
    assert "1/" not in run(capsys, "table3", methods=("normal",))


def test_one_failure_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = jobs.train

    def fails(recipe: Recipe, *more: Any, **named: Any) -> Run:
        if recipe.method.name == "normal":
            raise TrainingError("the loss is no longer finite")
        return real(recipe, *more, **named)

    monkeypatch.setattr(jobs, "train", fails)
    with pytest.raises(ValueError, match="mnist-5k-normal-quick-seed0: the loss is no longer finite"):
        reproduce.main(options())
    assert [row[2] for row in figures()] == ["not run", "1"]
    assert "failed: mnist-5k-normal" in capsys.readouterr().out

    def breaks(*_: object, **__: object) -> Run:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(jobs, "train", breaks)
    with pytest.raises(ValueError, match="normal-quick-seed0: RuntimeError: out of memory; .*bpfc-quick-seed0: Runt"):
        reproduce.main(options(out=Path("broken")))
    assert "Accuracy in %" in capsys.readouterr().out  # the table is printed all the same


@dataclass(frozen=True)
class Dies(Job):
    """Sent to other processes, it is killed there, or breaks."""

    def do(self, *_: object) -> None:
        if self.attacks == "breaks":
            raise RuntimeError("of a kind that nobody foresaw")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_or_breaks_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """One that ran out of memory took the pool and all that waited with it, and no table was printed."""
    run(capsys, methods=("normal",))
    done = Path("runs/mnist-5k-normal-quick-seed0").resolve()
    recipe = Run(done).recipe()
    work = [Dies(Path(f"side/{how}"), recipe, None, how, 12) for how in ("killed", "breaks")]
    failed = do([*work, Job(Path("side/copy"), recipe, done, "", 12)], 2, "cpu", None, Console())
    assert sorted(failed) == [
        "breaks: RuntimeError: of a kind that nobody foresaw",
        "killed: its process was killed, as it is where memory runs out; fewer --jobs take less",
    ]
    assert Run(Path("side/copy")).digest == Run(done).digest
    assert "Traceback" in Path("side/breaks.log").read_text()
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "begun: train    killed, 2 epochs; attack 12 images with killed; its output is in side/killed.log" in printed
    assert "1/3 done: reuse" in printed


def test_a_process_ends_when_what_began_it_is_killed() -> None:
    """Else it would train on, and the reproduction that goes on would find its folder taken."""
    child = (
        "import os; from bpfc.cli import side_by_side as s; print(os.getpid(), flush=True); s._end_with(os.getppid())"
    )
    began = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    parent = subprocess.Popen([sys.executable, "-c", began], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
        parent.wait()
        assert parent.stdout.read() == ""  # which ends when the child, who holds it too, is gone


def test_with_markdown_the_tables_stand_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """The list of work, and a training's own words, stood before the table in the file."""
    for dry_run in (True, False):
        reproduce.main(options(dry_run=dry_run, markdown=True))
        said = capsys.readouterr()
        assert said.out.startswith("| | class | seeds | clean: paper | ours | difference | ")
        assert "train    mnist-5k-bpfc" in said.err
    assert "epoch 2/2" in said.err


def test_a_name_given_twice_is_done_once(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, data=("mnist-5k", "mnist-5k"), methods=("normal", "normal"), dry_run=True)
    assert "1 pieces of work" in printed


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "restarts"])
@pytest.mark.parametrize("budget", ["paper", "cpu"])
def test_80_columns_hold_every_table_without_a_break_in_a_word(table: ExperimentName, budget: BudgetName) -> None:
    """There was "clea/n", "norma/l", and "not/run" over most of Table 1."""
    task = Task(table, "cifar-10", BUDGETS[budget], None, 3, EXPERIMENTS[table].methods)
    header, rows, _ = compared(task, shelf([]))
    for row in rows:
        if not row[0].startswith("–"):
            row[2:] = [
                "3",
                *("−10.2" if not each or each == "difference" else "92.4 ± 1.2 (n = 2)" for each in row[3:]),
            ]
            row[-1] = "97 to 4,000"
    shown = StringIO()
    Console(width=80, file=shown).print(narrow("", header, rows, 80))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = set(shown.getvalue().split())
    for cell in {*header, *(cell for row in rows for cell in row)}:
        plain = _short(cell)
        assert set(plain.replace(": ", " ").split()) <= words, cell


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": ("svhn",)}, "--data svhn: must be of mnist-5k"),
        ({"methods": ("bqfc",)}, "mnist-5k-bqfc: no such recipe"),
        ({"seeds": 0}, "seeds"),
        ({"jobs": 0}, "jobs"),
        # It has a bpfc-fast too.
        ({"budget": "fast-half", "methods": ("bpfc",)}, "for cifar-10, not for mnist-5k; say --data cifar-10, or"),
        ({"limit": 501}, "--limit 501: mnist-5k has 500 test images"),
        ({"reuse": (Path("nowhere"),)}, "--reuse nowhere: no such folder"),
        ({"data_dir": Path("nowhere"), "dry_run": True}, "--data-dir nowhere: no such folder"),
        ({"table": "cost", "dry_run": True}, "--dry-run: cost trains and attacks nothing"),
        ({"table": "cost", "seeds": 2}, "--seeds: cost .* takes --data, --methods, --markdown and --device$"),
        ({"table": "cost", "methods": ("bpfc", "bqfc")}, "mnist-5k-bqfc: no such recipe"),
    ],
)
def test_what_makes_no_sense_is_told_first(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        reproduce.main(options(**changes))  # type: ignore[arg-type]
    assert not Path("runs").exists()
