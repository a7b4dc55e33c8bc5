"""How much of the paper's experiments is done. Without torch, so that help texts come at once."""

from dataclasses import dataclass
from typing import Literal

BudgetName = Literal["quick", "cpu", "paper"]
ExperimentName = Literal["table1", "table2", "table3", "ablations", "restarts", "cost"]


@dataclass(frozen=True)
class Budget:
    """How much of an experiment is done.

    Attributes:
        told: what it is, for the caption.
        epochs: share of the recipe's.
        training: images; None for all.
        validated: held-out images that are attacked after each epoch, at most.
        images: test images that are attacked; None for all.
        steps: of PGD where the paper has 1,000.
        restarts: of PGD where the paper has 100.
    """

    told: str
    epochs: float
    training: int | None
    validated: int
    images: int | None
    steps: int
    restarts: int


BUDGETS: dict[BudgetName, Budget] = {
    "quick": Budget("a fifth of the paper's epochs on 5,000 images", 0.2, 5_000, 100, 200, 20, 2),
    "cpu": Budget("a fifth of the paper's epochs", 0.2, None, 300, 1_000, 100, 10),
    "paper": Budget("the paper's schedule", 1.0, None, 1_000, None, 1_000, 100),
}
