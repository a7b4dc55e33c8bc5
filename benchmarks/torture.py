"""Whether a kill or a damaged file can cost work or change a figure.

    python benchmarks/torture.py [--kills 1000] [--damages 5000] [--minutes 60] [--seed 0] [--out results/torture]

Kills: a verb (train, evaluate, transfer) on a tiny recipe is killed (SIGKILL) one to three times, at moments drawn at
random or right before or after one of its renames, then given again to its end; what it leaves is compared to the byte
with what an unbroken one leaves, but for times, memory and provenance. Damages: a file of a finished run is truncated,
emptied, replaced, or has a bit flipped; then the run is resumed and evaluated, or evaluated alone.

Every trial ends as one of

    right      all that is compared is as it was
    told       exit status 2, and one line that says what is wrong
    detail     the figures are right, a row of the ledger differs in what makes no figure
    wrong      exit status 0, and another figure
    lost       after kills, not all that an unbroken one leaves is there, or the verb does not go on
    traceback  anything else

Trial n of a kind follows from the seed and n; trials that stand in OUT/trials.jsonl are not made again, so that a
stopped benchmark goes on. Verbs run in forks of this process, which has imported everything and read the data once.
Prints the table, and writes it to OUT/summary.json with the command of every trial that ended badly.
"""

import argparse
import functools
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch counts the cores

import torch

import bpfc.cli.evaluate
import bpfc.cli.train
import bpfc.cli.transfer
import bpfc.data
import bpfc.evaluation.recorded
import bpfc.training.engine
from bpfc.__main__ import main as bpfc_main
from bpfc.files import read_jsonl, write_json
from bpfc.provenance import provenance

COMPUTE = "--device cpu --precision fp32"
SHORT = f"--epochs 3 --limit 8 --batch-size 4 --validation-attacked 4 --ifgsm-steps 1 {COMPUTE}"
VERBS = {
    "train": f"train mnist-5k-normal --out new {SHORT}",
    "evaluate": f"evaluate run --attacks fgsm,pgd-3x2 --eps 0.1 --limit 24 --batch-size 4 --out new {COMPUTE}",
    "transfer": f"transfer run --source run --attacks fgsm,pgd-2 --limit 24 --batch-size 4 --out new {COMPUTE}",
}
EVALUATE = f"evaluate run --attacks fgsm,pgd-3x2 --eps 0.1 --limit 24 --batch-size 8 {COMPUTE}"
TRAINED = "--epochs 2 --limit 300 --batch-size 10 --validation-attacked 20 --ifgsm-steps 2"
BASE = f"train mnist-5k-normal --out run {TRAINED} {COMPUTE}"
VARYING = {"seconds", "images_resumed", "provenance", "images_per_second", "peak_memory_mib"}
"""What no two runs have alike."""
BAD = ("wrong", "lost", "traceback")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=1000, help="trials with kills")
    words.add_argument("--damages", type=int, default=5000)
    words.add_argument("--minutes", type=float, default=60, help="begin no trial after so many")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--out", type=Path, default=Path("results/torture"))
    given = words.parse_args()
    ends = time.monotonic() + 60 * given.minutes
    torch.set_num_threads(1)
    digits = bpfc.data.load("mnist-5k")
    bpfc.data.load = functools.cache(lambda *_: digits)  # type: ignore[assignment]
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "trials.jsonl"
    trials = read_jsonl(file)
    done = {(trial["kind"], trial["number"], trial["seed"]) for trial in trials}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        references = prepare()
        # In turns, so that a run that is stopped early has tried both.
        for number in range(max(given.kills, given.damages)):
            for kind, count, trial in (("kill", given.kills, kill), ("damage", given.damages, damage)):
                if number >= count or (kind, number, given.seed) in done or time.monotonic() > ends:
                    continue
                shutil.rmtree("run")
                shutil.copytree("sound", "run")
                found = trial(random.Random(f"{given.seed} {kind} {number}"), references)
                trials.append({"kind": kind, "number": number, "seed": given.seed, **found})
                with file.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(trials[-1], ensure_ascii=False) + "\n")
    summary = summarise(trials)
    write_json(out / "summary.json", summary | {"seed": given.seed, "provenance": provenance(torch.device("cpu"))})
    print_table(summary)


