"""The verbs that are tortured, on a run of the tiniest kind, and what each leaves when nothing breaks it."""

import shlex
import shutil
import sys
import time
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

from forks import call, ended, operations, said
from outcomes import left
from torch import nn

import bpfc.auditing
import bpfc.machine
import bpfc.provenance
from bpfc.__main__ import main as bpfc_main
from bpfc.auditing.budget import Budget
from bpfc.models import NETWORKS
from bpfc.report.budgets import BUDGETS
from bpfc.report.budgets import Budget as ReportBudget

NETWORKS["tiny"] = lambda channels, classes, size: nn.Sequential(
    nn.Flatten(), nn.Linear(channels * size * size, 16), nn.ReLU(), nn.Linear(16, classes)
)
"""Known in this process alone: a trial is to cost no more than what surrounds the network."""

CPU = "--device cpu"
PLAIN = f"{CPU} --precision fp32"
SHORT = f"--epochs 3 --limit 8 --batch-size 4 --validation-attacked 4 --ifgsm-steps 1 {PLAIN}"
EPOCHS = 16
TRAINED = f"--epochs {EPOCHS} --limit 200 --batch-size 10 --validation-attacked 20 --ifgsm-steps 1"
LEARNING = "--lr 0.05 --lr-schedule.shape one-cycle --momentum 0.9 --clip-norm 1 --weight-decay 0"
RUN = f"train mnist-5k-normal --out run --network tiny {TRAINED} {LEARNING} {PLAIN}"
EVALUATE = f"evaluate run --attacks fgsm,pgd-3x2 --eps 0.05 --batch-size 8 {PLAIN}"
TRANSFER = f"transfer run --source run --attacks fgsm,pgd-2 --eps 0.05 --batch-size 8 {PLAIN}"
CERTIFY = f"certify run --batch-size 8 {CPU}"
CERTIFIED = f"{CERTIFY} --eps 0.002 --curve --methods interval"
AUDIT = f"audit run --quick --limit 8 --eps 0.05 --batch-size 8 {CPU}"
REPRODUCE = f"--data mnist-5k {CPU} --reuse nowhere"

VERBS = {
    "train": f"train mnist-5k-normal --out new --network tiny {SHORT}",
    "evaluate": f"{EVALUATE} --limit 24 --save-images --csv --out new",
    "transfer": f"{TRANSFER} --limit 24 --out new",
    "certify": f"{CERTIFY} --eps 0.002 --limit 32 --curve --out new",
    "audit": f"{AUDIT} --out new",
    "reproduce": f"reproduce table2 {REPRODUCE} --methods normal bpfc --out new",
    "reproduce black box": f"reproduce table3 {REPRODUCE} --methods normal --out new",
}
"""What is killed; train goes on with --resume."""

STAGES = {
    "train": f"{RUN} --resume",
    "evaluate": f"{EVALUATE} --limit 24 --out run/evaluation",
    "transfer": f"{TRANSFER} --limit 16 --out run/transfer",
    "certify": f"{CERTIFIED} --limit 16 --out run/certification",
    "attacked": f"{CERTIFY} --eps 0.05 --limit 8 --evaluation run/evaluation --out run/attacked",
    "audit": f"{AUDIT} --out run/audit",
}
"""What goes on in a run that stands half-way, one of its files damaged."""


@dataclass(frozen=True)
class Whole:
    """What a verb leaves when nothing breaks it, in how many seconds, by how many operations on files."""

    left: dict[str, str]
    seconds: float
    operations: int


WHOLE: dict[str, Whole] = {}
"""By verb, in the folder `new`."""
FINISHED: dict[str, dict[str, str]] = {}
"""By verb, of the folder that it writes into, where a run that stands half-way was gone on with."""


def prepare() -> None:
    """Makes the folder `sound`, a run that stands half-way, and fills WHOLE and FINISHED."""
    # Which commit this is does not change meanwhile.
    bpfc.provenance._commit = cache(bpfc.provenance._commit)
    # An audit of seconds; what it keeps and how it goes on is the same.
    # And a reproduction: small networks under the names of real ones, few epochs, a dozen images.
    BUDGETS["quick"] = ReportBudget("a torture's schedule", 0.08, 200, 10, 12, 3, 2)
    NETWORKS["m-lenet"] = NETWORKS["net-a"] = NETWORKS["tiny"]
    bpfc.machine._seconds = lambda _: 1.0  # precision by what the CPU is fast in is float32 then
    bpfc.auditing.QUICK = Budget(8, 10, (1, 2), 20, 4, (1e-1,), 1, (2, 4))  # type: ignore[misc]
    half = "--limit 16 --out run/evaluation"
    _train_but_for_the_last_epoch()
    certified = f"{CERTIFIED} --limit 8 --out run/certification"
    lines = [f"{EVALUATE} {half}", f"{TRANSFER} --limit 8 --out run/transfer", STAGES["audit"], certified]
    for line in lines:
        _warm(line)
    shutil.copytree("run", "sound")
    for verb, line in STAGES.items():
        fresh()
        assert ended(call(line)), said()
        FINISHED[verb] = left(folder_of(verb))
    for verb, line in VERBS.items():
        fresh()
        started = time.monotonic()
        assert ended(call(line)), said()
        seconds, there = time.monotonic() - started, left(Path("new"))
        fresh()
        WHOLE[verb] = Whole(there, seconds, operations(line))


def fresh() -> None:
    """`run` as it stands half-way, and no `new`."""
    shutil.rmtree("run", ignore_errors=True)
    shutil.rmtree("new", ignore_errors=True)
    shutil.copytree("sound", "run")


def folder_of(verb: str) -> Path:
    """Into which a verb of STAGES writes."""
    words = shlex.split(STAGES[verb])
    return Path(words[words.index("--out") + 1])


def _train_but_for_the_last_epoch() -> None:
    """By a kill in the midst of the last epoch's operations on files."""
    _warm(RUN)
    shutil.rmtree("run")
    count = operations(RUN)
    shutil.rmtree("run")
    call(RUN, operation=round(count * (EPOCHS - 0.6) / EPOCHS))
    states = [path.name for path in Path("run").glob("checkpoint-*")]
    assert states == [f"checkpoint-{EPOCHS - 1:04d}"], states


def _warm(line: str) -> None:
    """A verb in this process itself, so that what it imports and builds once is there in every fork."""
    sys.argv = ["bpfc", *shlex.split(line)]
    with redirect_stdout(StringIO()), suppress(SystemExit):
        bpfc_main()
