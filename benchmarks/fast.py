"""AutoAttack's standard version beside the suite `fast` and adv-lib: the same networks, images and ε.

    pip install --no-deps adv-lib
    python benchmarks/fast.py --runs RUN [RUN ...] [--images 500] [--first 0] [--variants standard fast] [--out OUT]

RUN is a folder that `bpfc train` left, weights and all. adv-lib, where it is installed, runs APGD on cross-entropy,
then targeted APGD at 9 classes on what is left, 100 steps each. One process of one thread, float32. Seconds are of the
CPU (on a GPU of the clock), forwards and backwards are images through the network, the judge's too; what stands is
judged alike for all.

The images go block by block, each network's first block before any second. OUT/RUN/blocks.json keeps every block that
is done, so that what was killed goes on when the same command is given again, on another machine too if it was
committed; two processes may work in OUT on different networks. OUT/table.json, for results/benchmarks/fast.json,
follows from these files: what every variant has done, and image by image where verdicts part. Without --runs the table
alone is made.
"""

import json
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
import tyro
from common import adv_lib, clock, counted, print_machine, standing, warm_up
from torch import Tensor, nn

from bpfc.attacks.base import check_count
from bpfc.data import AnyImages, load
from bpfc.errors import UserError
from bpfc.evaluation import Block, Context, Plan, ThreatModel, blocks, parse, run_block
from bpfc.evaluation.caveats import caveats
from bpfc.files import make_writable_folder, owned, read_json, write_json
from bpfc.ledger import Row
from bpfc.machine import pick_device
from bpfc.models import behind
from bpfc.options import Device
from bpfc.provenance import provenance
from bpfc.training.run import Run

