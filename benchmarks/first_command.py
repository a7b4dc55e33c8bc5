"""Seconds of `make demo` or `make test` here, and what they come to on two cores that train 110 images a second.

    python benchmarks/first_command.py [demo | test]

Each after its installation; of `make test` lint, types and the whole suite, and it ends with the suite's status where
that fails. 110 images a second is what two Zen 3 cores train of M-LeNet with BPFC, at batch 64: the machine that the
demo's three minutes and the suite's five are meant for. This machine's own speed is timed in the same run, with the
same precision.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
import tyro
from common import medians, print_machine
from training import make_step

from bpfc.machine import resolve
from bpfc.methods import BPFC

SLOW = 110

COMMANDS = {
    "demo": (("bpfc demo --out {folder}/demo",),),
    "test": (
        ("ruff check .", "ruff format --check .", "mypy"),
        ("pytest --numprocesses auto --dist worksteal",),
    ),
}
"""Modules of Python with their words, as the Makefile has them: one after another, and such rows beside each other."""


def follow(commands: tuple[str, ...], folder: str) -> int:
    """Runs one after another, while they end well; gives back the last one's status."""
    for words in commands:
        command = [sys.executable, "-m", *words.format(folder=folder).split()]
        if status := subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            return status
    return 0


def main(what: tyro.conf.Positional[Literal["demo", "test"]] = "demo") -> None:
    print_machine()
    rows = COMMANDS[what]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(rows)) as threads:
        started = time.perf_counter()
        if failed := [status for status in threads.map(lambda row: follow(row, folder), rows) if status]:
            sys.exit(1 if failed[0] < 0 else failed[0])  # a negative one is of a process that was killed
        seconds = time.perf_counter() - started
    precision = resolve("auto", torch.device("cpu"))
    step = medians({"step": make_step(BPFC(k=6, weight=25.0), precision)}, rounds=10)["step"]
    speed = 64 / step
    print(f"{what}: {seconds:.0f} s, in {precision}, where M-LeNet trains {speed:.0f} BPFC images a second")
    print(f"at {SLOW} images a second: {seconds * speed / SLOW:.0f} s")


if __name__ == "__main__":
    tyro.cli(main)
