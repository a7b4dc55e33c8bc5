import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch import nn

import bpfc
from bpfc.__main__ import VERBS, main
from bpfc.cli import certify, demo, evaluate, jobs, recipes, train, transfer
from bpfc.evaluation.forms import FORMS
from bpfc.files import read_jsonl
from bpfc.models import NETWORKS, m_lenet_half_sparse, m_lenet_quarter, resnet18_half
from bpfc.training import demo_recipes, start
from bpfc.training.health import TrainingError
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bpfc", *words])
    main()


def test_help_lists_verbs_and_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "--help")
    listed = capsys.readouterr().out
    assert all(f"  {verb} " in listed for verb in VERBS)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "train", "cifar-10-bpfc", "--help")
    assert stopped.value.code == 0
    options = capsys.readouterr().out
    for option in ("--out", "--epochs", "--limit", "--seed", "--device", "--precision", "--data-dir", "--resume"):
        assert option in options
    assert "bpfc recipes" in options
    call(monkeypatch, "--version")
    assert capsys.readouterr().out == f"bpfc {bpfc.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_terminal(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        call(monkeypatch, verb, "--help")
    usage, *lines = capsys.readouterr().out.splitlines()
    assert usage.startswith(f"usage: bpfc {verb}")
    assert [line for line in lines if len(line) > 80] == []
    if verb == "train":  # the others' lines end with the frame
        assert [line for line in lines if line != line.rstrip()] == []


def test_recipes_are_listed_and_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    call(monkeypatch, "recipes")
    table = capsys.readouterr().out
    for name, (_, recipe) in RECIPES.items():
        short = name.removeprefix(f"{recipe.data}-")
        assert short.removesuffix("-curve").removesuffix("-fast" if recipe.data == "cifar-10" else "") in table
    assert "87.2/67.7" in table  # the paper's BPFC on Fashion-MNIST
    assert "as METHOD-curve, behind a tone curve: normal-fast, bpfc-fast," in " ".join(table.split())
    assert "as METHOD-fast, in 15 epochs: normal, bpfc, bpfc-simple-quantisation," in " ".join(table.split())
    assert ["pgd-at", "5", "41/8", "✓"] in [line.split()[:4] for line in table.splitlines()]
    monkeypatch.setenv("COLUMNS", "80")
    call(monkeypatch, "recipes")
    narrow = capsys.readouterr().out
    assert "…" not in narrow
    assert "87.2/67.7" in narrow
    monkeypatch.setenv("COLUMNS", "160")
    call(monkeypatch, "recipes", "fashion-mnist-bpfc")
    shown = capsys.readouterr().out
    assert "--method.k 6 " in shown
    call(monkeypatch, "recipes", "mnist-best")
    best = capsys.readouterr().out
    assert all(word in best for word in ("Class 0, cost 3", "certified, of all test images", "--precision bf16"))
    call(monkeypatch, "attacks")
    assert "pgd-STEPS" in capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in `bpfc evaluate … | head -1`."""
    monkeypatch.setattr("bpfc.cli.attacks.main", lambda _: print("a line"))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as stopped:
            call(monkeypatch, "attacks")
    assert stopped.value.code == 141
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_that_has_no_epsilon_takes_the_rest(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a pipe on Windows, or with LC_ALL=C."""
    out = TextIOWrapper(BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", TextIOWrapper(BytesIO(), encoding, "backslashreplace"))  # as Python has it
    call(monkeypatch, "--help")
    call(monkeypatch, "attacks")
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "train", "--help")
    assert stopped.value.code == 0
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "train", "bpfc")
    assert stopped.value.code == 2
    out.seek(0)
    assert "move k, ? and steps" in out.read()


def test_no_help_loads_torch() -> None:
    """In a fresh process, each verb in turn."""
    told = f"""
import contextlib, importlib, io, sys
for verb in {list(VERBS)!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        importlib.import_module("bpfc.cli." + verb).parse(["--help"])
    assert "torch" not in sys.modules, verb
"""
    subprocess.run([sys.executable, "-c", told], check=True)


def test_help_texts_are_one_paragraph_each() -> None:
    """tyro leaves a break within a docstring below an option where it is; a longer text is given by tyro.conf.arg."""
    package = Path(bpfc.__file__).parent
    broken = []
    for path in (*(package / "cli").glob("*.py"), package / "options.py", package / "training" / "settings.py"):
        for kind in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            below = kind.body[1:] if isinstance(kind, ast.ClassDef) else []
            told = [each.value for each in below if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)]
            broken += [each.value for each in told if "\n" in each.value]
    assert broken == []


