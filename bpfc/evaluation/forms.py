"""How each attack is named: `pgd-50x10` is PGD with 50 steps and 10 restarts."""

from collections.abc import Callable
from dataclasses import dataclass

from bpfc.attacks import (
    APGD,
    FGSM,
    IFGSM,
    PGD,
    RFGSM,
    SPSA,
    Adaptive,
    Attack,
    AutoAttackBehind,
    AutoAttackPart,
    Behind,
    CarliniWagner,
    DeepFool,
    MultiTargeted,
    NarrowingAPGD,
    Noise,
    Norm,
    OutsideIn,
    Square,
    TargetedAPGD,
)
from bpfc.attacks.autoattack import PARTS, Part
from bpfc.attacks.objectives import ObjectiveName
from bpfc.evaluation.plan import ThreatModel


@dataclass(frozen=True)
class Context:
    """What a name such as pgd-50 leaves open.

    Attributes:
        threat: which perturbations count.
        channels: of the images; the paper's suite follows from it.
        step_size: PGD's, in units of [0, 1]; ε / 4 unless given.
        k: bit planes that the network's own quantiser drops, for the attacker who knows it; None without one.
        curve: the network has a tone curve in front, which an attack in x may be blind through.
    """

    threat: ThreatModel
    channels: int
    step_size: float | None = None
    k: int | None = None
    curve: bool = False

    @property
    def norm(self) -> Norm:
        return self.threat.norm

    @property
    def eps(self) -> float:
        return self.threat.eps

    @property
    def step_length(self) -> float:
        """The step size that PGD takes."""
        return self.eps / 4 if self.step_size is None else self.step_size

    @property
    def paper_steps(self) -> int:
        """Of I-FGSM in the paper's tables: 40 on its grey data sets, 7 on its coloured one."""
        return 40 if self.channels == 1 else 7


@dataclass(frozen=True)
class Form:
    """One way of naming an attack.

    Attributes:
        pattern: of the name; its groups are whole numbers.
        shown: for people.
        what: it does, in a line.
        make: the attack, from the context and the numbers.
        linf_only: it has no ℓ2 version.
        last: its name may end in -last.
    """

    pattern: str
    shown: str
    what: str
    make: Callable[..., Attack]
    linf_only: bool = False
    last: bool = True


def _adaptive(context: Context, steps: int) -> Attack:
    if context.k is None:
        raise ValueError("attack 'adaptive': needs the k of the network's quantiser; give --k, as in training")
    return Adaptive(context.eps, context.step_length, steps, context.k)


def _pgd(loss: ObjectiveName) -> Callable[..., Attack]:
    return lambda c, steps, _: PGD(c.eps, c.step_length, steps, loss, c.norm)


def _towards(targets: int) -> Callable[..., Attack]:
    return lambda c, steps: MultiTargeted(c.eps, c.step_length, steps, targets, c.norm)


def _apgd_at(targets: int) -> Callable[..., Attack]:
    return lambda c, steps, _: TargetedAPGD(c.eps, steps, targets, c.norm)


def _behind(targets: int) -> Callable[..., Attack]:
    return lambda c, steps, _: Behind(c.eps, steps, targets=targets)


def _noise(corners: bool) -> Callable[..., Attack]:
    return lambda c, draws: Noise(c.eps, draws, corners)


def _autoattack(part: Part, behind: bool) -> Callable[..., Attack]:
    return lambda c: AutoAttackBehind(c.eps, part) if behind else AutoAttackPart(c.eps, part, c.norm)


