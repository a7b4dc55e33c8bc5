"""Attacks by name: `pgd-50x10` is PGD with 50 steps and 10 restarts; `pgd-1000-last` is the paper's protocol."""

import re
from dataclasses import dataclass

from bpfc.attacks import FGSM, IFGSM, PGD, Attack

FORMS = "fgsm, ifgsm-STEPS, pgd-STEPS, pgd-STEPSxRESTARTS, each with -last to judge the last iterate alone"


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


def parse(names: str, *, eps: float, step: float) -> list[Planned]:
    """Attacks from a comma-separated list.

    Args:
        names: such as "fgsm,ifgsm-40,pgd-100,pgd-50x10,pgd-1000-last".
        eps: ℓ∞ radius in units of [0, 1].
        step: PGD's step, likewise.

    Raises:
        ValueError: a name is unknown or comes twice, or a number in it makes no sense.
    """
    planned = [_parse_one(name.strip(), eps, step) for name in names.split(",")]
    for i, item in enumerate(planned):
        if item.name in (before.name for before in planned[:i]):
            raise ValueError(f"attack {item.name!r} is named twice; name each once")
    return planned


def _parse_one(name: str, eps: float, step: float) -> Planned:
    form = re.fullmatch(r"(fgsm)(-last)?|(ifgsm)-(\d+)(-last)?|(pgd)-(\d+)(?:x(\d+))?(-last)?", name)
    if form is None:
        raise ValueError(f"attack {name!r}: must be one of {FORMS}")
    any_iterate = not name.endswith("-last")
    if form[1]:
        return Planned(name, FGSM(eps), any_iterate=any_iterate)
    if form[3]:
        return Planned(name, IFGSM(eps, int(form[4])), any_iterate=any_iterate)
    restarts = int(form[8] or 1)
    if restarts < 1:
        raise ValueError(f"attack {name!r}: restarts must be 1 or more")
    return Planned(name, PGD(eps, step, int(form[7])), restarts, any_iterate)
