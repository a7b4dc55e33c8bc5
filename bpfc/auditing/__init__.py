"""Is this robustness real? Checks for masked gradients, the attacks that settle what they flag, and a verdict."""

from bpfc.auditing.api import Audit, audit
from bpfc.auditing.budget import FULL, QUICK, Budget
from bpfc.auditing.finding import Check, Finding
from bpfc.auditing.measurements import Measurements

__all__ = ["FULL", "QUICK", "Audit", "Budget", "Check", "Finding", "Measurements", "audit"]
