"""Whether a kill, a full disk, a damaged file or an odd model can cost work or change a figure.

    python benchmarks/torture [--kills 480] [--full 100] [--damages 3800] [--foreign 1200] [--models 1]
                              [--minutes 60] [--seed 0] [--share 1/1] [--out results/torture]

kill       a verb is killed (SIGKILL) one to five times, at moments drawn at random or right before one of its
           operations on files, then given again to its end; what it leaves is compared to the byte with what an
           unbroken one leaves, but for times, memory and provenance (kills.py)
full       likewise, but no file may grow beyond a size drawn at random, as on a full disk (kills.py)
damage     a file of a run that stands half-way is damaged, and the verb that reads it goes on (damages.py)
foreign    pictures, an archive or weights of somebody's are damaged, and a model is evaluated on them (foreign.py)
model      a model of an odd kind is evaluated, certified and audited (models.py)

Every trial ends as one of

    right      all that is compared is as it was, or as an independent reading gives it
    told       exit status 2, and one line that says what is wrong
    wrong      an exit status that is no error, and another figure
    lost       after a kill or a full disk, not all that an unbroken one leaves is there, or the verb does not go on
    traceback  anything else: a traceback, an error of several lines, a crash, more than a minute of computing

Trial n of a kind follows from the seed and n; trials that stand in OUT/trials.jsonl are not made again, so that a
stopped benchmark goes on. Several processes at one --out each take a share (--share 1/2 and --share 2/2); the last to
end writes the sum. Verbs run in forks of this process, which has imported everything and read the data once, on one
core; TMPDIR=/dev/shm spares the disk. Prints the table, and writes it to OUT/summary.json with the command of every
trial that ended badly.
"""

import argparse
import functools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch counts the cores

import damages
import foreign
import kills
import models
import torch
from outcomes import Trial, print_table, summarise
from scene import prepare

import bpfc.data
from bpfc.files import read_jsonl, write_json
from bpfc.provenance import provenance

KINDS: dict[str, Callable[[random.Random, int], Trial]] = {
    "kill": kills.kill,
    "full": kills.full,
    "damage": damages.damage,
    "foreign": foreign.foreign,
    "model": models.model,
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=480, help="trials with kills, one to five each")
    words.add_argument("--full", type=int, default=100, help="trials on a full disk")
    words.add_argument("--damages", type=int, default=3800, help="trials with a damaged file of a run")
    words.add_argument("--foreign", type=int, default=1200, help="trials with a damaged file of somebody's")
    words.add_argument("--models", type=int, default=1, help="0 leaves out the odd models")
    words.add_argument("--minutes", type=float, default=60, help="begin no trial after so many")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--share", default="1/1", help="of the trials, of several processes")
    words.add_argument("--out", type=Path, default=Path("results/torture"))
    given = words.parse_args()
    command = {"command": " ".join(["python benchmarks/torture", *sys.argv[1:]])}  # verbs put theirs into its place
    ends = time.monotonic() + 60 * given.minutes
    counts = {"kill": given.kills, "full": given.full, "damage": given.damages, "foreign": given.foreign}
    share, shares = map(int, given.share.split("/"))
    counts["model"] = len(models.CASES) if given.models else 0
    torch.set_num_threads(1)
    digits = bpfc.data.load("mnist-5k")
    bpfc.data.load = functools.cache(lambda *_: digits)  # type: ignore[assignment]
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "trials.jsonl"
    done = {(trial["kind"], trial["number"], trial["seed"]) for trial in read_jsonl(file)}
    # All kinds advance alike, so that a run that is stopped early has tried each.
    order = sorted((number / count, kind, number) for kind, count in counts.items() for number in range(count))
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        prepare()
        models.prepare()
        foreign.prepare()
        for _, kind, number in order[share - 1 :: shares]:
            if (kind, number, given.seed) in done or time.monotonic() > ends:
                continue
            found = KINDS[kind](random.Random(f"{given.seed} {kind} {number}"), number)
            line = json.dumps({"kind": kind, "number": number, "seed": given.seed, **found}, ensure_ascii=False) + "\n"
            with file.open("ab", buffering=0) as log:  # a line at once, beside the other processes'
                log.write(line.encode())
    told = provenance(torch.device("cpu")) | command
    summary = summarise(read_jsonl(file))
    write_json(out / "summary.json", summary | {"seed": given.seed, "provenance": told})
    print_table(summary)


if __name__ == "__main__":
    main()
