"""Robust image classifiers without training on adversarial examples, and robustness figures to trust."""

from bpfc.bitplanes import bit_planes, quantize
from bpfc.methods import BPFC

__all__ = ["BPFC", "bit_planes", "quantize"]
