"""AutoAttack's standard version beside the suite `fast` and adv-lib: the same networks, images and ε.

    pip install --no-deps adv-lib
    python benchmarks/fast.py OUT IMAGES RUN [RUN ...] [VARIANT ...]

RUN is a folder that `bpfc train` left; VARIANT is standard, fast or adv-lib (all unless given). adv-lib runs APGD on
cross-entropy, then targeted APGD at 9 classes on what is left, 100 steps each. Seconds of one core's work, forwards and
backwards (images through the network, the judge's too); what stands is judged alike for all.

The images go block by block, each network's first block before any second. OUT/RUN.json keeps every block that is done,
so that a run that was killed goes on there; OUT/table.json and the table that is printed follow from these files (with
0 IMAGES they are made from what is there).
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from common import Counted, print_machine
from torch import Tensor

import bpfc
from bpfc.data import load, to_float
from bpfc.evaluation import Context, ThreatModel, parse
from bpfc.files import write_json
from bpfc.judge import SLACK, exact_logits
from bpfc.machine import pick_device
from bpfc.provenance import provenance
from bpfc.training.run import Run

BLOCK = 8

Stands = Callable[[Counted, Tensor, Tensor, float], Tensor]
"""From model, images, labels and ε to which images stand, (N,) bool."""


def ours(suite: str) -> Stands:
    def stands(model: Counted, images: Tensor, labels: Tensor, eps: float) -> Tensor:
        rows = bpfc.evaluate(model, images, labels, attacks=suite, eps=eps).rows
        return torch.tensor([row["broken_by"] is None for row in rows])

    return stands


def adv_lib(model: Counted, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    for name in ("torchvision", "visdom", "tqdm"):  # imported there, needed for none of this
        sys.modules.setdefault(name, MagicMock())
    from adv_lib.attacks import apgd, apgd_targeted

    with torch.no_grad():
        stands = model(images).argmax(dim=1) == labels
    for attack in (
        lambda x, y: apgd(model, x, y, eps, float("inf"), loss_function="ce", n_iter=100),
        lambda x, y: apgd_targeted(model, x, y, eps, float("inf"), n_iter=100, num_targets=9),
    ):
        left = torch.nonzero(stands)[:, 0]
        if len(left):
            found = attack(images[left], labels[left]).detach()
            legal = (found - images[left]).flatten(1).abs().amax(dim=1) <= eps + SLACK
            stands[left] = ~legal | (exact_logits(model, found).argmax(dim=1) == labels[left])
    return stands


VARIANTS: dict[str, Stands] = {"standard": ours("standard"), "fast": ours("fast"), "adv-lib": adv_lib}


def main() -> None:
    print_machine()
    warnings.simplefilter("ignore")  # AutoAttack's, of masked gradients
    out, images = Path(sys.argv[1]), int(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    variants = [name for name in sys.argv[3:] if name in VARIANTS] or list(VARIANTS)
    runs = [Path(name) for name in sys.argv[3:] if name not in VARIANTS]
    for first in range(0, images, BLOCK):
        for run in runs:
            for variant in variants:
                measure(out, run, variant, range(first, min(first + BLOCK, images)))
    networks = table(out)
    told = {**provenance(pick_device("cpu")), "command": f"python benchmarks/fast.py OUT IMAGES {' '.join(networks)}"}
    write_json(out / "table.json", {"provenance": told, "networks": networks})
    for name, row in networks.items():
        print(f"{name}: {json.dumps(row)}")


def measure(out: Path, run: Path, variant: str, places: range) -> None:
    """Runs a variant on a block of a run's test images, unless that is done already, and keeps what came of it."""
    path, key = out / f"{run.name}.json", f"{places.start}-{places.stop}"
    blocks: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    recipe = Run(run).recipe()
    data = load(recipe.data)
    suite = "standard" if variant == "adv-lib" else variant
    plan = parse(suite, Context(ThreatModel("linf", recipe.eps), data.channels)).names
    settings = variant if variant == "adv-lib" else ",".join(plan)
    done = blocks.setdefault(key, {}).get(variant)
    if done is not None and done["settings"] == settings:
        return
    part = data.test[torch.arange(places.start, places.stop)]
    images, labels = to_float(part.pixels), part.labels
    model = Counted(Run(run).model(data)).eval()
    started = time.process_time()
    stands = VARIANTS[variant](model, images, labels, recipe.eps)
    blocks[key][variant] = {
        "settings": settings,
        "commit": provenance(pick_device("cpu"))["commit"],
        "seconds": round(time.process_time() - started, 1),
        "forwards": model.forwards,
        "backwards": model.backwards,
        "stands": (torch.nonzero(stands)[:, 0] + places.start).tolist(),
    }
    write_json(path, blocks)
    told = {name: value for name, value in blocks[key][variant].items() if name in COSTS}
    print(f"{run.name} {key} {variant}: {int(stands.sum())} of {len(places)} stand, {told}", flush=True)


def table(out: Path) -> dict[str, Any]:
    """For each network, the sums over the blocks that every variant has done, and where verdicts part from AutoAttack's
    (`only_standard`: images that it alone breaks, `only_here`: images that it leaves)."""
    rows: dict[str, Any] = {}
    for path in sorted(out.glob("*.json")):
        if path.name == "table.json":
            continue
        spans = {
            span: block
            for span, block in json.loads(path.read_text()).items()
            if all(name in block for name in VARIANTS)
        }
        if not spans:
            continue
        blocks = list(spans.values())
        official = {place for block in blocks for place in block["standard"]["stands"]}
        row: dict[str, Any] = {
            "images": sum(stop - start for start, stop in (map(int, span.split("-")) for span in spans))
        }
        for name in VARIANTS:
            each = [block[name] for block in blocks]
            stands = {place for block in each for place in block["stands"]}
            row[name] = {key: round(sum(block[key] for block in each), 1) for key in COSTS}
            row[name] |= {"stand": len(stands), "settings": each[0]["settings"]}
            row[name] |= {"commits": sorted({block.get("commit", "not recorded") for block in each})}
            row[name] |= {"only_standard": sorted(stands - official), "only_here": sorted(official - stands)}
        rows[path.stem] = row
    return rows


COSTS = ("seconds", "forwards", "backwards")

if __name__ == "__main__":
    main()
