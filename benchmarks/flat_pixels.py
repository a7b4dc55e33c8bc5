"""What a tone curve rests on: the test pixels that no attacker can move behind it.

    python benchmarks/flat_pixels.py [results/benchmarks/flat-pixels.json]

Behind a curve an attacker may choose from [u(x − ε), u(x + ε)] for each pixel. Where the curve is flat over all of
[x − ε, x + ε], that is one point. Counts the shares of such pixels over all test images, in float64, of the curves of
our recipes; and on CIFAR-10 of one whose ends lie at ε and 1 − ε, though nothing was trained behind it.
"""

import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from bpfc.data import load, to_float
from bpfc.files import write_json
from bpfc.machine import pick_device
from bpfc.models.curve import ToneCurve
from bpfc.provenance import provenance

OUT = Path("results/benchmarks/flat-pixels.json")


class Case(NamedTuple):
    """A data set, its ε in the paper, and the ends of a curve."""

    data: str
    eps: float
    a: float
    b: float


CASES = (
    Case("mnist", 0.3, 0.4, 0.6),
    Case("fashion-mnist", 0.1, 0.1, 0.6),
    Case("fashion-mnist", 0.1, 0.1, 0.9),
    Case("cifar-10", 8 / 255, 8 / 255, 1 - 8 / 255),
)


def flat(images: Tensor, eps: float, a: float, b: float) -> float:
    """The share of the pixels, of each channel by itself, that are one point behind the curve, whatever the attack."""
    lower, upper = ToneCurve(a, b).image(images, eps)
    return (lower == upper).double().mean().item()


def main(out: Path) -> None:
    rows = []
    for case in CASES:
        images = to_float(load(case.data).test.pixels).double()
        rows.append({**case._asdict(), "images": len(images), "flat": flat(images, case.eps, case.a, case.b)})
        print(rows[-1])
    command = shlex.join(["python", *sys.argv])
    write_json(out, {"provenance": {**provenance(pick_device("cpu")), "command": command}, "curves": rows})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
