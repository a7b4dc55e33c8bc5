"""Attack a network and judge it: a model, images and a plan in, rows out."""

from bpfc.evaluation.api import Evaluation, evaluate
from bpfc.evaluation.checks import check
from bpfc.evaluation.engine import Block, blocks, run_block, run_transfer_block, transferred
from bpfc.evaluation.names import SHOWN, SUITES, Context, parse
from bpfc.evaluation.plan import Plan, PlannedAttack, ThreatModel
from bpfc.evaluation.subject import Subject, from_factory, from_run

__all__ = [
    "SHOWN",
    "SUITES",
    "Block",
    "Context",
    "Evaluation",
    "Plan",
    "PlannedAttack",
    "Subject",
    "ThreatModel",
    "blocks",
    "check",
    "evaluate",
    "from_factory",
    "from_run",
    "parse",
    "run_block",
    "run_transfer_block",
    "transferred",
]
