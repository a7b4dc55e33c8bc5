"""Which methods train on adversarial examples, and how nearly: a class for each, and what a step costs."""

from typing import NamedTuple

from bpfc.methods.adversarial import FGSMAT, PGDAT, RFGSMAT
from bpfc.methods.base import Method
from bpfc.methods.box import BoxConsistency
from bpfc.methods.bpfc import BPFC
from bpfc.methods.bpfc_ibp import BPFCIBP
from bpfc.methods.ibp import IBP
from bpfc.methods.margin import Margin
from bpfc.methods.mixup import ManifoldMixup, Mixup
from bpfc.methods.normal import Normal
from bpfc.methods.rss_at import RSSAT
from bpfc.methods.trades import TRADES

MEANINGS = (
    "no gradient of the input",
    "the input's gradient is penalised, at a natural, quantised or random image",
    "a probe along it of at most ε/10",
    "a probe of ε's size inside a regulariser",
    "inner maximisation, not of the label's loss",
    "the label's loss, or consistency, on adversarial images",
)
"""What each class does with the input's gradient while training; class 0 and up."""


class Standing(NamedTuple):
    """Where a method stands.

    Attributes:
        number: of its class in MEANINGS.
        cost: of a step, in forwards with their backward; a normal step is 1.
    """

    number: int
    cost: int


STANDINGS: dict[str, Standing] = {
    Normal.name: Standing(0, 1),
    Mixup.name: Standing(0, 1),
    ManifoldMixup.name: Standing(0, 1),
    BPFC.name: Standing(0, 2),
    BoxConsistency.name: Standing(0, 2),
    IBP.name: Standing(0, 3),
    BPFCIBP.name: Standing(0, 4),
    Margin.name: Standing(1, 4),
    FGSMAT.name: Standing(5, 2),
    RFGSMAT.name: Standing(5, 2),
    RSSAT.name: Standing(5, 4),
    PGDAT.name: Standing(5, 41),
    TRADES.name: Standing(5, 42),
}
"""By the method's name. PGD-AT and TRADES at 40 steps; `standing` counts those of a given method."""


def standing(method: Method) -> Standing:
    """The class of a method and the cost of its step, with the steps of its inner attack as they are set."""
    found = STANDINGS[method.name]
    if isinstance(method, PGDAT):
        return found._replace(cost=method.steps + 1)
    if isinstance(method, TRADES):
        return found._replace(cost=method.steps + 2)
    return found
