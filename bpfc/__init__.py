"""Robust image classifiers without training on adversarial examples, and robustness figures to trust."""

from bpfc.attacks import FGSM, IFGSM, PGD, ImageRng
from bpfc.bitplanes import bit_planes, quantize
from bpfc.certification import Certification, certify
from bpfc.evaluation import Evaluation, evaluate
from bpfc.methods import BPFC, MethodOutput, Normal
from bpfc.wrappers import BPDA, EOT

__all__ = [
    "BPDA",
    "BPFC",
    "EOT",
    "FGSM",
    "IFGSM",
    "PGD",
    "Certification",
    "Evaluation",
    "ImageRng",
    "MethodOutput",
    "Normal",
    "bit_planes",
    "certify",
    "evaluate",
    "quantize",
]
