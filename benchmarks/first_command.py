"""Seconds of `bpfc demo` here, and what they come to on two cores that train 110 images a second.

    python benchmarks/first_command.py

110 images a second is what two Zen 3 cores train of M-LeNet with BPFC, at batch 64: the machine that the demo's three
minutes are meant for. This machine's own speed is timed in the same run, with the same precision.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import medians, print_machine
from training import make_step

from bpfc.machine import resolve
from bpfc.methods import BPFC

SLOW = 110


def main() -> None:
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        words = [sys.executable, "-m", "bpfc", "demo", "--out", str(Path(folder) / "demo")]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    precision = resolve("auto", torch.device("cpu"))
    step = medians({"step": make_step(BPFC(k=6, weight=25.0), precision)}, rounds=10)["step"]
    speed = 64 / step
    print(f"demo: {seconds:.0f} s, in {precision}, where M-LeNet trains {speed:.0f} BPFC images a second")
    print(f"at {SLOW} images a second: {seconds * speed / SLOW:.0f} s")


if __name__ == "__main__":
    main()
