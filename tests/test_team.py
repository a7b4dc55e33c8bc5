"""Several processes under torchrun write what one would write, byte by byte."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from torch.distributed import HashStore

from bpfc.certification import recorded
from bpfc.cli import certify
from bpfc.cli.certify import Certify
from bpfc.cli.evaluate import Evaluate, run
from bpfc.evaluation import Context, ThreatModel, parse
from bpfc.evaluation.recorded import record
from bpfc.evaluation.subject import from_factory
from bpfc.files import read_json, read_jsonl
from bpfc.team import Team

ROOT = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ATTACKS = "fgsm,pgd-4x2,noise-3"


def test_one_process_is_a_team_too() -> None:
    alone = Team(0, 1)
    assert alone.told("something", {"a": [1]}) == {"a": [1]}
    assert list(alone.handed_out("blocks", 3)) == [0, 1, 2]
    assert list(alone.handed_out("blocks", 3)) == []
    assert (alone.add("done", 2), alone.add("done", 3)) == (2, 5)
    alone.wait("the end")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network of somebody's, and pictures that are decoded as they are needed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("bpfc.data.sets.IN_MEMORY", 0)  # as the module sets it, in this process too, and no longer
    (tmp_path / "somebodys.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from bpfc.data import sets\n"
        "sets.IN_MEMORY = 0\n"
        "def model():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 2))\n"
    )
    from test_own_data import draw

    for label in (0, 1):
        for number in range(30):
            draw(tmp_path / "set" / str(label) / f"{number:02d}.png", 100 * label + number)
    return tmp_path


WORDS = shlex.split(
    "evaluate --model somebodys:model --data set --eps 0.02 --batch-size 4 --device cpu --precision fp32"
)


def torchrun(processes: int, *words: str) -> list[str]:
    return [*TORCHRUN, str(processes), "-m", "bpfc", *WORDS, "--attacks", ATTACKS, *words]


def one_process(out: Path) -> dict[str, object]:
    options = {"model": "somebodys:model", "data": "set", "eps": 0.02, "batch_size": 4, "attacks": ATTACKS}
    return run(Evaluate(**options, device="cpu", precision="fp32", out=out))  # type: ignore[arg-type]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def children(pid: int) -> Iterator[int]:
    told = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout
    yield from map(int, told.split())


def test_processes_write_the_bytes_of_one_and_a_killed_one_costs_open_blocks_only(model: Path) -> None:
    """One of two is killed half-way: what both had written stays, and three go on from it."""
    summary = one_process(model / "one")
    process = subprocess.Popen(
        torchrun(2, "--out", "many"), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    shards = model / "many/shards"
    while len(list(rows_of(shards))) < 12 and process.poll() is None:
        time.sleep(0.005)
    os.kill(list(children(process.pid))[1], signal.SIGKILL)
    assert process.wait() != 0
    written = [row["index"] for row in rows_of(shards)]
    assert 12 <= len(written) < 60
    assert len(written) == len(set(written))

    done = subprocess.run(torchrun(3, "--out", "many"), check=True, env=environment(), capture_output=True, text=True)
    assert done.stdout.count("worst case") == 1  # the first process tells, for all
    merged = read_json(model / "many/summary.json")
    assert merged["images_resumed"] == len(written)
    assert merged["provenance"]["hardware"]["processes"] == 3
    assert merged["attacks"] == summary["attacks"]
    assert (model / "many/ledger.jsonl").read_bytes() == (model / "one/ledger.jsonl").read_bytes()
    assert list(rows_of(shards)) == []


def rows_of(shards: Path) -> Iterator[dict[str, object]]:
    for ledger in shards.glob("*/ledger.jsonl"):
        yield from read_jsonl(ledger)


def test_a_process_that_would_evaluate_something_else_is_refused(model: Path) -> None:
    """As where the machines hold different weights under one name."""
    second = Team(1, 2)
    store = second.__dict__["_store"] = HashStore()
    store.set("settings", json.dumps({"weights_sha256": "f"}))
    subject = from_factory("somebodys:model", None, "set")
    plan = parse("fgsm", Context(ThreatModel("linf", 0.1), channels=1), precision="fp32")
    with pytest.raises(ValueError, match="process 1 would work on something else than the first .*weights_sha256 is"):
        record(subject, plan, model / "out", crew=second)


def test_certificates_too_are_shared_out_and_go_on_from_a_kill(model: Path) -> None:
    options = {"model": "somebodys:model", "data": "set", "eps": 0.002, "batch_size": 4, "device": "cpu"}
    summary = certify.run(Certify(**options, out=model / "one"))  # type: ignore[arg-type]
    rows = read_jsonl(model / "one/certificates.jsonl")
    assert {row["certified_by"] for row in rows} >= {None, "interval"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recorded, "certify_block", stop_at(recorded.certify_block, 4))
        certify.run(Certify(**options, out=model / "many"))  # type: ignore[arg-type]
    begun = model / "many/certificates.jsonl"
    assert len(read_jsonl(begun)) == 12
    with begun.open("a") as file:
        file.write('{"index": 13, "lab')
    words = "certify --model somebodys:model --data set --eps 0.002 --batch-size 4 --device cpu --out many"
    command = [*TORCHRUN, "2", "-m", "bpfc", *words.split()]
    done = subprocess.run(command, check=True, env=environment(), capture_output=True, text=True)
    assert done.stdout.count("proven by") == 1
    assert (model / "many/certificates.jsonl").read_bytes() == (model / "one/certificates.jsonl").read_bytes()
    assert read_json(model / "many/summary.json")["certified"] == summary["certified"]
    assert list((model / "many/shards").iterdir()) == []


def stop_at(function: Callable[..., object], call: int) -> Callable[..., object]:
    calls = count(1)

    def stopping(*arguments: object) -> object:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*arguments)

    return stopping
