"""Bounds: between which numbers a network's logits lie for every image of a box, proven."""

from bpfc.bounds.crown import crown_margins
from bpfc.bounds.graph import Graph, UntraceableError, trace
from bpfc.bounds.interval import FLOAT32, Bounds, Interval, interval_bounds, interval_margins, propagate, without_label

__all__ = [
    "FLOAT32",
    "Bounds",
    "Graph",
    "Interval",
    "UntraceableError",
    "crown_margins",
    "interval_bounds",
    "interval_margins",
    "propagate",
    "trace",
    "without_label",
]
