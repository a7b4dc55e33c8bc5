import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bpfc.__main__ import main
from bpfc.cli import demo, train
from bpfc.cli.demo import demo_recipes
from bpfc.files import read_jsonl
from bpfc.training.recipes import RECIPES


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bpfc", *words])
    main()


def test_help_lists_verbs_and_recipes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "--help")
    verbs = capsys.readouterr().out
    assert all(verb in verbs for verb in ("train", "evaluate", "demo"))
    with pytest.raises(SystemExit):
        call(monkeypatch, "train", "--help")
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    with pytest.raises(SystemExit):
        call(monkeypatch, "train", "cifar-10-bpfc", "--help")
    options = capsys.readouterr().out
    for option in ("--out", "--epochs", "--limit", "--seed", "--device", "--precision", "--data-dir", "--resume"):
        assert option in options
    assert "--method.k" in options


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name.startswith("mnist-5k") or name.endswith("-bpfc")])
def test_recipes_train_and_evaluates(
    recipe: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    short = "--epochs 1 --limit 8 --batch-size 4 --validation 20 --validation-attacked 4 --ifgsm-steps 2"
    call(monkeypatch, "train", recipe, "--out", out, *short.split(), "--device", "cpu", "--precision", "fp32")
    assert len(read_jsonl(tmp_path / "run" / "log.jsonl")) == 1
    call(monkeypatch, "evaluate", out, "--attacks", "fgsm,pgd-2", "--eps", "4/255", "--limit", "6", "--device", "cpu")
    assert "worst case" in capsys.readouterr().out
    assert len(read_jsonl(tmp_path / "run" / "evaluation" / "ledger.jsonl")) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fly"], "no verb 'fly'"),
        (["evaluate", "/nowhere"], "/nowhere: holds no run"),
        (["train", "mnist-5k-bpfc", "--method.k", "8"], "k=8"),
        (["train", "mnist-5k-bpfc", "--epochs", "0"], "epochs=0"),
        (["train", "mnist-5k-bpfc", "--eps", "8/0"], "8/255"),
        (["train", "mnist-5k-bqfc"], "mnist-5k-bqfc"),
    ],
)
def test_errors_are_told_without_a_traceback(words: list[str], told: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bpfc", *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode != 0
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


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

    monkeypatch.setattr(train, "run", stop)
    monkeypatch.setattr(demo, "main", stop)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *shlex.split(verb))
    assert stopped.value.code == 130
    assert capsys.readouterr().err.endswith(f"Go on with: bpfc {again}\n")


def test_demo_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In miniature; its figures are those of `make demo`, in results/."""
    import matplotlib.image

    quick = {name: replace(recipe, validation_attacked=10) for name, recipe in demo_recipes().items()}
    monkeypatch.setattr(demo, "demo_recipes", lambda: quick)
    call(monkeypatch, "demo", "--out", str(tmp_path / "demo"), "--epochs", "3", "--limit", "300")
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("normal", "BPFC", "pgd-100", "fgsm"))
    for name in ("summary.json", "normal/model.safetensors", "bpfc/evaluation/ledger.jsonl"):
        assert (tmp_path / "demo" / name).is_file()
    picture = matplotlib.image.imread(tmp_path / "demo" / "demo.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.05
