"""Several processes under torchrun write what one would write, byte by byte."""

import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from processes import torchrun
from torch.distributed import HashStore

import bpfc.auditing
from bpfc.__main__ import main
from bpfc.auditing.found import Found
from bpfc.certification import recorded
from bpfc.cli import certify
from bpfc.cli.certify import Certify
from bpfc.cli.evaluate import Evaluate, run
from bpfc.evaluation import Context, ThreatModel, parse
from bpfc.evaluation.recorded import record
from bpfc.evaluation.subject import from_factory
from bpfc.files import read_json, read_jsonl
from bpfc.team import Team

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
        "import os, time, torch\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from bpfc.data import sets\n"
        "sets.IN_MEMORY = 0\n"
        "def model():\n"
        "    torch.manual_seed(0)\n"
        "    Path(f'pid {os.environ.get(\"RANK\")}').write_text(str(os.getpid()))\n"
        "    made = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 2))\n"
        "    made.register_forward_pre_hook(lambda *_: time.sleep(float(os.environ.get('SLOW', 0))))\n"
        "    return made\n"
    )
    from test_own_data import draw

    for label in (0, 1):
        for number in range(30):
            draw(tmp_path / "set" / str(label) / f"{number:02d}.png", 100 * label + number)
    return tmp_path


WORDS = (
    "evaluate --model somebodys:model --data set --eps 0.02 --batch-size 4 --device cpu --precision fp32 "
    f"--attacks {ATTACKS} --out many"
).split()


def one_process(out: Path) -> dict[str, object]:
    options = {"model": "somebodys:model", "data": "set", "eps": 0.02, "batch_size": 4, "attacks": ATTACKS}
    return run(Evaluate(**options, device="cpu", precision="fp32", out=out))  # type: ignore[arg-type]


def test_processes_write_the_bytes_of_one_and_a_killed_one_costs_open_blocks_only(model: Path) -> None:
    """One of two is killed half-way: what both had written stays, and three go on from it."""
    summary = one_process(model / "one")
    two = torchrun(2, "bpfc", *WORDS, SLOW="0.01")  # lest the other has done all before torchrun ends it
    shards = model / "many/shards"
    while (len(list(rows_of(shards))) < 12 or not Path("pid 1").exists()) and not two.done():
        time.sleep(0.005)
    os.kill(int(Path("pid 1").read_text()), signal.SIGKILL)
    assert not two.result()[0]
    written = [row["index"] for row in rows_of(shards)]
    assert 12 <= len(written) < 60
    assert len(written) == len(set(written))

    well, printed = torchrun(3, "bpfc", *WORDS).result()
    assert well, printed
    assert printed.count("worst case") == 1  # the first process tells, for all
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
    well, printed = torchrun(2, "bpfc", *words.split()).result()
    assert well, printed
    assert printed.count("proven by") == 1
    assert (model / "many/certificates.jsonl").read_bytes() == (model / "one/certificates.jsonl").read_bytes()
    assert read_json(model / "many/summary.json")["certified"] == summary["certified"]
    assert list((model / "many/shards").iterdir()) == []


def test_two_processes_audit_as_one_does(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same verdict, figures and findings, from the same lines of the attacks; the first process has the folder."""
    words = "audit --model somebodys:model --data set --eps 0.02 --quick --limit 12 --batch-size 4 --device cpu"
    budget = "Budget(12, 10, (1, 2), 50, 2, (1e-3,), 1, (2, 4))"
    (model / "tiny.py").write_text(
        "import bpfc.auditing\n"
        "from bpfc.__main__ import main\n"
        f"bpfc.auditing.QUICK = bpfc.auditing.{budget}\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    well, printed = torchrun(2, "tiny.py", *words.split(), "--out", "two").result()
    monkeypatch.setattr(bpfc.auditing, "QUICK", eval(budget, vars(bpfc.auditing)))
    monkeypatch.setattr(sys, "argv", ["bpfc", *words.split(), "--out", "one"])
    with suppress(SystemExit):  # the verdict is the exit status
        main()
    said, shared = (read_json(model / name / "audit.json") for name in ("one", "two"))
    assert shared.pop("provenance")["hardware"]["processes"] == 2
    assert said.pop("provenance")["hardware"]["processes"] == 1
    for found in (said, shared):
        assert found.pop("seconds") > 0
    assert shared == said
    assert well == (said["exit_status"] == 0)
    lines, others = ([untimed(row) for row in read_jsonl(model / name / "measured.jsonl")] for name in ("one", "two"))
    assert lines == others
    assert len(lines) > 10
    assert printed.count(f"{said['images']} images, ℓ∞ ε") == 1  # the first process tells, for all


def untimed(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in ("seconds", "crc32")}


def test_blocks_of_an_attack_are_shared_out_and_what_was_found_is_known_to_all(tmp_path: Path) -> None:
    """The second process's blocks; and it is refused where it would run another attack than the first."""
    store, second = HashStore(), Team(1, 2)
    second.__dict__["_store"] = store
    store.set("audit", json.dumps({"eps": 0.1}))
    found = Found(tmp_path, {"eps": 0.1}, second)
    asked = {"attack": "FGSM x1 on 4", "name": "fgsm", "images": zlib.crc32(b"[3, 5, 6, 8]")}
    store.set("attack 1", json.dumps(asked))
    store.set("attack 1, kept", "null")
    store.add("attack 1, blocks", 1)  # the first process has taken the first block
    store.set("attack 1, found: 0", json.dumps([[5, 0, 1]]))
    ran = []

    def run(parts: Iterator[list[int]]) -> Iterator[list[int | None]]:
        for part in parts:
            ran.append(part)
            yield [part[0], 0, None]

    line, new = found.by("fgsm", "FGSM x1 on 4", 0.1, [3, 5, 6, 8], 2, run)
    assert (ran, new, line["found"]) == ([[6, 8]], True, [[5, 0, 1], [6, 0, None]])
    assert list(tmp_path.iterdir()) == []
    store.set("attack 2", json.dumps({"attack": "PGD x1 on 4", "name": "pgd", "images": 0}))
    with pytest.raises(ValueError, match="process 1 would .*attack is 'none', there 'PGD x1 on 4'"):
        found.end()


def stop_at(function: Callable[..., object], call: int) -> Callable[..., object]:
    calls = count(1)

    def stopping(*arguments: object) -> object:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*arguments)

    return stopping
