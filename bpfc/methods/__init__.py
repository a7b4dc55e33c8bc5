"""Training methods: each a loss over (model, images, labels)."""

from bpfc.methods.adversarial import FGSMAT, PGDAT, RFGSMAT
from bpfc.methods.base import Method, MethodOutput
from bpfc.methods.bpfc import BPFC
from bpfc.methods.mixup import ManifoldMixup, Mixup
from bpfc.methods.normal import Normal
from bpfc.methods.rss_at import RSSAT
from bpfc.methods.trades import TRADES

AnyMethod = Normal | BPFC | Mixup | ManifoldMixup | FGSMAT | RFGSMAT | RSSAT | PGDAT | TRADES

METHODS: dict[str, type[AnyMethod]] = {
    method.name: method for method in (Normal, BPFC, Mixup, ManifoldMixup, FGSMAT, RFGSMAT, RSSAT, PGDAT, TRADES)
}

__all__ = [
    "BPFC",
    "FGSMAT",
    "METHODS",
    "PGDAT",
    "RFGSMAT",
    "RSSAT",
    "TRADES",
    "AnyMethod",
    "ManifoldMixup",
    "Method",
    "MethodOutput",
    "Mixup",
    "Normal",
]
