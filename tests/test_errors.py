"""What a user can do wrong, through the real command line: one line that names it, exit status 2."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_network
from safetensors.torch import save_file
from torch import nn

import bpfc
from bpfc.__main__ import main
from bpfc.models import NETWORKS
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run

MODULE = """
from torch import nn
from conftest import small_network


class Tuple(nn.Sequential):
    def forward(self, images):
        return super().forward(images), 1


def gives_a_tuple():
    return Tuple(*small_network())


def wants(channels):
    return small_network()


def raises():
    raise RuntimeError("no such luck")


def colours():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 10))


def gives_a_list():
    return []


def gives_pairs(channels, classes, size):
    return Tuple(*small_network())


def gives_two(channels, classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 2))


def leaves():
    raise SystemExit(0)


def without_values():
    return small_network().to("meta")


class Odd(nn.Sequential):
    def forward(self, images):
        return self.after(super().forward(images))


def raises_inside():
    made = Odd(*small_network())
    made.after = lambda logits: {}["logits"]
    return made


def sparse():
    made = Odd(*small_network())
    made.after = lambda logits: logits.to_sparse()
    return made
"""


@pytest.fixture
def place(trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, an evaluation of it begun, a model and images of somebody's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("theirs", None)
    (tmp_path / "theirs.py").write_text(MODULE)
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    images, labels = np.zeros((4, 28, 28), np.uint8), np.arange(4)
    np.savez(tmp_path / "some.npz", x=images, y=labels)
    monkeypatch.setitem(NETWORKS, "small", lambda channels, classes, size: small_network())
    run = tmp_path / "run"
    run.mkdir()
    Run(run).begin(replace(RECIPES["mnist-5k-bpfc"][1], network="small", eps=0.1), "fp32", {})
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, run / "model.safetensors")
    return tmp_path


def error_of(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command leaves on stderr."""
    monkeypatch.setattr(sys, "argv", ["bpfc", *[word.replace("''", "") for word in words.split()]])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2, told
    assert told.startswith("bpfc: error: "), told
    assert told.count("\n") == 1, told
    return told


EVALUATE = "evaluate run --limit 4 --device cpu --precision fp32"
THEIRS = "evaluate --data some.npz --eps 0.1 --out out --attacks fgsm --device cpu --precision fp32"
TRAIN = "train mnist-5k-bpfc --out new --epochs 1 --limit 8"
OWN = "train normal --data some.npz --eps 0.1 --out other --validation 1 --device cpu --precision fp32"

