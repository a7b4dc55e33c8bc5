"""`bpfc audit`: options → one call → the table, and an exit status."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpfc.cli.subjects import SubjectOptions
from bpfc.options import AttackPrecision, AttackSeed, BatchSize, Device, read_words

if TYPE_CHECKING:
    from rich.console import Console

    from bpfc.auditing import Audit as Found
    from bpfc.team import Team


@dataclass(frozen=True)
class Audit(SubjectOptions):
    """Is the robustness real?

    Exit status 0: the claim stands; 1: it falls, or is masked; 3: open; 2: error.
    """

    claim: float | None = None
    """The robust accuracy that is claimed: in %, such as 67.7, or a share."""
    certificates: Path | None = None
    """Folder of bpfc certify on the same model, images and ε: proofs may answer for what no attack settles."""
    eps: float | None = None
    """ε: radius in ℓ∞, in units of [0, 1], such as 8/255; the recipe's unless given."""
    quick: bool = False
    """200 images, and fewer steps, restarts and queries: minutes on a CPU."""
    k: int | None = None
    """Bit planes that the network was trained to do without, for the attacker who knows; the recipe's unless given."""
    limit: int | None = None
    """Audit the first N test images only; 1,000 unless given, or 200 with --quick."""
    seed: AttackSeed = 0
    batch_size: BatchSize = 256
    device: Device = "auto"
    precision: AttackPrecision = "auto"
    out: Path | None = None
    """Folder for audit.json and figures; RUN/audit or RUN/audit-quick unless given. A killed audit goes on there."""


def parse(arguments: list[str]) -> Audit:
    return read_words(Audit, "bpfc audit", arguments)


def main(options: Audit) -> int:
    """The verb: audit, print the table, and give back the exit status; of several processes the first does."""
    from rich.console import Console

    from bpfc.team import team

    console = Console()
    crew = team()
    found = run(options, console, crew)
    if crew.first:
        print_table(found, console)
    crew.wait("audited")  # torchrun ends the others when one gives back a status
    return found.exit_status if crew.first else 0


def run(options: Audit, console: "Console", crew: "Team") -> "Found":
    """Audits by the options; what is found also stands in audit.json, and in figures beside it.

    Under torchrun the processes share each attack's images out, and the first writes.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
    """
    import time

    from bpfc.attacks import Adaptive
    from bpfc.attacks.base import check_count
    from bpfc.auditing import FULL, QUICK, audit
    from bpfc.auditing.api import share_of
    from bpfc.auditing.kept import started_in
    from bpfc.cli.audit_clock import TimeLeft
    from bpfc.cli.beside import certified
    from bpfc.files import AUDIT, write_file, write_json
    from bpfc.machine import pick_device, precision_of, resolve
    from bpfc.provenance import provenance
    from bpfc.report.page.audits import draw

    check_count(limit=options.limit, batch_size=options.batch_size)
    if options.claim is not None:
        share_of(options.claim)
    out = options.folder(options.out, "audit-quick" if options.quick else "audit")
    eps = options.radius(options.eps)
    budget = QUICK if options.quick else FULL
    device = pick_device(options.device)
    precision = crew.told("precision", resolve(options.precision, device, precision_of(started_in(out))))
    subject = options.subject()
    k = subject.k if options.k is None else options.k
    if k is not None:
        Adaptive(eps, eps, 1, k)  # raises on what check C15 could not attack with, after all the others
    limit = options.limit or budget.images
    proven = None if options.certificates is None else certified(options.certificates, subject, eps, limit)
    subject = subject.on(device, limit)
    started, clock = time.perf_counter(), TimeLeft()

    def told(text: str) -> None:
        if not crew.first:
            return
        left = clock.after(text)
        about = "" if left is None else f"; about {left:.0f} s left"
        console.print(
            f"{time.perf_counter() - started:6.0f} s  {text}{about}", style="dim", markup=False, highlight=False
        )

    found = audit(
        subject.model,
        subject.images.pixels,
        subject.images.labels,
        eps=eps,
        claim=options.claim,
        proven=proven,
        k=k,
        seed=options.seed,
        batch_size=options.batch_size,
        budget=budget,
        folder=out,
        header=subject.header(),
        told=told,
        log=_log_of(options.run),
        precision=precision,
        crew=crew,
    )
    if not crew.first:
        return found
    seconds = round(time.perf_counter() - started, 1)
    content = subject.header() | found.summary() | {"seconds": seconds, "provenance": provenance(device)}
    write_json(out / AUDIT, content)
    for name, drawn in draw(found.figures):
        write_file(out / name, drawn.encode())
    return found


def _log_of(run: Path | None) -> list[dict[str, Any]]:
    """Of a run's training, the rows up to the epoch whose weights were kept; none of a model that was handed in."""
    from bpfc.training.run import Run

    rows = [] if run is None else Run(run).log
    return rows[: rows[-1].get("selected_epoch", rows[-1]["epoch"]) + 1] if rows else []


def print_table(found: "Found", console: "Console") -> None:
    """The findings, the settling attacks and the verdict, for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{found.images} images, ℓ∞ ε {found.eps:.4g}, {found.clean:.1%} clean")
    for column in ("check", "", "outcome", "measured"):
        table.add_column(column)
    styles = {"flag": "red", "pass": "green", "not run": "dim"}
    for finding in found.findings:
        outcome = finding.outcome + (f", {finding.settled}" if finding.settled else "")
        table.add_row(finding.id, finding.title, outcome, escape(finding.measured), style=styles[finding.outcome])
    console.print(table)
    for finding in found.findings:
        if finding.outcome == "flag":
            told = f"{finding.id} {finding.title}: {finding.meaning} Next: {finding.next}."
            console.print(told, markup=False, highlight=False)
    for step in found.settlements:
        console.print(f"Settling: {step.told}: {step.before:.1%} → {step.after:.1%} stand.", highlight=False)
    console.print(found.sentence, style="bold", markup=False, highlight=False)
