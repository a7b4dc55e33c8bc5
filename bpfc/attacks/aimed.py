"""Attacks at several targets, on networks of few classes."""

from dataclasses import replace

from bpfc.attacks.base import Attack
from bpfc.attacks.behind import Behind
from bpfc.attacks.multi_targeted import MultiTargeted


def aimed(attack: Attack, classes: int) -> Attack:
    """The attack at no more targets than there are other classes: so its `steps` are those that it takes."""
    if not isinstance(attack, MultiTargeted | Behind):
        return attack
    return replace(attack, targets=min(attack.targets, classes - 1))