WORDS = [
    ("fly", "no verb 'fly'"),
    ("train mnist-5k-bqfc", "did you mean mnist-5k-bpfc"),
    ("recipes mnist-5k-bqfc", "did you mean mnist-5k-bpfc"),
    ("evaluate --out out", "name the folder of a run"),
    *((verb, "name the folder of a run") for verb in ("evaluate", "certify", "audit")),
    ("evaluate nowhere", "nowhere: holds no run"),
    (f"{TRAIN} --seed 1099511627776", "seed=1099511627776"),
    (f"{TRAIN} --lr inf", "lr=inf"),
    (f"{TRAIN} --momentum nan", "momentum=nan"),
    (f"{TRAIN} --weight-decay nan", "weight_decay=nan"),
    (f"{TRAIN} --method.k 9", "k=9"),
    (f"{TRAIN} --epochs three", "--epochs"),
    (f"{TRAIN} --network m-lenot", "network 'm-lenot': did you mean m-lenet?"),
    (f"{TRAIN} --data mnst", "data set 'mnst'"),
    ("train normal --data some.npz --eps 0", "--eps 0: must be a number above 0"),
    ("train normal --data some.npz", "it needs --eps ε"),
    ("train normal --data nowhere --eps 0.1 --network resnet18", "did you mean resnet-18"),
    (f"{TRAIN} --no-such-option", "--no-such-option"),
    ("train mnist-5k-bpfc --out '' --epochs 1", "--out"),
    (f"{TRAIN} --eps 8/0", "8/255"),
    (f"{EVALUATE} --limit -5", "limit=-5"),
    (f"{EVALUATE} --limit 0", "limit=0"),
    (f"{EVALUATE} --batch-size 0", "batch_size=0"),
    (f"{EVALUATE} --seed 99999999999999999999999", "seed="),
    (f"{EVALUATE} --seed -1", "seed=-1"),
    (f"{EVALUATE} --eps nan", "eps=nan"),
    (f"{EVALUATE} --eps inf --norm l2 --attacks pgd-2", "eps=inf"),
    (f"{EVALUATE} --eps 8", "8/255"),
    (f"{EVALUATE} --step-size inf --attacks pgd-2", "step_size=inf"),
    (f"{EVALUATE} --attacks pgd-2,pgd-02", "pgd-02"),
    (f"{EVALUATE} --attacks pgd-٢", "pgd-٢"),
    (f"{EVALUATE} --attacks pgd-0", "steps"),
    (f"{EVALUATE} --attacks pgd-{9**30}", "pgd-"),
    (f"{EVALUATE} --attacks fgsm,,pgd-2", "attack ''"),
    (f"{EVALUATE} --eot 1", "--eot 1: must be 2 or more"),
    (f"{EVALUATE} --eot -3", "--eot -3: must be 2 or more"),
    (f"{EVALUATE} --k 9 --attacks adaptive-2", "k=9"),
    (f"{EVALUATE} --out ''", "--out"),
    (f"{EVALUATE} --out theirs.py", "theirs.py"),
    ("transfer run --source run --limit 0", "limit=0"),
    ("transfer run --source run --batch-size 0", "batch_size=0"),
    ("transfer run --source nowhere", "nowhere: holds no run"),
    ("certify run --limit -5", "limit=-5"),
    ("certify run --eps nan", "eps"),
    (f"{THEIRS} --model theirs:gives_a_tuple", "gives a tuple"),
    (f"{THEIRS} --model theirs:wants", "theirs:wants"),
    (f"{THEIRS} --model theirs:raises", "no such luck"),
    (f"{THEIRS} --model theirs:gives_a_list", "gives a list"),
    (f"{THEIRS} --model theirs:leaves", "SystemExit"),  # ended with status 0 and no figure
    (f"{THEIRS} --model theirs:without_values", "on the meta device"),
    (f"{THEIRS} --model theirs:raises_inside", "the model fails on float32 images of shape"),
    (f"{THEIRS} --model theirs:sparse", "sparse"),
    (f"{OWN} --network theirs:gives_a_tuple", "network 'theirs:gives_a_tuple': fails when called with channels"),
    (f"{OWN} --network theirs:gives_pairs", "the network theirs:gives_pairs gives a tuple"),
    (f"{OWN} --network theirs:gives_two", "gives 2 logits an image, but the data has 4 classes"),
    (f"{TRAIN} --shrunk 0.5 --epochs 2 --device cpu --precision fp32", "m-lenet takes images of 28 pixels alone"),
    (f"{TRAIN} --flips alternating", "there are no flips without augment=True"),
    ("transfer run", "--source"),
    (f"{EVALUATE} --size 14", "--size: is for pictures that you hand in, not for a run"),
    (f"{THEIRS} --model conftest:small_network --data mnist-5k --colour rgb", "--colour: is for pictures"),
    ("train mnist-5k-bpfc --out other --skip-unreadable", "not for mnist-5k"),
    ("demo --epochs 0 --out new", "epochs=0"),
    ("audit run --no-such-option", "--no-such-option"),
    (f"{THEIRS} --model theirs:colours", "4 × 1 × 28 × 28"),
    (f"{THEIRS} --model theirs:nothing", "theirs:nothing"),
    (f"{THEIRS} --model nowhere:nothing", "nowhere:nothing"),
    (f"{THEIRS} --model conftest:small_network --weights empty.pt", "empty.pt"),
    (f"{THEIRS} --model conftest:small_network --weights empty.safetensors", "empty.safetensors"),
    (f"{THEIRS} --model conftest:small_network --weights nowhere.pt", "nowhere.pt"),
    (f"{THEIRS} --model conftest:small_network --mean 0.5 --std inf", "std"),
    (f"{THEIRS} --model conftest:small_network --mean nan --std 1", "mean=(nan,)"),
    (f"{THEIRS} --model conftest:small_network --mean 0.5", "--mean and --std"),
    (f"{THEIRS} --model conftest:small_network --mean 0.5 0.5 --std 1 1", "--mean: 2 values"),
]


