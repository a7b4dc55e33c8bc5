"""Attack a network and judge it: a model, images and a plan in, rows out.

What is evaluated when it comes from files, `subject`, is not imported here: `import bpfc` needs no recipes.
"""

from bpfc.checks import check
from bpfc.data import Block, blocks
from bpfc.evaluation.api import Evaluation, evaluate
from bpfc.evaluation.engine import run_block
from bpfc.evaluation.forms import Context
from bpfc.evaluation.names import SUITES, parse
from bpfc.evaluation.plan import Plan, PlannedAttack, ThreatModel

__all__ = [
    "SUITES",
    "Block",
    "Context",
    "Evaluation",
    "Plan",
    "PlannedAttack",
    "ThreatModel",
    "blocks",
    "check",
    "evaluate",
    "parse",
    "run_block",
]
