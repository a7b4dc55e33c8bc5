"""A plan from names: of attacks (see `forms`), and of suites of many, such as `worst`."""

import re
from difflib import get_close_matches

from bpfc.attacks.autoattack import PARTS
from bpfc.evaluation.forms import FORMS, Context
from bpfc.evaluation.plan import Plan, PlannedAttack
from bpfc.options import Arithmetic

STANDARD = ",".join(f"aa-{part}" for part in PARTS)
WORST = (
    "noise-100,corners-100,fgsm,rfgsm,ifgsm-40,pgd-100,deepfool,pgd-margin-100,pgd-dlr-100,mt-pgd-20,behind-50,"
    f"adaptive-40,pgd-50x5,outside-in-100,cw-50,spsa-10,{STANDARD}"
)
FAST = "apgd-50,apgd-narrowing-100,outside-in-60,fgsm,square-200"
FAST_BEHIND = "apgd-50,behind-t3-20x2,fgsm,square-200"
"""The second is for a network with a tone curve, in ℓ∞: gradients see most behind it. FGSM and Square come last: what
they break that small steps left is a sign of masked gradients (see caveats). A hundred queries of Square missed
k-winners-take-all (benchmarks/controls.py), two hundred do not."""
CASCADES = ("quick", "fast", "standard", "worst")
SUITES = {
    "paper": "what the paper's tables need, each attack on every image",
    "quick": "noise, FGSM, PGD-40, multi-targeted PGD-10, and behind a tone curve: minutes on a CPU",
    "fast": "nearly AutoAttack's verdict for a tenth of its passes, if no gradients are hidden: while working",
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
