"""`bpfc.evaluate`: any classifier and images in memory. The verb `evaluate` is this with files."""

import warnings
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from bpfc.attacks import Norm
from bpfc.certification import Certification, fingerprint
from bpfc.checks import check, check_recording, handed_in
from bpfc.data import Images, parts_of
from bpfc.evaluation.caveats import caveats
from bpfc.evaluation.engine import Proof, run_blocks
from bpfc.evaluation.forms import Context
from bpfc.evaluation.gradients import check_gradient
from bpfc.evaluation.names import parse
from bpfc.evaluation.plan import ThreatModel
from bpfc.ledger import Row, summarise
from bpfc.models import behind
from bpfc.options import Arithmetic
from bpfc.wrappers import with_hooks


@dataclass(frozen=True)
class Evaluation:
    """Rows and summary of an evaluation; see bpfc.ledger for what they hold."""

    rows: list[Row]
    summary: dict[str, Any] = field(repr=False)
    warnings: list[str] = field(default_factory=list)
    """What makes the figures say less than they seem to, and what attacks warned of; the verb prints the same."""

    @property
    def clean(self) -> float:
        """Accuracy on the clean images, a share."""
        return float(self.summary["clean"]["accuracy"])

    @property
    def robust(self) -> float:
        """Worst-case accuracy over all attacks, a share."""
        return float(self.summary["worst_case"]["accuracy"])


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attacks: str = "fgsm,pgd-100",
    eps: float,
    norm: Norm = "linf",
    step_size: float | None = None,
    k: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    precision: Arithmetic = "fp32",
    certificates: Certification | None = None,
) -> Evaluation:
    """Clean and robust accuracy of any classifier, image by image.

    Args:
        model: from float32 images (N, C, H, W) in [0, 1] to logits (N, classes), in eval mode, on the images' device;
            normalisation, if any, inside it. One with randomness in it must be wrapped in bpfc.EOT.
        images: (N, C, H, W): uint8, or float32 in [0, 1].
        labels: integers, (N,).
        attacks: comma-separated names, or a suite: paper, quick, fast, standard, worst; see bpfc.evaluation.names.
        eps: radius in units of [0, 1], such as 8/255.
        norm: in which the radius is meant, linf or l2.
        step_size: PGD's; eps / 4 unless given.
        k: bit planes that a BPFC network's quantiser drops, for the attacker who knows it.
        seed: of the random starts; an image's starts derive from it, the image's position and the restart.
        batch_size: images at a time; bounds the memory. In float32 the verdicts do not depend on it.
        precision: of the attacks' gradients; verdicts are always in float32.
        certificates: of `certify` on the same model, images in the same order, labels and ε in ℓ∞: what is certified
            meets no attack.

    Raises:
        ValueError: the model is in train mode, gives no finite logits of shape (N, classes), gives probabilities, or
            answers differently twice or in other company, writes into its input, or, under an attack by gradients,
            lets none through; images or labels are not as above; an attack's name or radius makes no sense.
        UserError: the model fails on one of the later images, or answers in another form.
        ContradictionError: a certified image is misclassified as it is.
    """
    threat = ThreatModel(norm, eps)
    if not isinstance(attacks, str):
        raise ValueError(f"attacks={attacks!r}: must be one text, names separated by commas, such as 'fgsm,pgd-100'")
    given = handed_in(images, labels)
    model = with_hooks(model)
    check(model, given)
    context = Context(threat, channels=given.channels, step_size=step_size, k=k, curve=behind(model) is not None)
    proofs = {} if certificates is None else _proofs(certificates, threat, model, given)
    plan = parse(attacks, context, seed=seed, precision=precision, batch_size=batch_size)
    if plan.by_gradients:
        check_recording()
        check_gradient(model, given)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        parts = parts_of(range(len(given)), plan.batch_size)
        rows = [row for made in run_blocks(model, given, parts, plan, proofs=proofs) for row in made]
    told = sorted({str(warning.message) for warning in heard}) + caveats(rows)
    return Evaluation(rows, summarise(rows, plan.names, plan.minimum_norm), told)


def _proofs(certificates: Certification, threat: ThreatModel, model: nn.Module, given: Images) -> dict[int, Proof]:
    """What is proven of each image, by its position.

    Raises:
        ValueError: they are no certificates, for another threat, of another network or other images, or of what they
            do not say.
    """
    if not isinstance(certificates, Certification):
        raise ValueError(f"certificates: {type(certificates).__name__}, must be what bpfc.certify gives back")
    if threat != ThreatModel("linf", certificates.eps):
        raise ValueError(f"certificates: hold for ℓ∞ ε {certificates.eps:.4g}, the attacks are for {threat}")
    if certificates.subject is None:
        raise ValueError(
            "certificates: do not say of which network and images they are; take what bpfc.certify gives back, or "
            "bpfc evaluate --certificates for those of a folder"
        )
    if certificates.subject != fingerprint(model, given):
        raise ValueError(
            "certificates: are of another network, other images or other labels; certify these images, in this order, "
            "with this network"
        )
    rows = enumerate(certificates.rows)
    return {place: Proof(row["certified_by"], row["margin_lower"]) for place, row in rows}