NARROW: dict[str, Callable[[int, int, int], nn.Module]] = {
    "m-lenet": m_lenet_quarter,
    "m-lenet-sparse": m_lenet_half_sparse,
    "resnet-18": resnet18_half,
}
"""In place of the networks of these names, in a fraction of the time."""


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name.startswith("mnist-5k") or name.endswith("-bpfc")])
def test_recipes_train_and_evaluates(
    recipe: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, narrow in NARROW.items():
        monkeypatch.setitem(NETWORKS, name, narrow)
    out = str(tmp_path / "run")
    short = "--epochs 1 --limit 4 --batch-size 2 --validation 20 --validation-attacked 2 --ifgsm-steps 1"
    call(monkeypatch, "train", recipe, "--out", out, *short.split(), "--device", "cpu", "--precision", "fp32")
    assert len(read_jsonl(tmp_path / "run" / "log.jsonl")) == 1
    call(monkeypatch, "evaluate", out, "--attacks", "fgsm,pgd-1", "--eps", "4/255", "--limit", "3", "--device", "cpu")
    assert "worst case" in capsys.readouterr().out
    assert len(read_jsonl(tmp_path / "run" / "evaluation" / "ledger.jsonl")) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fly"], "no verb 'fly'; bpfc --help lists them"),
        (["trian"], "no verb 'trian'; did you mean train? bpfc --help lists them"),
        (["--verison"], "no verb '--verison'; did you mean --version?"),
        (["train", "normal"], "bpfc train normal: a method, not a recipe; it needs --data PATH and --eps ε"),
        (["train", "normal", "--data", "x"], "bpfc train normal: a method, not a recipe; it needs --eps ε"),
        (["evaluate", "/nowhere"], "/nowhere: holds no run"),
        (["train", "mnist-5k-bpfc", "--method.k", "8"], "k=8"),
        (["train", "mnist-5k-bpfc", "--epochs", "0"], "epochs=0"),
        (["train", "mnist-5k-bpfc", "--eps", "8/0"], "8/255"),
        (["train", "mnist-5k-bqfc"], "no recipe 'mnist-5k-bqfc'; did you mean mnist-5k-bpfc"),
        (["train", "box", "--data", "x"], "with --data PATH the methods are normal, bpfc, box-consistency,"),
    ],
)
def test_errors_are_told_in_one_line(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *words)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert told in printed.out + printed.err
    assert not list(tmp_path.iterdir())


def test_an_error_reaches_the_shell_and_only_trainings_load_their_engine(tmp_path: Path) -> None:
    """An audit loads more than the other verbs that look at networks, but not lightning_fabric, which takes seconds."""
    words = [sys.executable, "-X", "importtime", "-m", "bpfc", "audit", "/nowhere"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    (told,) = (line for line in lines if not line.startswith("import time:"))
    assert told.startswith("bpfc: error: /nowhere: holds no run")
    loaded = {line.split("|")[-1].strip() for line in lines if line != told}
    assert {"torch", "bpfc.auditing", "bpfc.certification", "bpfc.evaluation"} <= loaded
    assert "lightning_fabric" not in loaded


@pytest.mark.parametrize(
    ("verb", "again"),
    [
        ("train mnist-5k-bpfc --out run", "train mnist-5k-bpfc --out run --resume"),
        ("train mnist-5k-bpfc --resume", "train mnist-5k-bpfc --resume"),
        ("demo --out 'a b'", "demo --out 'a b'"),
    ],
)
def test_ctrl_c_says_how_to_go_on(
    verb: str, again: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "main", stop)
    monkeypatch.setattr(demo, "main", stop)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *shlex.split(verb))
    assert stopped.value.code == 130
    assert capsys.readouterr().err.endswith(f"Go on with: bpfc {again}\n")


