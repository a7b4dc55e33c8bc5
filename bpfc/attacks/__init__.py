"""Attacks: one file each, a frozen dataclass that turns images into perturbed images."""

from bpfc.attacks.base import Attack, BatchRng, ImageRng, Rng, Watch
from bpfc.attacks.fgsm import FGSM
from bpfc.attacks.ifgsm import IFGSM
from bpfc.attacks.pgd import PGD
from bpfc.attacks.rfgsm import RFGSM

__all__ = ["FGSM", "IFGSM", "PGD", "RFGSM", "Attack", "BatchRng", "ImageRng", "Rng", "Watch"]
