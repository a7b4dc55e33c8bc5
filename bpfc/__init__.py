"""Robust image classifiers without training on adversarial examples, and robustness figures to trust."""

from importlib.metadata import version

from bpfc.attacks import FGSM, IFGSM, PGD, ImageRng
from bpfc.bitplanes import bit_planes, quantize
from bpfc.evaluation import Evaluation, evaluate
from bpfc.methods import BPFC, MethodOutput, Normal
from bpfc.wrappers import BPDA, EOT

__version__ = version("bpfc")

__all__ = [
    "BPDA",
    "BPFC",
    "EOT",
    "FGSM",
    "IFGSM",
    "PGD",
    "Evaluation",
    "ImageRng",
    "MethodOutput",
    "Normal",
    "__version__",
    "bit_planes",
    "evaluate",
    "quantize",
]
