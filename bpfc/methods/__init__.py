"""Training methods: each a loss over (model, images, labels)."""

from typing import get_args

from bpfc.methods.adversarial import FGSMAT, PGDAT, RFGSMAT
from bpfc.methods.base import Method, MethodOutput
from bpfc.methods.box import BoxConsistency
from bpfc.methods.bpfc import BPFC
from bpfc.methods.bpfc_ibp import BPFCIBP
from bpfc.methods.ibp import IBP
from bpfc.methods.margin import Margin
from bpfc.methods.mixup import ManifoldMixup, Mixup
from bpfc.methods.normal import Normal
from bpfc.methods.rss_at import RSSAT
from bpfc.methods.trades import TRADES

AnyMethod = (
    Normal
    | BPFC
    | BoxConsistency
    | Margin
    | IBP
    | BPFCIBP
    | Mixup
    | ManifoldMixup
    | FGSMAT
    | RFGSMAT
    | RSSAT
    | PGDAT
    | TRADES
)

METHODS: dict[str, type[AnyMethod]] = {method.name: method for method in get_args(AnyMethod)}

__all__ = [
    "BPFC",
    "BPFCIBP",
    "FGSMAT",
    "IBP",
    "METHODS",
    "PGDAT",
    "RFGSMAT",
    "RSSAT",
    "TRADES",
    "AnyMethod",
    "BoxConsistency",
    "ManifoldMixup",
    "Margin",
    "Method",
    "MethodOutput",
    "Mixup",
    "Normal",
]
