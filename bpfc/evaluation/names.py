"""Attacks by name: `pgd-50x10` is PGD with 50 steps and 10 restarts; `worst` is a suite of many."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

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
    Noise,
    Norm,
    Square,
    TargetedAPGD,
)
from bpfc.attacks.autoattack import PARTS, Part
from bpfc.attacks.objectives import ObjectiveName
from bpfc.evaluation.plan import Plan, PlannedAttack, ThreatModel
from bpfc.options import Arithmetic


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

STANDARD = ",".join(f"aa-{part}" for part in PARTS)
WORST = (
    "noise-100,corners-100,fgsm,rfgsm,ifgsm-40,pgd-100,deepfool,pgd-margin-100,pgd-dlr-100,mt-pgd-20,behind-50,"
    f"adaptive-40,pgd-50x5,cw-50,spsa-10,{STANDARD}"
)
FAST = "apgd-50,apgd-t3-50x2,fgsm,square-200"
FAST_BEHIND = "apgd-50,behind-t3-20x2,fgsm,square-200"
"""The second is for a network with a tone curve, in ℓ∞: gradients see most behind it. FGSM and Square come last: what
they break that small steps left is a sign of masked gradients (see caveats). A hundred queries of Square missed
k-winners-take-all (benchmarks/controls.py), two hundred do not."""
CASCADES = ("quick", "fast", "standard", "worst")
SUITES = {
    "paper": "what the paper's tables need, each attack on every image",
    "quick": "noise, FGSM, PGD-40, multi-targeted PGD-10, and behind a tone curve: minutes on a CPU",
    "fast": "nearly AutoAttack's verdict for a tenth of its passes, or a word on why not: the number while working",
    "standard": "AutoAttack's standard version: the number that others report",
    "worst": "nearly everything, cheapest first: the number to trust most",
}
"""But for the paper's, each attack runs on what those before it left."""


def parse(
    names: str,
    context: Context,
    *,
    cascade: bool = False,
    seed: int = 0,
    precision: Arithmetic = "fp32",
    batch_size: int = 256,
) -> Plan:
    """A plan from a comma-separated list of names and suites, such as "fgsm,pgd-50x10,pgd-1000-last" or "worst".

    Of a suite, what has no version for the context (ℓ2, no k, no tone curve) is left out; with one of those in which
    each attack runs on what those before it left, the plan is a cascade, `cascade` or not.

    Raises:
        ValueError: a name is unknown or comes twice, has no version for the norm, or a number makes no sense.
    """
    attacks: list[PlannedAttack] = []
    for name in (part.strip() for part in names.split(",")):
        if name in SUITES:
            attacks += _suite(name, context)
            cascade |= name in CASCADES
        else:
            attacks.append(_attack(name, context))
    return Plan(tuple(attacks), context.threat, cascade, seed, precision, batch_size)


def _suite(name: str, context: Context) -> list[PlannedAttack]:
    steps = context.paper_steps
    members = {
        "paper": f"fgsm,ifgsm-{steps},pgd-{steps}-last,pgd-20-last,pgd-1000-last",
        "quick": "noise-20,fgsm,pgd-40,mt-pgd-10,behind-10",
        "fast": FAST_BEHIND if context.curve and context.norm == "linf" else FAST,
        "standard": STANDARD,
        "worst": WORST,
    }[name]
    kept = []
    for member in members.split(","):
        linf_only = next(form.linf_only for form in FORMS if re.fullmatch(form.pattern + "(-last)?", member))
        if linf_only and context.norm != "linf":
            continue
        if member.startswith("adaptive") and context.k is None:
            continue
        if member.startswith("behind") and not context.curve:
            continue
        kept.append(_attack(member, context))
    return kept


def _attack(name: str, context: Context) -> PlannedAttack:
    plain = name.removesuffix("-last")
    for form in FORMS:
        found = re.fullmatch(form.pattern, plain, re.ASCII)
        if found is None:
            continue
        if plain != name and not form.last:
            raise ValueError(f"attack {name!r}: {plain} has no last iterate to judge; leave out -last")
        if form.linf_only and context.norm != "linf":
            raise ValueError(f"attack {name!r}: is for ℓ∞; in ℓ2 take pgd, apgd, mt-pgd, deepfool, cw, spsa or aa-…")
        if any(re.fullmatch(r"0\d+|\d{10,}", group or "") for group in found.groups()):
            raise ValueError(f"attack {name!r}: its numbers must be below 10⁹, without zeros in front")
        numbers = [None if group is None else int(group) for group in found.groups()]
        restarts = numbers[1] if len(numbers) > 1 and numbers[1] is not None else 1
        return PlannedAttack(name, form.make(context, *numbers), restarts, any_iterate=plain == name)
    known = {shown: shown.partition("-")[0] for shown in (*SUITES, *(form.shown for form in FORMS))}
    near = get_close_matches(name.partition("-")[0], known.values(), n=1)
    meant = " or ".join(shown for shown, family in known.items() if family in near)
    raise ValueError(f"attack {name!r}: {f'did you mean {meant}? ' if meant else ''}bpfc attacks lists them all")
