"""Attacks by name: `pgd-50x10` is PGD with 50 steps and 10 restarts; `worst` is a suite of many."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from bpfc.attacks import (
    FGSM,
    IFGSM,
    PGD,
    RFGSM,
    SPSA,
    Adaptive,
    Attack,
    AutoAttackPart,
    Ball,
    CarliniWagner,
    DeepFool,
    MultiTargeted,
    Noise,
    Norm,
    Square,
)
from bpfc.attacks.autoattack import PARTS


@dataclass(frozen=True)
class Setting:
    """What attacks are planned for.

    Attributes:
        ball: which perturbations count: norm and radius.
        step: PGD's step, in units of [0, 1].
        k: bit planes that the network's own quantiser drops, for the attacker who knows it; None without one.
        ifgsm_steps: the paper's for the data set: 7 on CIFAR-10, 40 on the others.
    """

    ball: Ball
    step: float
    k: int | None = None
    ifgsm_steps: int = 7


@dataclass(frozen=True)
class Planned:
    """An attack as an evaluation runs it.

    Attributes:
        name: as it was asked for; in the ledger and the tables.
        attack: with its hyper-parameters.
        restarts: how many runs, each with its own random start, on what the earlier ones left.
        any_iterate: every iterate is judged, and broken images leave; else the last one alone, with nobody dropped.
    """

    name: str
    attack: Attack
    restarts: int = 1
    any_iterate: bool = True

    @property
    def minimum_norm(self) -> Norm | None:
        """For an attack without a radius, the norm in which it looks for the nearest misclassified image."""
        return self.attack.norm if self.attack.eps is None else None


@dataclass(frozen=True)
class Form:
    """One way of naming an attack.

    Attributes:
        pattern: of the name; its groups are whole numbers.
        shown: for people.
        make: the attack, from the setting and the numbers.
        linf_only: it has no ℓ2 version.
        last: its name may end in -last.
    """

    pattern: str
    shown: str
    make: Callable[..., Attack]
    linf_only: bool = False
    last: bool = True


def _adaptive(setting: Setting, steps: int) -> Attack:
    if setting.k is None:
        raise ValueError("attack 'adaptive': needs the k of the network's quantiser; give --k, as in training")
    return Adaptive(setting.ball.eps, setting.step, steps, setting.k)


def _pgd(loss: str) -> Callable[..., Attack]:
    return lambda s, steps, _: PGD(s.ball.eps, s.step, steps, loss, s.ball.norm)  # type: ignore[arg-type]


def _autoattack(part: str) -> Callable[..., Attack]:
    return lambda s: AutoAttackPart(s.ball.eps, part, s.ball.norm)  # type: ignore[arg-type]


FORMS = (
    Form("fgsm", "fgsm", lambda s: FGSM(s.ball.eps), linf_only=True),
    Form("rfgsm", "rfgsm", lambda s: RFGSM(s.ball.eps / 2, s.ball.eps / 2), linf_only=True),
    Form(r"ifgsm-(\d+)", "ifgsm-STEPS", lambda s, steps: IFGSM(s.ball.eps, steps), linf_only=True),
    Form(r"pgd-(\d+)(?:x(\d+))?", "pgd-STEPS[xRESTARTS]", _pgd("ce")),
    Form(r"pgd-margin-(\d+)(?:x(\d+))?", "pgd-margin-…", _pgd("margin")),
    Form(r"pgd-dlr-(\d+)(?:x(\d+))?", "pgd-dlr-…", _pgd("dlr")),
    Form(
        r"pgd-targeted-(\d+)",
        "pgd-targeted-STEPS (at the likeliest other class)",
        lambda s, steps: MultiTargeted(s.ball.eps, s.step, steps, 1, s.ball.norm),
    ),
    Form(
        r"mt-pgd-(\d+)",
        "mt-pgd-STEPS (at up to 9 classes)",
        lambda s, steps: MultiTargeted(s.ball.eps, s.step, steps, 9, s.ball.norm),
    ),
    Form("deepfool", "deepfool (in the norm of ε)", lambda s: DeepFool(s.ball.norm), last=False),
    Form("deepfool-l2", "deepfool-l2", lambda s: DeepFool("l2"), last=False),
    Form(r"cw-(\d+)", "cw-STEPS (ℓ2)", lambda s, steps: CarliniWagner(steps), last=False),
    Form(r"spsa-(\d+)", "spsa-STEPS", lambda s, steps: SPSA(s.ball.eps, steps, norm=s.ball.norm)),
    Form(r"noise-(\d+)", "noise-DRAWS", lambda s, draws: Noise(s.ball.eps, draws), linf_only=True, last=False),
    Form(
        r"corners-(\d+)",
        "corners-DRAWS",
        lambda s, draws: Noise(s.ball.eps, draws, corners=True),
        linf_only=True,
        last=False,
    ),
    Form(r"square-(\d+)", "square-QUERIES", lambda s, queries: Square(s.ball.eps, queries), linf_only=True),
    Form(r"adaptive-(\d+)", "adaptive-STEPS (knows BPFC)", _adaptive, linf_only=True),
    *(Form(f"aa-{part}", f"aa-{part}", _autoattack(part), last=False) for part in PARTS),
)

STANDARD = ",".join(f"aa-{part}" for part in PARTS)
WORST = (
    "noise-100,corners-100,fgsm,rfgsm,ifgsm-40,pgd-100,deepfool,pgd-margin-100,pgd-dlr-100,mt-pgd-20,adaptive-40,"
    f"pgd-50x5,cw-50,spsa-10,{STANDARD}"
)
CASCADES = ("quick", "standard", "worst")
SUITES = ("paper", *CASCADES)
"""paper: what the paper's tables need. quick: minutes on a CPU. standard: AutoAttack. worst: all, cheapest first.
In the last three, each attack runs on what those before it left."""

SHOWN = f"{', '.join(form.shown for form in FORMS)}, each with -last to judge the last iterate alone"


def parse(names: str, setting: Setting) -> list[Planned]:
    """Attacks from a comma-separated list of names and suites, such as "fgsm,pgd-50x10,pgd-1000-last" or "worst".

    Of a suite, what has no version for the setting (ℓ2, no k) is left out.

    Raises:
        ValueError: a name is unknown or comes twice, has no version for the norm, or a number in it makes no sense.
    """
    planned: list[Planned] = []
    for name in names.split(","):
        name = name.strip()
        if name in SUITES:
            planned += _suite(name, setting)
        else:
            planned.append(_parse_one(name, setting))
    for i, item in enumerate(planned):
        if item.name in (before.name for before in planned[:i]):
            raise ValueError(f"attack {item.name!r} is named twice; name each once")
    return planned


def cascades(names: str) -> bool:
    """Whether the list holds a suite in which each attack runs on what those before it left."""
    return any(name.strip() in CASCADES for name in names.split(","))


def _suite(name: str, setting: Setting) -> list[Planned]:
    steps = setting.ifgsm_steps
    members = {
        "paper": f"fgsm,ifgsm-{steps},pgd-{steps}-last,pgd-20-last,pgd-1000-last",
        "quick": "noise-20,fgsm,pgd-40,mt-pgd-10",
        "standard": STANDARD,
        "worst": WORST,
    }[name]
    kept = []
    for member in members.split(","):
        linf_only = next(form.linf_only for form in FORMS if re.fullmatch(form.pattern + "(-last)?", member))
        if (linf_only and setting.ball.norm != "linf") or (member.startswith("adaptive") and setting.k is None):
            continue
        kept.append(_parse_one(member, setting))
    return kept


def _parse_one(name: str, setting: Setting) -> Planned:
    plain = name.removesuffix("-last")
    for form in FORMS:
        found = re.fullmatch(form.pattern, plain)
        if found is None or (plain != name and not form.last):
            continue
        if form.linf_only and setting.ball.norm != "linf":
            raise ValueError(f"attack {name!r}: is for ℓ∞; in ℓ2 take pgd, mt-pgd, deepfool, cw, spsa or aa-…")
        numbers = [None if group is None else int(group) for group in found.groups()]
        restarts = numbers[1] if len(numbers) > 1 and numbers[1] is not None else 1
        if restarts < 1:
            raise ValueError(f"attack {name!r}: restarts must be 1 or more")
        return Planned(name, form.make(setting, *numbers), restarts, any_iterate=plain == name)
    raise ValueError(f"attack {name!r}: must be one of the suites {', '.join(SUITES)}, or of {SHOWN}")
