"""Robust image classifiers without training on adversarial examples, and robustness figures to trust."""

from bpfc.attacks import FGSM, IFGSM, PGD, ImageRng
from bpfc.bitplanes import bit_planes, quantize
from bpfc.evaluation import Evaluation, evaluate
from bpfc.methods import BPFC, MethodOutput, Normal

__all__ = [
    "BPFC",
    "FGSM",
    "IFGSM",
    "PGD",
    "Evaluation",
    "ImageRng",
    "MethodOutput",
    "Normal",
    "bit_planes",
    "evaluate",
    "quantize",
]
