"""Robust image classifiers without training on adversarial examples, and robustness figures to trust."""

import importlib
import importlib.util
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bpfc.attacks import FGSM, IFGSM, PGD, ImageRng
    from bpfc.auditing import Audit, audit
    from bpfc.bitplanes import bit_planes, quantize
    from bpfc.certification import Certification, certify
    from bpfc.evaluation.api import Evaluation, evaluate
    from bpfc.methods import BPFC, MethodOutput, Normal
    from bpfc.wrappers import BPDA, EOT, Logits

__version__ = version("bpfc")

__all__ = [
    "BPDA",
    "BPFC",
    "EOT",
    "FGSM",
    "IFGSM",
    "PGD",
    "Audit",
    "Certification",
    "Evaluation",
    "ImageRng",
    "Logits",
    "MethodOutput",
    "Normal",
    "__version__",
    "audit",
    "bit_planes",
    "certify",
    "evaluate",
    "quantize",
]

ROOMS = {
    "bpfc.attacks": ("FGSM", "IFGSM", "PGD", "ImageRng"),
    "bpfc.auditing": ("Audit", "audit"),
    "bpfc.bitplanes": ("bit_planes", "quantize"),
    "bpfc.certification": ("Certification", "certify"),
    "bpfc.evaluation.api": ("Evaluation", "evaluate"),
    "bpfc.methods": ("BPFC", "MethodOutput", "Normal"),
    "bpfc.wrappers": ("BPDA", "EOT", "Logits"),
}


def __getattr__(name: str) -> Any:
    """A name above from its room, or a room, as `bpfc.attacks`.

    Only when it is asked for, because the rooms import torch, and help texts do not.
    """
    for room, names in ROOMS.items():
        if name in names:
            return getattr(importlib.import_module(room), name)
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'bpfc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
