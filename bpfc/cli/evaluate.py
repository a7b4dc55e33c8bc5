"""Verb `evaluate`: a network and attacks -> ledger and summary."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from bpfc.cli.subjects import SubjectOptions
from bpfc.options import AttackPrecision, AttackSeed, BatchSize, Device, read_words

if TYPE_CHECKING:
    from rich.console import Console

    from bpfc.attacks import Norm
    from bpfc.evaluation.plan import Plan
    from bpfc.evaluation.subject import Subject
    from bpfc.options import Arithmetic


@dataclass(frozen=True)
class Evaluate(SubjectOptions):
    """Attack a network, one ledger row per test image, and print its robust accuracy."""

    attacks: str = "fgsm,ifgsm-40,pgd-100"
    """Comma-separated, suites among them; bpfc attacks lists them all."""
    eps: float | None = None
    """ε: radius in units of [0, 1], such as 8/255; in ℓ∞ the recipe's unless given."""
    norm: Literal["linf", "l2"] = "linf"
    """In which ε is meant."""
    step_size: float | None = None
    """Length of PGD's steps, in units of [0, 1]; in ℓ∞ the recipe's, else ε/4, unless given."""
    k: int | None = None
    """Bit planes that the network was trained to do without, for the attacker who knows; the recipe's unless given."""
    eot: int | None = None
    """For a model with randomness in it: attack and judge the mean of that many answers."""
    limit: int | None = None
    """Evaluate the first N test images only. An evaluation of fewer goes on to N in the same folder."""
    seed: AttackSeed = 0
    cascade: bool = False
    """Run each attack only on what those before it left: the same worst case sooner, other figures cumulative."""
    batch_size: BatchSize = 256
    device: Device = "auto"
    precision: AttackPrecision = "auto"
    out: Path | None = None
    """Folder for ledger.jsonl and summary.json; RUN/evaluation unless given. A killed evaluation resumes there."""
    csv: bool = False
    """Write ledger.csv too; one that is there is kept up to date."""
    certificates: Path | None = None
    """Folder of bpfc certify on the same model, images and ε: what is certified meets no attack."""
    save_images: Annotated[
        bool,
        tyro.conf.arg(
            help="Save each image that breaks the network as OUT/adversarial/INDEX.npy, float32 (C, H, W). An "
            "evaluation that saved none attacks these again."
        ),
    ] = False


def parse(arguments: list[str]) -> Evaluate:
    return read_words(Evaluate, "bpfc evaluate", arguments)


def main(options: Evaluate) -> None:
    """The verb: evaluate and print the table."""
    from rich.console import Console

    summary = run(options)
    if summary:  # of several processes the first tells
        print_table(summary, Console())


def run(options: Evaluate) -> dict[str, Any]:
    """Evaluates by the options; gives back the summary, which also stands in summary.json.

    Under torchrun the processes share the images out, and the first alone gives back a summary that is not empty.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
    """
    from bpfc.attacks.base import check_count
    from bpfc.cli.beside import proven
    from bpfc.evaluation.recorded import record, started_in
    from bpfc.ledger import write_csv
    from bpfc.machine import pick_device, precision_of, resolve
    from bpfc.team import team
    from bpfc.training.run import EVALUATION

    check_count(limit=options.limit, batch_size=options.batch_size)
    if options.eot is not None and options.eot < 2:
        raise ValueError(f"--eot {options.eot}: must be 2 or more answers; leave it out for a model without randomness")
    out = options.folder(options.out, EVALUATION)
    eps = options.radius(options.eps, options.norm)
    device = pick_device(options.device)
    crew = team()
    precision = crew.told("precision", resolve(options.precision, device, precision_of(started_in(out))))
    subject = options.subject()
    plan = _plan(options, eps, subject, precision)
    proofs = None
    if options.certificates is not None:
        if plan.threat.norm != "linf" or options.eot:
            raise ValueError("--certificates: hold for ℓ∞, and for a model without randomness")
        proofs = proven(options.certificates, subject, plan.threat.eps, options.limit)
    shown = subject.on(device, options.limit).averaged(options.eot)
    rows, summary = record(shown, plan, out, save_images=options.save_images, proven=proofs, crew=crew)
    table = out / "ledger.csv"
    if crew.first and (options.csv or table.exists()):  # one of fewer images would belie the summary
        write_csv(table, rows, plan.names)
    return summary


def _plan(options: Evaluate, eps: float, subject: "Subject", precision: "Arithmetic") -> "Plan":
    """By the options, and where they leave it open by the subject's recipe."""
    from bpfc.evaluation import Context, ThreatModel, parse
    from bpfc.models import behind

    step_size = options.step_size
    if step_size is None and options.norm == "linf":  # the recipe's is an ℓ∞ length
        step_size = subject.step_size
    k = subject.k if options.k is None else options.k
    threat = ThreatModel(options.norm, eps)
    curve = options.eot is None and behind(subject.model) is not None  # a mean of answers has none in front
    context = Context(threat, subject.images.channels, step_size, k, curve)
    return parse(
        options.attacks,
        context,
        cascade=options.cascade,
        seed=options.seed,
        precision=precision,
        batch_size=options.batch_size,
    )


def told_between(sides: dict[str, Any]) -> str:
    """A sentence on what certificates and attacks leave."""
    known = f"The robust accuracy lies between {sides['certified']:.1%} (certified) and {sides['not_broken']:.1%}"
    return f"{known} (not broken); {sides['open']:.1%} are open."


def _told_distances(share: dict[str, Any]) -> str:
    """How often an attack without a radius found an image, and how far away; a failure is infinitely far."""
    from bpfc.evaluation.plan import SHOWN_NORMS

    found = f"found an image for {share['success']:.1%} of {share['attacked']}"
    norm: Norm = "l2" if "median_l2" in share else "linf"
    median, mean = share[f"median_{norm}"], share[f"mean_{norm}"]
    if mean is None:
        return found
    middle = "infinite" if median is None else median
    return f"{found}; {SHOWN_NORMS[norm]} distance: median {middle}, mean of those found {mean}"


def print_table(summary: dict[str, Any], console: "Console") -> None:
    """The summary as a table in the terminal, in %."""
    from rich.markup import escape
    from rich.table import Table

    from bpfc.evaluation.plan import ThreatModel

    threat = ThreatModel(summary["norm"], summary["eps"])
    table = Table(title=f"{escape(summary['data'])}, {summary['images']} images, {threat}")
    table.add_column("attack")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    shares = {"clean": summary["clean"], **summary["attacks"], "worst case": summary["worst_case"]}
    for name, share in shares.items():
        low, high = share["interval_95"]
        table.add_row(name, f"{share['accuracy']:.1%}", f"{low:.1%} … {high:.1%}", end_section=name == "clean")
    console.print(table)
    for name, share in summary["attacks"].items():
        if share.get("attacked"):  # in a cascade nothing may have been left for it
            console.print(f"{name}: {_told_distances(share)}", markup=False)
    if "between" in summary:
        console.print(told_between(summary["between"]), highlight=False)
    for warning in summary["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
