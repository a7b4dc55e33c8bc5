"""`bpfc.audit`: checks, settling attacks, verdict. The verb `audit` is this with files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bpfc.answers import Answers
from bpfc.attacks.base import check_radius
from bpfc.auditing.budget import FULL, QUICK, Budget
from bpfc.auditing.checks import EVERY
from bpfc.auditing.figures import figures
from bpfc.auditing.finding import Finding
from bpfc.auditing.kept import SCHEMA
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.settle import Settlement, settle, settled
from bpfc.auditing.verdict import EXIT, Verdict, decide
from bpfc.certification import ContradictionError
from bpfc.checks import check_company, check_recording, handed_in, in_train_mode
from bpfc.files import make_writable_folder, owned
from bpfc.judge import exact_logits
from bpfc.ledger import wilson_interval
from bpfc.modes import eval_mode
from bpfc.options import Arithmetic
from bpfc.team import Team
from bpfc.wrappers import is_random, with_hooks


@dataclass(frozen=True)
class Audit:
    """What an audit says.

    Attributes:
        verdict: stands, falls, masked or open; docs/audit.md says what each means.
        sentence: the same with its figures.
        robust: share that stands under the worst of all attacks, the settling ones among them.
        interval: its 95 % interval.
        clean: accuracy on the clean images, a share.
        claim: the robust accuracy that was claimed, a share; None without one.
        certified: the share of the images that is proven to stand; None where no proofs were given.
        findings: one for each check, by number.
        settlements: the settling attacks, in order.
        cascade: by attack in the order in which they ran, the share that stands after it.
        images, eps: how many, and the radius in ℓ∞.
        figures: curves and the loss surface, ready to be drawn; see bpfc.auditing.figures.
    """

    verdict: Verdict
    sentence: str
    robust: float
    interval: tuple[float, float]
    clean: float
    claim: float | None
    certified: float | None
    findings: list[Finding] = field(repr=False)
    settlements: list[Settlement] = field(repr=False)
    cascade: dict[str, float] = field(repr=False)
    images: int
    eps: float
    figures: dict[str, Any] = field(repr=False)

    @property
    def flags(self) -> list[str]:
        """The ids of the checks that flagged."""
        return [finding.id for finding in self.findings if finding.outcome == "flag"]

    @property
    def exit_status(self) -> int:
        """0 stands, 1 falls or masked, 3 open."""
        return EXIT[self.verdict]

    def summary(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"schema": SCHEMA, **asdict(self), "flags": self.flags, "exit_status": self.exit_status}


def audit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    claim: float | None = None,
    proven: Tensor | None = None,
    quick: bool = False,
    k: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    budget: Budget | None = None,
    folder: Path | None = None,
    header: Mapping[str, Any] | None = None,
    told: Callable[[str], None] = lambda _: None,
    log: Sequence[Mapping[str, Any]] = (),
    precision: Arithmetic = "fp32",
    crew: Team | None = None,
) -> Audit:
    """Whether a robustness is real: signs of masked gradients, and the attacks that settle them.

    Args:
        model: from float32 images (N, C, H, W) in [0, 1] to logits (N, classes). One that gives probabilities, answers
            at random, is in train mode or lets no gradient through is audited too, and flagged. Its answer to
            an image must not depend on the images beside it.
        images: (N, C, H, W): uint8, or float32 in [0, 1]. All of them are used.
        labels: integers, (N,).
        eps: radius in ℓ∞, in units of [0, 1], such as 8/255.
        claim: the robust accuracy that is claimed: a share, or in % if above 1.
        proven: (N,) bool, on any device: which images `certify` proves to stand, at this ε. Where a flag is left that
            no attack settles, the verdict is stands, not open, if it would be the same with all broken that is not
            proven.
        quick: fewer steps, restarts and queries; see QUICK and FULL.
        k: bit planes that the model was trained to do without, if it is known, for the attacker who knows it.
        seed: of the random starts.
        batch_size: images at a time; bounds the memory.
        budget: how much to spend, in place of `quick`.
        folder: where what was measured is kept, so that a killed audit goes on; None keeps nothing.
        header: what else decides the measurements, ready for JSON; an audit goes on only where it is the same.
        told: hears how far the audit is.
        log: of the training up to the epoch whose weights were kept, as bpfc train writes it; empty without one.
        precision: of the attacks' gradients; verdicts are in float32 always.
        crew: processes that call this alike, and share each attack's images out; the first has the folder.
            This one alone unless given.

    Raises:
        ValueError: images, labels, the model's answers, ε or the claim are not as above; the folder holds the audit of
            something else; or another process audits something else.
        UserError: the model fails on one of the images, or answers in another form.
        ContradictionError: an image that is proven to stand does not.
        OSError: the folder cannot be written to, or another process is at work there.
    """
    check_radius(eps=eps)
    check_recording()
    given = handed_in(images, labels)
    claimed = None if claim is None else share_of(claim)
    if proven is not None:
        _check_form(proven, len(images))
    crew = crew or Team(0, 1)
    if folder is not None and crew.first:
        make_writable_folder(folder)
    model = with_hooks(model)
    trained = in_train_mode(model)
    alone = nullcontext() if folder is None or not crew.first else owned(folder)
    with eval_mode(model), alone, ExitStack() as watched:
        m = Measurements(
            model,
            given,
            eps,
            budget or (QUICK if quick else FULL),
            k,
            seed,
            batch_size,
            folder,
            header or {},
            told,
            trained,
            log,
            precision,
            crew,
        )
        if not m.varies and not is_random(model):
            check_company(model, given)
        watched.enter_context(Answers(model).to(range(len(m))))
        watched.enter_context(_unchanged(m))
        certified = None if proven is None else proven.to(m.labels.device)
        _check_standing(certified, m.right, lambda _: "it is misclassified as it is")
        findings = []
        for check in EVERY:
            findings.append(check(m))
            told(f"{check.id} {check.title}: {findings[-1].outcome}")
        settlements = settle(m, findings)
        findings = settled(m, findings, settlements)
        _check_standing(certified, m.left, lambda index: f"{m.broken_by(index)} breaks it")
        verdict, sentence = decide(m, findings, settlements, claimed, certified)
        left, drawn = int(m.left.sum()), figures(m)
        m.found.end()
        return Audit(
            verdict,
            sentence,
            left / len(m),
            wilson_interval(left, len(m)),
            m.share(m.right),
            claimed,
            None if certified is None else m.share(certified),
            findings,
            settlements,
            m.cascade,
            len(m),
            eps,
            drawn,
        )


@contextmanager
def _unchanged(m: Measurements) -> Iterator[None]:
    """Raises ValueError where most images get another answer at the end, or where an attack fails, than before."""
    failed: ValueError | None = None
    before = m.logits[: m.batch_size]
    try:
        yield
    except ValueError as error:
        failed = error
    if not m.varies:
        apart = (exact_logits(m.model, m.some(slice(m.batch_size))[0]) - before).abs().amax(dim=1)
        if 2 * int((~(apart <= 1e-5 + 1e-3 * before.abs().amax(dim=1))).sum()) > len(before):
            raise ValueError(
                "the model answers the same images otherwise than when the audit began, as one that counts its calls "
                "does: take out what changes"
            ) from failed
    if failed is not None:
        raise failed


def _check_form(proven: object, images: int) -> None:
    if not isinstance(proven, Tensor) or proven.dtype != torch.bool or proven.shape != (images,):
        told = f"{proven.dtype} of shape {tuple(proven.shape)}" if isinstance(proven, Tensor) else type(proven).__name__
        raise ValueError(
            f"proven: is {told}, must be a tensor of bool, one an image: ({images},), such as "
            "torch.tensor([row['certified_by'] is not None for row in bpfc.certify(...).rows])"
        )


def _check_standing(proven: Tensor | None, standing: Tensor, otherwise: Callable[[int], str]) -> None:
    """Raises ContradictionError where an image is proven to stand, and does not; `otherwise` says why not."""
    if proven is not None and (wrong := (proven & ~standing).nonzero().flatten().tolist()):
        raise ContradictionError(
            f"image {wrong[0]} is proven to stand, but {otherwise(wrong[0])}: the proofs are of another model, other "
            "images or a smaller ε, or one of the two is wrong"
        )


def share_of(claim: float) -> float:
    """A claim as a share: one above 1 is in %. Raises ValueError where it is neither."""
    if not 0 <= claim <= 100:
        raise ValueError(f"claim={claim!r}: must be a share from 0 to 1, or from above 1 to 100 in %, such as 67.7")
    return claim / 100 if claim > 1 else claim
