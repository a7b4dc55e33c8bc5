"""Attacks: one file each, a frozen dataclass that turns images into perturbed images."""

from bpfc.attacks.adaptive import Adaptive
from bpfc.attacks.aimed import aimed
from bpfc.attacks.apgd import APGD
from bpfc.attacks.apgd_narrowing import NarrowingAPGD
from bpfc.attacks.apgd_targeted import TargetedAPGD
from bpfc.attacks.autoattack import AutoAttackPart
from bpfc.attacks.autoattack_behind import AutoAttackBehind
from bpfc.attacks.balls import Ball, Box, L2Ball, LinfBall, ball
from bpfc.attacks.base import Attack, BatchRng, ImageRng, Norm, Rng, Watch
from bpfc.attacks.behind import Behind
from bpfc.attacks.carlini_wagner import CarliniWagner
from bpfc.attacks.deepfool import DeepFool
from bpfc.attacks.fgsm import FGSM
from bpfc.attacks.ifgsm import IFGSM
from bpfc.attacks.multi_targeted import MultiTargeted
from bpfc.attacks.noise import Noise
from bpfc.attacks.outside_in import OutsideIn
from bpfc.attacks.pgd import PGD
from bpfc.attacks.rfgsm import RFGSM
from bpfc.attacks.spsa import SPSA
from bpfc.attacks.square import Square

__all__ = [
    "APGD",
    "FGSM",
    "IFGSM",
    "PGD",
    "RFGSM",
    "SPSA",
    "Adaptive",
    "Attack",
    "AutoAttackBehind",
    "AutoAttackPart",
    "Ball",
    "BatchRng",
    "Behind",
    "Box",
    "CarliniWagner",
    "DeepFool",
    "ImageRng",
    "L2Ball",
    "LinfBall",
    "MultiTargeted",
    "NarrowingAPGD",
    "Noise",
    "Norm",
    "OutsideIn",
    "Rng",
    "Square",
    "TargetedAPGD",
    "Watch",
    "aimed",
    "ball",
]
