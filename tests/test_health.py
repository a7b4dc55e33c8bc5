import pytest
import torch

from bpfc.training.health import collapse

LABELS = torch.arange(10).repeat(50)
"""Chance is 10 %; below 16 % is no more than chance."""


def log(*accuracies: float, last_validation: float = 0.9) -> list[dict[str, float]]:
    rows = [{"train_accuracy": accuracy, "validation_accuracy": 0.9} for accuracy in accuracies]
    rows[-1]["validation_accuracy"] = last_validation
    return rows


@pytest.mark.parametrize("healthy", [log(0.1), log(0.1, 0.1), log(0.1, 0.3), log(0.1, 0.1, 0.2), log(0.9, 0.5)])
def test_learning_is_left_alone(healthy: list[dict[str, float]]) -> None:
    assert collapse(healthy, LABELS, epochs=9, steps=100) is None


def test_back_at_chance_is_a_collapse() -> None:
    told = collapse(log(0.1, 0.84, 0.11), LABELS, epochs=9, steps=100)
    assert told == "the network has collapsed to constant logits: accuracy 11.0%, after 84.0% before"


def test_never_above_chance_by_a_third_of_the_run() -> None:
    told = collapse(log(0.1, 0.1, 0.11), LABELS, epochs=9, steps=100)
    assert told == "the network does not learn: 11.0% after 3 of 9 epochs is no more than chance"
    assert collapse(log(0.1, 0.1, 0.11), LABELS, epochs=9, steps=10) is None  # 30 steps say nothing


def test_in_the_last_epoch_validation_counts() -> None:
    assert collapse(log(0.9, 0.8, last_validation=0.1), LABELS, epochs=3, steps=100) is None
    assert collapse(log(0.9, 0.8, last_validation=0.1), LABELS, epochs=2, steps=100) is not None


def test_chance_is_the_commonest_class() -> None:
    labels = torch.tensor([0] * 80 + [1] * 20)
    assert collapse(log(0.5, 0.81), labels, epochs=3, steps=100) is not None
    assert collapse(log(0.5, 0.99), labels, epochs=3, steps=100) is None