@pytest.mark.parametrize(("words", "told"), WORDS, ids=[words[:60] for words, _ in WORDS])
def test_words(
    words: str, told: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(words, monkeypatch, capsys)
    assert told in error
    assert "__tyro" not in error
    assert "weights_only=False" not in error
    assert not (place / "new").exists()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_text("null\n"),
    "number": lambda path: path.write_text("5\n"),
    "list": lambda path: path.write_text("[]\n"),
    "object": lambda path: path.write_text("{}\n"),
    "deep": lambda path: path.write_text("[" * 100_000 + "\n"),
    "bytes": lambda path: path.write_bytes(b"\xff\x00\xfe\n"),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\n"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["recipe.json", "model.safetensors", "e/evaluation.json", "e/ledger.jsonl"])
def test_damaged_files(
    file: str, damage: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{EVALUATE} --attacks fgsm --out run/e"
    monkeypatch.setattr(sys, "argv", ["bpfc", *words.split()])
    main()
    right = (place / "run" / "e" / "ledger.jsonl").read_bytes()
    DAMAGE[damage](place / "run" / file)
    if file == "e/ledger.jsonl" and damage == "empty":  # as a kill before the first row leaves it
        main()
        assert (place / "run" / file).read_bytes() == right
        return
    assert Path(file).name in error_of(words, monkeypatch, capsys)


def test_a_full_disk(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in error_of(f"{EVALUATE} --attacks fgsm", monkeypatch, capsys)
    assert "No space left on device" in error_of(f"{TRAIN} --device cpu", monkeypatch, capsys)
    shutil.rmtree(place / "new")


OWNING = [
    f"{EVALUATE} --attacks fgsm --out busy",
    "transfer run --source run --out busy",
    "certify run --out busy --device cpu",
    "audit run --quick --out busy --device cpu",
]


@pytest.mark.parametrize("words", OWNING)
def test_one_process_owns_a_folder(
    words: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # F4: two at once left 96 rows of 48 images
    (place / "busy").mkdir()
    holds = "import sys; from pathlib import Path; from bpfc.files import owned\n"
    holds += "with owned(Path('busy')): print('in', flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": str(Path(bpfc.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        assert "busy: another process is at work there" in error_of(words, monkeypatch, capsys)
        assert not (place / "busy" / "ledger.jsonl").exists()
        other.kill()
    if words.startswith("audit"):  # of which the least takes a minute
        return
    monkeypatch.setattr(sys, "argv", ["bpfc", *words.split(), "--limit", "2"])
    main()  # a kill leaves nothing owned


def test_weights_that_would_run_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": object()}, place / "code.pt")
    told = error_of(f"{THEIRS} --model conftest:small_network --weights code.pt", monkeypatch, capsys)
    assert "needs code to be run" in told
    assert "weights_only=False" not in told


STATES: dict[Path, bytes] = {}
"""The files of a training of one epoch, for all cases."""


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "file", ["checkpoint-0001/state.json", "checkpoint-0001/weights.safetensors", "provenance.json"]
)
def test_damaged_states(
    file: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = "--epochs 1 --limit 4 --batch-size 4 --validation-attacked 2 --ifgsm-steps 1 --device cpu --precision fp32"
    words = f"train mnist-5k-normal --out new --resume {small}"
    if not STATES:
        monkeypatch.setattr(sys, "argv", ["bpfc", *words.split()])
        main()
        STATES.update({path: path.read_bytes() for path in Path("new").rglob("*") if path.is_file()})
    for path, content in STATES.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    DAMAGE[damage](Path("new") / file)
    if (file, damage) == ("provenance.json", "list"):
        return  # which is what it holds
    assert (Path(file).parent.name or file) in error_of(words, monkeypatch, capsys)
