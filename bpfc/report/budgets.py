"""How much of the paper's experiments is done. Without torch, so that help texts come at once."""

from dataclasses import dataclass
from typing import Literal

BudgetName = Literal["quick", "cpu", "fast", "fast-half", "paper"]
ExperimentName = Literal["table1", "table2", "table3", "ablations", "restarts", "cost"]


@dataclass(frozen=True)
class Budget:
    """How much of an experiment is done.

    Attributes:
        told: what it is, for the caption, which adds the images.
        epochs: share of the recipe's.
        training: images; None for all.
        validated: held-out images that are attacked after each epoch, at most.
        images: test images that are attacked; None for all.
        steps: of PGD where the paper has 1,000.
        restarts: of PGD where the paper has 100.
        recipes: what comes after the names of the paper's recipes, for ours of the same methods; on CIFAR-10 alone.
        network: in place of the recipe's.
    """

    told: str
    epochs: float
    training: int | None
    validated: int
    images: int | None
    steps: int
    restarts: int
    recipes: str = ""
    network: str | None = None


BUDGETS: dict[BudgetName, Budget] = {
    "quick": Budget("a fifth of the paper's epochs", 0.2, 5_000, 100, 200, 20, 2),
    "cpu": Budget("a fifth of the paper's epochs", 0.2, None, 300, 1_000, 100, 10),
    "fast": Budget("our recipes of 15 epochs", 1.0, None, 200, 1_000, 1_000, 10, "-fast"),
    "fast-half": Budget(
        "our recipes of 15 epochs, on a ResNet-18 of half width",
        1.0,
        None,
        200,
        1_000,
        1_000,
        10,
        "-fast",
        "resnet-18-half",
    ),
    "paper": Budget("the paper's schedule", 1.0, None, 1_000, None, 1_000, 100),
}
