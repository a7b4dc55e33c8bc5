"""Training methods: one file each, each a loss over (model, images, labels)."""

from bpfc.methods.base import Method, MethodOutput
from bpfc.methods.bpfc import BPFC
from bpfc.methods.normal import Normal

METHODS: dict[str, type[Method]] = {method.name: method for method in (Normal, BPFC)}

__all__ = ["BPFC", "METHODS", "Method", "MethodOutput", "Normal"]
