"""Lower bounds of margins: ours against auto_LiRPA's, on the same networks and boxes.

    python benchmarks/bounds.py RUN=EPS … [--images 100]

auto_LiRPA is not on PyPI in a version that runs with today's torch (0.3 of 2022 fails to import), and what its
repository holds pins torch < 2.9. Without its requirements it works here all the same:

    pip install --no-deps git+https://github.com/Verified-Intelligence/auto_LiRPA && pip install appdirs graphviz

Ours are proofs for float32: made in float64, with each operation's rounding on top. auto_LiRPA's are plain float32.
A network behind a tone curve is bounded from behind it, by both.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from auto_LiRPA import BoundedModule, BoundedTensor
from auto_LiRPA.perturbations import PerturbationLpNorm
from common import print_machine
from torch import Tensor, nn

from bpfc.certification import CERTIFIERS
from bpfc.data import to_float
from bpfc.models import behind
from bpfc.training.run import Run
from bpfc.training.run_data import data_of

THEIRS = {"interval": "IBP", "crown-ibp": "CROWN-IBP"}
BATCH = 10


def lirpa(model: nn.Module, images: Tensor, labels: Tensor, eps: float, method: str) -> Tensor:
    """The least lower bound of logit_label − another logit, for each image."""
    curve = behind(model)
    network, lower, upper = model, (images - eps).clamp_min(0), (images + eps).clamp_max(1)
    if curve is not None:
        network, (lower, upper) = curve[1], curve[0].image(images, eps)
    with torch.no_grad():
        classes = network(lower[:1]).shape[1]
        bounded = BoundedModule(network, torch.empty_like(lower[:BATCH]))
        every = torch.eye(classes)
        found = []
        for low, high, its in zip(lower.split(BATCH), upper.split(BATCH), labels.split(BATCH), strict=True):
            others = torch.stack([torch.cat([every[:y], every[y + 1 :]]) for y in its.tolist()])
            wanted = every[its].unsqueeze(1) - others
            box = PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high)
            margins, _ = bounded.compute_bounds(
                x=(BoundedTensor((low + high) / 2, box),), C=wanted, method=method, bound_upper=False
            )
            found.append(margins.amin(dim=1))
    return torch.cat(found)


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    work()
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("runs", nargs="+", metavar="RUN=EPS")
    words.add_argument("--images", type=int, default=100)
    given = words.parse_args()
    torch.set_num_threads(1)
    print_machine()
    for run, eps in ((name, float(eps)) for name, _, eps in (each.rpartition("=") for each in given.runs)):
        data = data_of(Run(Path(run)), data_dir=None)
        some, model = data.test[: given.images], Run(Path(run)).model(data)
        images, labels = to_float(some.pixels).contiguous(), some.labels
        print(f"{run}, ε {eps}, {len(images)} images")
        for name, certifier in CERTIFIERS.items():
            ours, seconds = timed(partial(certifier, model, images, labels, eps))
            theirs, longer = timed(partial(lirpa, model, images, labels, eps, THEIRS[name]))
            apart = ((ours - theirs) / theirs.abs().clamp_min(1e-6)).quantile(torch.tensor([0.05, 0.5, 0.95]).double())
            print(f"  {name:10} ours       {(ours > 0).float().mean():.1%} certified, {seconds:6.2f} s")
            print(f"  {'':10} auto_LiRPA {(theirs > 0).float().mean():.1%} certified, {longer:6.2f} s")
            low, middle, high = (f"{100 * share:.2g} %" for share in apart.tolist())
            print(f"  {'':10} ours less theirs, of theirs: {middle} in the median, {low} … {high} for nine in ten")


if __name__ == "__main__":
    main()
