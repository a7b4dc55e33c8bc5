"""Verb `transfer`: the black-box table. Images made on source networks, judged on target networks."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bpfc.attacks import LinfBall
from bpfc.data import load, to_float
from bpfc.evaluation import blocks, transfer_block
from bpfc.files import make_writable_folder, write_json
from bpfc.ledger import Ledger, summarise
from bpfc.machine import Precision, pick_device, resolve
from bpfc.plan import SHOWN, Setting, parse
from bpfc.provenance import provenance
from bpfc.training.recipe import Number
from bpfc.training.run import MODEL, RunError, load_model, load_recipe


@dataclass(frozen=True)
class Transfer:
    """Attack targets with images made on sources: one ledger a target, one matrix for all (the paper's Table 3)."""

    targets: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that bpfc train wrote, all of one data set; a folder's name stands for its network."""
    source: tuple[Path, ...]
    """Folders of the networks that the images are made on, each once for all targets."""
    attacks: Annotated[str, tyro.conf.arg(help=f"Comma-separated: {SHOWN}. The last iterate is judged always.")] = (
        "fgsm"
    )
    eps: Number | None = None
    """ε: ℓ∞ radius in units of [0, 1], such as 8/255; the first target's recipe's unless given."""
    step: Number | None = None
    """Step of PGD, likewise."""
    limit: int | None = None
    """The first N test images only."""
    seed: int = 0
    """Of the random starts."""
    batch_size: int = 256
    """Images at a time; bounds the memory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Arithmetic of the attacks' gradients; verdicts are in float32 always."""
    data_dir: Path | None = None
    """Where the data files are; else BPFC_DATA, the user's cache, Debian's package, the network."""
    out: Path = Path("transfer")
    """Folder for TARGET/ledger.jsonl and summary.json. A killed evaluation resumes there."""


def main(options: Transfer) -> None:
    """The verb: evaluate and print the matrix."""
    summary = run(options)
    table = Table(title=f"{summary['data']}, {summary['images']} images, ε {summary['eps']:.4g}, accuracy in %")
    columns = next(iter(summary["targets"].values()))["attacks"]
    for column in ("target", "clean", *columns):
        table.add_column(column, justify="left" if column == "target" else "right", overflow="fold")
    for name, target in summary["targets"].items():
        shares = [target["clean"], *target["attacks"].values()]
        table.add_row(name, *(f"{100 * share['accuracy']:.1f}" for share in shares))
    Console().print(table)


def run(options: Transfer) -> dict[str, Any]:
    """Evaluates by the options; gives back the summary, which also stands in summary.json.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
    """
    targets, sources = _by_name(options.targets, "target"), _by_name(options.source, "source")
    recipes = {path: load_recipe(path) for path in (*targets.values(), *sources.values())}
    recipe = recipes[options.targets[0]]
    for path, other in recipes.items():
        if other.data != recipe.data:
            raise RunError(
                f"{path}: trained on {other.data}, but {options.targets[0]} on {recipe.data}; take one data set"
            )
    eps = recipe.eps if options.eps is None else options.eps
    step = recipe.attack_step if options.step is None else options.step
    inside = LinfBall(eps)
    planned = parse(options.attacks, Setting(inside, step, ifgsm_steps=recipe.ifgsm_steps))
    device = pick_device(options.device)
    precision = resolve(options.precision, device, options.out / next(iter(targets)) / "evaluation.json")
    data = load(recipe.data, options.data_dir)
    test = data.test[: options.limit].to(device)
    models = {path: load_model(path, data).to(device) for path in recipes}
    attacks = [f"{item.name}@{name}" for name in sources for item in planned]
    settings: dict[str, Any] = {"data": recipe.data, "images": len(test), "attacks": attacks, "eps": eps, "step": step}
    settings |= {"seed": options.seed, "precision": precision}
    settings["sources_sha256"] = {name: _digest(path) for name, path in sources.items()}
    ledgers = {}
    for name, path in targets.items():
        make_writable_folder(options.out / name)
        ledgers[name] = Ledger(options.out / name, settings | {"weights_sha256": _digest(path)})
    before = min(len(ledger.rows) for ledger in ledgers.values())
    todo = blocks(before, len(test), options.batch_size)
    for indices in track(todo, "transfer", transient=True, disable=not Console().is_terminal):
        block = test[indices.to(device)]
        rows = transfer_block(
            {name: models[path] for name, path in sources.items()},
            {name: models[path] for name, path in targets.items()},
            to_float(block.pixels).contiguous(memory_format=torch.channels_last),
            block.labels,
            indices.tolist(),
            planned,
            inside,
            seed=options.seed,
            precision=precision,
        )
        for name, ledger in ledgers.items():  # a kill may have left one ledger ahead of another
            ledger.append([row for row in rows[name] if row["index"] >= len(ledger.rows)])
    results = {name: summarise(ledger.rows, attacks) for name, ledger in ledgers.items()}
    summary = settings | {"targets": results, "images_resumed": before, "provenance": provenance(device)}
    write_json(options.out / "summary.json", summary)
    return summary


def _by_name(paths: tuple[Path, ...], role: str) -> dict[str, Path]:
    if not paths:
        raise ValueError(f"no {role}: name at least one folder that bpfc train wrote")
    named = {path.resolve().name: path for path in paths}
    if len(named) < len(paths):
        raise ValueError(f"two {role}s have the same folder name: {', '.join(map(str, paths))}; rename one")
    return named


def _digest(run: Path) -> str:
    return hashlib.sha256((run / MODEL).read_bytes()).hexdigest()
