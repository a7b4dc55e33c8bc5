"""Attacks: one file each, a frozen dataclass that turns images into perturbed images."""

from bpfc.attacks.base import Attack, ImageRng, Watch
from bpfc.attacks.fgsm import FGSM
from bpfc.attacks.ifgsm import IFGSM
from bpfc.attacks.pgd import PGD

__all__ = ["FGSM", "IFGSM", "PGD", "Attack", "ImageRng", "Watch"]