Variant = Literal["standard", "fast", "adv-lib"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
COSTS = ("seconds", "forwards", "backwards")
STEPS, TARGETS = 100, 9
"""Of adv-lib's attacks: AutoAttack's settings."""


@dataclass(frozen=True)
class Fast:
    """What to measure; see above."""

    runs: tuple[Path, ...] = ()
    variants: tuple[Variant, ...] = VARIANTS
    images: int = 500
    """So many of the test images."""
    first: int = 0
    """The place of the first of them."""
    block: int = 50
    """Images at a time: what a kill loses, and the batch that the seconds are of."""
    device: Device = "cpu"
    out: Path = Path("runs/fast")


@dataclass
class Network:
    """A run under attack, and the file of what is known of it."""

    name: str
    model: nn.Module
    images: AnyImages
    plans: dict[Variant, Plan]
    eps: float
    file: Path
    kept: dict[str, Any]


def main(options: Fast) -> None:
    torch.set_num_threads(1)
    print_machine(options.device)
    make_writable_folder(options.out)
    measure(options)
    networks = table(options.out)
    command = f"python benchmarks/fast.py --runs {' '.join(networks)}"
    told = {**provenance(pick_device(options.device)), "command": command}
    write_json(options.out / "table.json", {"provenance": told, "networks": networks})
    for name, row in networks.items():
        print(f"{name}: {json.dumps(row)}")


def measure(options: Fast) -> None:
    """Does all blocks that are not done yet.

    Raises:
        UserError, ValueError, OSError: one cannot be had; before any of them is begun.
    """
    check_count(images=options.images, block=options.block)
    for name, number in (("images", options.images), ("first", options.first)):
        if number < 0 or number % options.block:
            raise UserError(f"--{name} {number}: must be a multiple of --block {options.block}")
    variants = list(options.variants)
    if "adv-lib" in variants and adv_lib() is None:
        print("adv-lib is not installed (pip install --no-deps adv-lib): left out")
        variants.remove("adv-lib")
    device = pick_device(options.device)
    names = [run.resolve().name for run in options.runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--runs: {twice[0]} is named twice; blocks are kept by a run's name")
    with ExitStack() as held:
        networks = []
        for run in options.runs:
            folder = options.out / run.resolve().name
            make_writable_folder(folder)
            held.enter_context(owned(folder))
            networks.append(opened(run, folder / "blocks.json", options, device))
            for variant in variants:
                begin(networks[-1], variant)
        for first in range(options.first, options.first + options.images, options.block):
            for network in networks:
                for variant in variants:
                    go_on(network, variant, range(first, first + options.block), device)


def go_on(network: Network, variant: Variant, places: range, device: torch.device) -> None:
    """A variant on a block of the test images, kept in the file, unless it is there."""
    done, key = network.kept["variants"][variant]["blocks"], str(places.start)
    if key in done:
        return
    done[key] = attacked(network, variant, places, device)
    write_json(network.file, network.kept)
    told = {name: value for name, value in done[key].items() if name in COSTS}
    stand = f"{len(done[key]['stands'])} of {len(places)} stand"
    print(f"{network.name} {places.start}-{places.stop}, {variant}: {stand}, {told}", flush=True)


def opened(run: Path, file: Path, options: Fast, device: torch.device) -> Network:
    """A run's network, and what was measured of it before."""
    recipe = Run(run).recipe()
    data = load(recipe.data)
    if options.first + options.images > len(data.test):
        asked = f"--first {options.first} --images {options.images}"
        raise UserError(f"{asked}: {recipe.data} has {len(data.test)} test images")
    ours = recipe.network.startswith("controls:")  # of the audit, beside this file
    model = Run(run).model(data, trusted=recipe.network if ours else None).requires_grad_(False).to(device)
    header = {
        "network": recipe.network,
        "data": recipe.data,
        "eps": recipe.eps,
        "weights_sha256": Run(run).digest,
        "block": options.block,
        "first": options.first,
        "device": device.type,
    }
    kept = kept_in(file) if file.exists() else {**header, "variants": {}}
    refuse(file, {name: (kept[name], value) for name, value in header.items()})
    (block,) = blocks(data.test, list(range(options.block)), options.block, channels_last=True)
    warm_up(model, block.images.to(device))
    context = Context(ThreatModel("linf", recipe.eps), data.channels, curve=behind(model) is not None)
    plans: dict[Variant, Plan] = {"standard": parse("standard", context), "fast": parse("fast", context)}
    return Network(run.resolve().name, model, data.test, plans, recipe.eps, file, kept)


def kept_in(file: Path) -> dict[str, Any]:
    """The blocks of a file. Raises UserError where another version has begun it."""
    kept: dict[str, Any] = {"first": 0, **read_json(file)}  # of before other images could be chosen
    blocks = [block for variant in kept["variants"].values() for block in variant["blocks"].values()]
    if not all({"device", "broken_by"} <= block.keys() for block in blocks):
        raise UserError(f"{file}: begun by a version that kept blocks in another way; choose another --out")
    return kept


def begin(network: Network, variant: Variant) -> None:
    """Makes room for a variant's blocks, unless it has blocks of other attacks."""
    plan: dict[str, Any] = {}
    if variant == "adv-lib":
        settings = f"adv-lib {version('adv-lib')}, APGD-CE, then APGD-T at {TARGETS} classes, {STEPS} steps each"
    else:
        settings, plan = ",".join(network.plans[variant].names), network.plans[variant].header()
    if variant == "standard":
        settings += f", pyautoattack {version('pyautoattack')}"
    kept = network.kept["variants"].setdefault(variant, {"settings": settings, "plan": plan, "blocks": {}})
    before = kept.get("plan", {})  # a file of before it was kept may be of any settings
    compared = {f"{variant}, {name}": (before.get(name), value) for name, value in plan.items()}
    refuse(network.file, {variant: (kept["settings"], settings), **compared})


def refuse(file: Path, compared: dict[str, tuple[object, object]]) -> None:
    """Raises UserError where what was kept is not of what is asked for."""
    if changed := [f"{name} was {old}, is {new}" for name, (old, new) in compared.items() if old != new]:
        raise UserError(f"{file}: begun with other settings ({'; '.join(changed)}); choose another --out")


def attacked(network: Network, variant: Variant, places: range, device: torch.device) -> dict[str, Any]:
    """A variant on a block of the test images: what it took, which images stand, and what became of the others."""
    (cpu,) = blocks(network.images, list(places), len(places), channels_last=True)
    block = Block(cpu.indices, cpu.images.to(device), cpu.labels.to(device))
    rows: list[Row] = []
    with warnings.catch_warnings(record=True) as heard, counted(network.model) as passes:
        warnings.simplefilter("always")
        started = clock(device)
        if variant == "adv-lib":
            with torch.random.fork_rng():
                torch.manual_seed(places.start)
                stands = by_adv_lib(network.model, block, network.eps).tolist()
        else:
            rows = run_block(network.model, block, network.plans[variant])
            stands = [row["broken_by"] is None for row in rows]
        seconds = clock(device) - started
    told: dict[str, Any] = provenance(device)
    return {
        "commit": told["commit"],
        "device": told["hardware"]["device"],
        "seconds": round(seconds, 1),
        "forwards": passes.forwards,
        "backwards": passes.backwards,
        "stands": [place for place, stand in zip(places, stands, strict=True) if stand],
        "warnings": sorted({str(warning.message) for warning in heard}),
        **brief(rows),
    }


def brief(rows: list[Row]) -> dict[str, Any]:
    """What caveats are told from, in few words: of each image the attack that broke it, and of a few what is odd."""
    odd = [any(verdict.get("no_answer") for verdict in row["attacks"].values()) for row in rows]
    return {
        "broken_by": [row["broken_by"] for row in rows],
        "gradient": {str(at): row["gradient"] for at, row in enumerate(rows) if "gradient" in row},
        "no_answer": [at for at, is_odd in enumerate(odd) if is_odd],
    }


def rows_of(block: dict[str, Any], names: list[str]) -> list[Row]:
    """The rows that `brief` was made of, as far as caveats read them: in a cascade what broke an image came last."""
    rows = []
    for at, broken_by in enumerate(block["broken_by"]):
        asked = [] if broken_by == "clean" else names[: names.index(broken_by) + 1] if broken_by else names
        attacks = {name: {"broken": name == broken_by, "no_answer": at in block["no_answer"]} for name in asked}
        gradient = {"gradient": block["gradient"][str(at)]} if str(at) in block["gradient"] else {}
        rows.append(cast(Row, {"broken_by": broken_by, "attacks": attacks, **gradient}))
    return rows


def by_adv_lib(model: nn.Module, block: Block, eps: float) -> Tensor:
    """Which images stand, (N,) bool."""
    library = adv_lib()
    assert library is not None
    _, images, labels = block
    with torch.no_grad():
        stands: Tensor = model(images).argmax(dim=1) == labels
    attacks: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
        lambda x, y: library.apgd(model, x, y, eps, float("inf"), loss_function="ce", n_iter=STEPS),
        lambda x, y: library.apgd_targeted(model, x, y, eps, float("inf"), n_iter=STEPS, num_targets=TARGETS),
    )
    for attack in attacks:
        left = torch.nonzero(stands)[:, 0]
        if len(left):
            found = attack(images[left], labels[left]).detach()
            stands[left] = standing(model, images[left], labels[left], found, eps)
    return stands


def table(out: Path) -> dict[str, Any]:
    """For each network, sums over the blocks that all its variants have done, and where verdicts part from AutoAttack's
    (`only_standard`: images that it alone breaks, `broken_by`: by which part of it; `only_here`: images that it
    leaves)."""
    networks: dict[str, Any] = {}
    for path in sorted(out.glob("*/blocks.json")):
        kept = kept_in(path)
        begun = {name for name, variant in kept["variants"].items() if variant["blocks"]}
        if "standard" not in begun:
            continue
        variants = {name: kept["variants"][name] for name in VARIANTS if name in begun}
        common = sorted(set.intersection(*(set(each["blocks"]) for each in variants.values())), key=int)
        if not common:
            continue
        network = {name: value for name, value in kept.items() if name != "variants"}
        network["images"] = kept["block"] * len(common)
        part = {
            int(first) + at: by
            for first in common
            for at, by in enumerate(variants["standard"]["blocks"][first]["broken_by"])
        }
        official = {place for first in common for place in variants["standard"]["blocks"][first]["stands"]}
        for name, variant in variants.items():
            each = [variant["blocks"][first] for first in common]
            stands = {place for block in each for place in block["stands"]}
            told = {warning for block in each for warning in block["warnings"]} if name == "standard" else set()
            network[name] = {
                **{cost: round(sum(block[cost] for block in each), 1) for cost in COSTS},
                "stand": len(stands),
                "settings": variant["settings"],
                "commits": sorted({block["commit"] for block in each}),
                "only_standard": sorted(stands - official),
                "broken_by": [part[place] for place in sorted(stands - official)],
                "only_here": sorted(official - stands),
                "devices": sorted({block["device"] for block in each}),
                "warnings": sorted(told)
                + caveats([row for block in each for row in rows_of(block, variant["plan"].get("plan", []))]),
            }
        networks[path.parent.name] = network
    return networks


if __name__ == "__main__":
    try:
        main(tyro.cli(Fast, description=__doc__))
    except (UserError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