@pytest.mark.parametrize(
    "name", ["fashion-mnist-bpfc", "mnist-best", "cifar-10-manifold-mixup", "mnist-margin-coarse", "cifar-10-trades"]
)
def test_the_command_that_recipes_prints_gives_the_recipe(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipes.main(recipes.Recipes(name))
    printed = capsys.readouterr().out
    told = shlex.split(printed[printed.index("bpfc train") :].replace("\\\n", " "))
    assert told[:3] == ["bpfc", "train", name]
    assert train.parse(told[2:]).recipe == RECIPES[name][1]


@pytest.mark.parametrize(
    ("words", "attacked", "trained"),
    [
        ("mnist-5k-fgsm-at", 0.3, 0.3),
        ("mnist-5k-fgsm-at --eps 0.1", 0.1, 0.1),
        ("mnist-ibp --epochs 3 --eps=1/10", 0.1, 0.1),
        ("mnist-5k-pgd-at --method.eps 0.2", 0.3, 0.2),
        ("mnist-5k-trades --method.eps 0.3 --eps 0.1", 0.1, 0.3),
        ("mnist-5k-bpfc --eps 0.1", 0.1, None),
    ],
)
def test_a_method_trains_at_the_eps_that_is_given_or_says_that_it_does_not(
    words: str,
    attacked: float,
    trained: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With --eps alone it trained at the recipe's own, and nothing was said."""
    seen = []

    def stop(recipe: Recipe, *_: object, **__: object) -> None:
        seen.append(recipe)
        raise TrainingError("that will do")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "train", stop)
    with pytest.raises(SystemExit):
        call(monkeypatch, "train", *shlex.split(words))
    assert seen[0].eps == pytest.approx(attacked)
    assert getattr(seen[0].method, "eps", None) == (None if trained is None else pytest.approx(trained))
    told = f"trains at ε {trained} (--method.eps); validation and later attacks are at {attacked} (--eps)"
    assert (told in capsys.readouterr().out) == (trained not in (None, attacked))


@pytest.mark.parametrize(
    "words",
    [
        "train mnist-5k-bpfc",
        "train mnist-5k-normal",
        "train mnist-best",
        "demo",
        "demo --epochs 2",
        "reproduce table2 --data mnist-5k --methods bpfc",
    ],
)
def test_a_training_that_comes_to_nothing_names_options_of_the_verb_at_hand(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise TrainingError("it came to nothing")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "train", fails)
    monkeypatch.setattr(jobs, "train", fails)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *shlex.split(words))
    assert stopped.value.code == 2
    told = capsys.readouterr().err.partition("it came to nothing; ")[2]
    options = re.findall(r"--[a-z][a-z.-]*", told)
    assert options
    verb, *rest = shlex.split(words)
    for option in options:
        importlib.import_module(f"bpfc.cli.{verb}").parse([*rest, option, "1"])


def test_demo_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In miniature; its figures are those of `make demo`, in results/."""
    import matplotlib.image

    quick = {name: replace(recipe, validation_attacked=10) for name, recipe in demo_recipes.DEMO_RECIPES.items()}
    monkeypatch.setattr(demo_recipes, "DEMO_RECIPES", quick)
    out = tmp_path / "a demo"
    call(monkeypatch, "demo", "--out", str(out), "--epochs", "3", "--limit", "100")
    printed = capsys.readouterr().out
    assert printed.endswith(f"What others leave: bpfc audit {shlex.quote(str(out / 'bpfc'))} --quick\n")
    assert all(word in printed for word in ("normal", "BPFC", "pgd-100", "fgsm"))
    for name in ("summary.json", "normal/model.safetensors", "bpfc/evaluation/ledger.jsonl"):
        assert (out / name).is_file()
    picture = matplotlib.image.imread(out / "demo.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.05


def test_attacks_are_listed_with_their_restarts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are told in brackets, which were taken for markup, and left out."""
    monkeypatch.setenv("COLUMNS", "80")
    call(monkeypatch, "attacks")
    listed = capsys.readouterr().out
    assert [form.shown for form in FORMS if form.shown not in listed] == []


@pytest.mark.parametrize("name", ["cats[/v2]", "my [old] cats"])
def test_brackets_in_a_name_are_no_markup(name: str) -> None:
    """After an evaluation of hours, the table of data in such a folder was a traceback, or had another name."""
    share = {"accuracy": 0.5, "interval_95": [0.4, 0.6]}
    warned = f"look at {name}"
    summary = {"data": name, "images": 4, "eps": 0.1, "norm": "linf", "clean": share, "worst_case": share}
    tables: list[tuple[Callable[[dict[str, Any], Console], None], dict[str, Any]]] = [
        (evaluate.print_table, {"attacks": {"fgsm": share}, "warnings": [warned]}),
        (certify.print_table, {"methods": {"interval": share}, "certified": share}),
        (
            transfer.print_table,
            {"targets": {name: {"clean": share, "attacks": {f"fgsm@{name}": share}}}, "warnings": {name: [warned]}},
        ),
    ]
    for print_table, more in tables:
        console = Console(record=True, width=200, file=StringIO())
        print_table(summary | more, console)
        told = console.export_text()
        assert f"{name}, 4 images" in told
        assert ("warnings" not in more) or warned in told
        assert ("targets" not in more) or f"fgsm@{name}" in told
