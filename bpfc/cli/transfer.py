"""Verb `transfer`: the black-box table. Images made on source networks, judged on target networks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from bpfc.options import AttackPrecision, AttackSeed, BatchSize, DataFolder, Device, read_words

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Transfer:
    """Attack targets with images made on sources (black box, the paper's Table 3)."""

    targets: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that bpfc train wrote, all of one data set; a folder's name stands for its network."""
    source: tuple[Path, ...]
    """Folders of the networks that the images are made on, each once for all targets."""
    attacks: str = "fgsm"
    """Comma-separated; bpfc attacks lists them. The last iterate is judged always."""
    eps: float | None = None
    """ε: ℓ∞ radius in units of [0, 1], such as 8/255; the first target's recipe's unless given."""
    step_size: float | None = None
    """Length of PGD's steps, likewise."""
    limit: int | None = None
    """The first N test images only."""
    seed: AttackSeed = 0
    batch_size: BatchSize = 256
    device: Device = "auto"
    precision: AttackPrecision = "auto"
    model: tuple[str, ...] = ()
    """The runs' networks that are not bpfc's and whose code you trust."""
    data: str | None = None
    """Where the runs' own data lies now."""
    data_dir: DataFolder = None
    out: Path = Path("transfer")
    """Folder for TARGET/ledger.jsonl and summary.json. A killed evaluation resumes there."""


def main(options: Transfer) -> None:
    """The verb: evaluate and print the matrix."""
    from rich.console import Console

    print_table(run(options), Console())


def print_table(summary: dict[str, Any], console: "Console") -> None:
    """The matrix in the terminal, in %. Names of folders are no markup, whatever brackets they hold."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{escape(summary['data'])}, {summary['images']} images, ε {summary['eps']:.4g}, accuracy in %"
    table = Table(title=title)
    columns = next(iter(summary["targets"].values()))["attacks"]
    for column in ("target", "clean", *columns):
        table.add_column(escape(column), justify="left" if column == "target" else "right", overflow="fold")
    for name, target in summary["targets"].items():
        shares = [target["clean"], *target["attacks"].values()]
        table.add_row(escape(name), *(f"{100 * share['accuracy']:.1f}" for share in shares))
    console.print(table)
    for name, told in summary["warnings"].items():
        for warning in told:
            console.print(f"warning: {name}: {warning}", style="yellow", markup=False, highlight=False)


def run(options: Transfer) -> dict[str, Any]:
    """Evaluates by the options; gives back the summary, which also stands in summary.json.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
    """
    from bpfc.attacks.base import check_count
    from bpfc.cli.subjects import of_run, vouched
    from bpfc.evaluation import Context, ThreatModel, parse
    from bpfc.evaluation.recorded import started_in
    from bpfc.evaluation.transfer import record_transfer
    from bpfc.machine import pick_device, precision_of, resolve
    from bpfc.training.run import Run, RunError
    from bpfc.training.run_data import data_of, test_sha256

    check_count(limit=options.limit, batch_size=options.batch_size)
    targets, sources = _by_name(options.targets, "target"), _by_name(options.source, "source")
    runs = {path: Run(path) for path in (*targets.values(), *sources.values())}
    recipes = {path: each.recipe() for path, each in runs.items()}
    recipe = recipes[options.targets[0]]
    known = {path: test_sha256(each) or recipes[path].data for path, each in runs.items()}  # else by its name
    for path, other in recipes.items():
        if known[path] != known[options.targets[0]]:
            raise RunError(
                f"{path}: trained on {other.data}, whose test images are not those of {recipe.data} when "
                f"{options.targets[0]} was trained on that; take runs of one data set"
            )
    networks = vouched(list(runs.values()), options.model)
    device = pick_device(options.device)
    began = precision_of(started_in(options.out / next(iter(targets))))
    precision = resolve(options.precision, device, began)
    data = data_of(runs[options.targets[0]], options.data_dir, options.data)
    context = Context(
        ThreatModel("linf", recipe.eps if options.eps is None else options.eps),
        data.channels,
        recipe.step_size if options.step_size is None else options.step_size,
    )
    plan = parse(options.attacks, context, seed=options.seed, precision=precision, batch_size=options.batch_size)
    data = replace(data, test=data.test[: options.limit].to(device))
    subjects = {
        path: of_run(each, data, network).on(device)
        for (path, each), network in zip(runs.items(), networks, strict=True)
    }
    judged, makers = ({name: subjects[path] for name, path in each.items()} for each in (targets, sources))
    return record_transfer(judged, makers, plan, options.out)


def _by_name(paths: tuple[Path, ...], role: str) -> dict[str, Path]:
    if not paths:
        raise ValueError(f"no {role}: name at least one folder that bpfc train wrote")
    named = {path.resolve().name: path for path in paths}
    if len(named) < len(paths):
        raise ValueError(f"two {role}s have the same folder name: {', '.join(map(str, paths))}; rename one")
    return named


def parse(arguments: list[str]) -> Transfer:
    return read_words(Transfer, "bpfc transfer", arguments)