FORMS = (
    Form("fgsm", "fgsm", "one step of ε along the gradient's sign", lambda c: FGSM(c.eps), linf_only=True),
    Form(
        "rfgsm", "rfgsm", "a random step of ε/2, then one of ε/2", lambda c: RFGSM(c.eps / 2, c.eps / 2), linf_only=True
    ),
    Form(
        r"ifgsm-(\d+)",
        "ifgsm-STEPS",
        "steps of ε/STEPS, no random start",
        lambda c, steps: IFGSM(c.eps, steps),
        linf_only=True,
    ),
    Form(r"pgd-(\d+)(?:x(\d+))?", "pgd-STEPS[xRESTARTS]", "random start, steps of a fixed length", _pgd("ce")),
    Form(r"pgd-margin-(\d+)(?:x(\d+))?", "pgd-margin-STEPS[xRESTARTS]", "the same on the margin", _pgd("margin")),
    Form(r"pgd-dlr-(\d+)(?:x(\d+))?", "pgd-dlr-STEPS[xRESTARTS]", "the same on the logits' ratio", _pgd("dlr")),
    Form(r"pgd-targeted-(\d+)", "pgd-targeted-STEPS", "PGD towards the likeliest other class", _towards(1)),
    Form(r"mt-pgd-(\d+)", "mt-pgd-STEPS", "PGD towards up to 9 classes in turn", _towards(9)),
    Form(
        r"apgd-(\d+)(?:x(\d+))?",
        "apgd-STEPS[xRESTARTS]",
        "APGD: steps that halve by themselves, on cross-entropy",
        lambda c, steps, _: APGD(c.eps, steps, norm=c.norm),
    ),
    Form(
        r"apgd-dlr-(\d+)(?:x(\d+))?",
        "apgd-dlr-STEPS[xRESTARTS]",
        "the same on the logits' ratio",
        lambda c, steps, _: APGD(c.eps, steps, "dlr", c.norm),
    ),
    Form(
        r"apgd-t-(\d+)(?:x(\d+))?",
        "apgd-t-STEPS[xRESTARTS]",
        "APGD towards up to 9 classes",
        _apgd_at(9),
        last=False,
    ),
    Form(
        r"apgd-t3-(\d+)(?:x(\d+))?",
        "apgd-t3-STEPS[xRESTARTS]",
        "APGD towards the 3 nearest classes",
        _apgd_at(3),
        last=False,
    ),
    Form(
        r"apgd-narrowing-(\d+)(?:x(\d+))?",
        "apgd-narrowing-STEPS[xRESTARTS]",
        "APGD towards up to 9 classes, then 4, for STEPS/5; where an image may fall, thrice towards the nearest",
        lambda c, steps, _: NarrowingAPGD(c.eps, steps, norm=c.norm),
        last=False,
    ),
    Form(
        r"behind-(\d+)(?:x(\d+))?",
        "behind-STEPS[xRESTARTS]",
        "PGD behind a tone curve: cross-entropy, margin, up to 9 classes",
        _behind(9),
        linf_only=True,
    ),
    Form(
        r"behind-t3-(\d+)(?:x(\d+))?",
        "behind-t3-STEPS[xRESTARTS]",
        "the same, towards the 3 likeliest classes",
        _behind(3),
        linf_only=True,
    ),
    Form(
        r"outside-in-(\d+)",
        "outside-in-STEPS",
        "from three times the radius inwards, along the decision boundary",
        lambda c, steps: OutsideIn(c.eps, steps, c.norm),
    ),
    Form("deepfool", "deepfool", "nearest misclassified image, in ε's norm", lambda c: DeepFool(c.norm), last=False),
    Form("deepfool-l2", "deepfool-l2", "the same in ℓ2", lambda _: DeepFool("l2"), last=False),
    Form(
        r"cw-(\d+)",
        "cw-STEPS",
        "Carlini and Wagner: nearest misclassified image, in ℓ2",
        lambda _, steps: CarliniWagner(steps),
        last=False,
    ),
    Form(
        r"spsa-(\d+)",
        "spsa-STEPS",
        "gradients estimated from answers alone",
        lambda c, steps: SPSA(c.eps, steps, norm=c.norm),
    ),
    Form(r"noise-(\d+)", "noise-DRAWS", "random points of the ball", _noise(corners=False), linf_only=True, last=False),
    Form(r"corners-(\d+)", "corners-DRAWS", "random corners of it", _noise(corners=True), linf_only=True, last=False),
    Form(
        r"square-(\d+)",
        "square-QUERIES",
        "random search by squares, no gradients",
        lambda c, queries: Square(c.eps, queries),
        linf_only=True,
    ),
    Form(r"adaptive-(\d+)", "adaptive-STEPS", "PGD that knows BPFC's regulariser", _adaptive, linf_only=True),
    *(
        Form(name, name, f"{what}, the authors' code", _autoattack(part, behind), behind, last=False)
        for behind, what in ((False, "a part of AutoAttack"), (True, "it behind a tone curve"))
        for part in PARTS
        for name in [f"aa-behind-{part}" if behind else f"aa-{part}"]
    ),
)