def prepare() -> dict[str, dict[str, Any]]:
    """The run that is evaluated and damaged, and what each verb leaves when nothing breaks it, with its seconds."""
    for line in (BASE, EVALUATE):
        assert call(line) == 0, Path("stderr").read_text()
    shutil.copytree("run", "sound")
    references: dict[str, dict[str, Any]] = {"sound": {"figures": figures(Path("run"))}}
    for verb, line in VERBS.items():
        started = time.monotonic()
        assert call(line) == 0, Path("stderr").read_text()
        references[verb] = {"left": left(Path("new")), "seconds": time.monotonic() - started}
        shutil.rmtree("new")
    return references


def kill(chance: random.Random, references: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One trial with kills; how it ended."""
    verb = chance.choice(list(VERBS))
    line, moments, attempts = VERBS[verb], [], 0
    again = f"{line} --resume" if verb == "train" else line
    shutil.rmtree("new", ignore_errors=True)
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.5:
            moment = round(chance.uniform(0, references[verb]["seconds"]), 3)
            status = call(again, seconds=moment)
            drawn = f"{moment} s"
        else:
            rename, after = chance.randint(1, 40), chance.random() < 0.5
            status = call(again, rename=rename, after=after)
            drawn = f"{'after' if after else 'before'} rename {rename}"
        attempts += 1
        if status == -signal.SIGKILL:  # else it came to its end before the moment that was drawn
            moments.append(drawn)
        if status not in (0, -signal.SIGKILL):
            break
    told = {"verb": verb, "killed": moments, "attempts": attempts, "command": f"bpfc {again}"}
    if (status := call(again)) != 0:
        return told | {"end": "lost" if status == 2 else "traceback", "stderr": Path("stderr").read_text()[-2000:]}
    there, whole = left(Path("new")), references[verb]["left"]
    differing = sorted(name for name in {**there, **whole} if there.get(name) != whole.get(name))
    missing = any(name not in there for name in whole)
    return told | {"end": "right" if not differing else "lost" if missing else "wrong", "differing": differing}


def damage(chance: random.Random, references: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One trial with a damaged file; how it ended."""
    files = sorted(path for path in Path("run").rglob("*") if path.is_file() and path.name != ".lock")
    path = chance.choice(files)
    how = chance.choice(list(DAMAGES))
    DAMAGES[how](chance, path, files)
    resumes = chance.random() < 0.5
    lines = [f"{BASE} --resume", EVALUATE] if resumes else [EVALUATE]
    told = {"verb": "train, evaluate" if resumes else "evaluate", "file": str(path.relative_to("run")), "damage": how}
    told["command"] = " && ".join(f"bpfc {line}" for line in lines)
    for line in lines:
        status = call(line)
        said = Path("stderr").read_text(errors="replace")
        if status == 2 and said.startswith("bpfc: error: ") and said.count("\n") == 1:
            return told | {"end": "told", "stderr": said}
        if status != 0:
            return told | {"end": "traceback", "stderr": said[-2000:]}
    if figures(Path("run")) != references["sound"]["figures"]:
        return told | {"end": "wrong"}
    same = Path("run/evaluation/ledger.jsonl").read_bytes() == Path("sound/evaluation/ledger.jsonl").read_bytes()
    return told | {"end": "right" if same else "detail"}


def call(line: str, *, seconds: float | None = None, rename: int | None = None, after: bool = False) -> int:
    """Runs `bpfc LINE` in a fork, killed after so many seconds or at its n-th rename; gives back the exit status."""
    child = os.fork()
    if child == 0:
        _in_the_fork(line, rename, after)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _in_the_fork(line: str, rename: int | None, after: bool) -> None:
    """The verb as the command line does it; never returns."""
    code = 1
    try:
        for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        if rename is not None:
            _kill_at(rename, after)
        sys.argv = ["bpfc", *shlex.split(line)]
        bpfc_main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _kill_at(rename: int, after: bool) -> None:
    """Has this process kill itself at its n-th rename."""
    count = 0

    def counted(plain: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def renames(path: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count == rename and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            moved = plain(path, target)
            if count == rename:
                os.kill(os.getpid(), signal.SIGKILL)
            return moved

        return renames

    for name in ("replace", "rename"):
        setattr(Path, name, counted(getattr(Path, name)))


def left(folder: Path) -> dict[str, str]:
    """Digests of the files in a folder, JSON without what varies."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in (".lock", "provenance.json"):
            continue
        if path.suffix == ".json":
            content = json.dumps(_steady(json.loads(path.read_text()))).encode()
        elif path.name == "log.jsonl":
            content = json.dumps(_steady(read_jsonl(path))).encode()
        else:
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def figures(folder: Path) -> Any:
    """All figures of an evaluation."""
    summary = _steady(json.loads((folder / "evaluation" / "summary.json").read_text()))
    return {name: value for name, value in summary.items() if name != "warnings"}


def _steady(content: Any) -> Any:
    if isinstance(content, dict):
        kept = {name: value for name, value in content.items() if name not in VARYING and not name.endswith("_seconds")}
        return {name: _steady(value) for name, value in kept.items()}
    return [_steady(item) for item in content] if isinstance(content, list) else content


def _flip(chance: random.Random, path: Path, _: list[Path]) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _truncate(chance: random.Random, path: Path, _: list[Path]) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(max(1, len(content)))])


def _replace(chance: random.Random, path: Path, files: list[Path]) -> None:
    """By another file of the run, or by JSON of another kind."""
    odd = [b"null", b"5", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe\x00"]
    other = chance.choice([*odd, *(each.read_bytes() for each in files if each != path)])
    path.write_bytes(other)


DAMAGES: dict[str, Callable[[random.Random, Path, list[Path]], None]] = {
    "flipped": _flip,
    "truncated": _truncate,
    "replaced": _replace,
    "emptied": lambda _, path, __: path.write_bytes(b"") and None,
    "removed": lambda _, path, __: path.unlink(),
}


def summarise(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by kind and verb or damage, and the trials that ended badly."""
    ends: dict[str, Counter[str]] = {}
    for trial in trials:
        shown = f"{trial['verb']} killed" if trial["kind"] == "kill" else f"file {trial['damage']}"
        ends.setdefault(shown, Counter()).update([trial["end"]])
    killed = [trial for trial in trials if trial["kind"] == "kill"]
    # Trials before "attempts" was there list under "killed" what was drawn, whether or not the verb lived to see it.
    attempts = sum(trial.get("attempts", len(trial["killed"])) for trial in killed)
    kills = sum(len(trial["killed"]) for trial in killed) if all("attempts" in trial for trial in killed) else None
    rows = {name: {"tried": sum(counts.values()), **counts} for name, counts in sorted(ends.items())}
    return {
        "attempted_kills": attempts,
        "kills": kills,
        "rows": rows,
        "bad": [trial for trial in trials if trial["end"] in BAD],
    }


def print_table(summary: dict[str, Any]) -> None:
    columns = ("tried", "right", "told", "detail", "wrong", "lost", "traceback")
    print(f"{'':24}" + "".join(f"{name:>10}" for name in columns))
    for name, row in summary["rows"].items():
        print(f"{name:24}" + "".join(f"{row.get(column, 0):10}" for column in columns))
    print(f"{summary['attempted_kills']} kills attempted, {summary['kills']} came before the end")
    for trial in summary["bad"]:
        print(json.dumps(trial, ensure_ascii=False))


if __name__ == "__main__":
    main()
