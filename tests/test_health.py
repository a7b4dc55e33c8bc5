import pytest
import torch

from bpfc.training.health import collapse

LABELS = torch.arange(10).repeat(500)
"""Chance is 10 %. In training, below 13 % is no more than chance; on 500 validation images, below 16 %."""

Log = list[dict[str, float]]


def log(*accuracies: float, validation: float | None = None) -> Log:
    """Rows whose validation accuracy is that in training, but for the last row's where it is given."""
    rows = [{"train_accuracy": accuracy, "validation_accuracy": accuracy} for accuracy in accuracies]
    if validation is not None:
        rows[-1]["validation_accuracy"] = validation
    return rows


def told(rows: Log, epochs: int = 9, validated: int = 500) -> str | None:
    return collapse(rows, LABELS, validated, epochs)


@pytest.mark.parametrize("healthy", [log(0.1), log(0.1, 0.1), log(0.1, 0.3), log(0.1, 0.1, 0.2), log(0.9, 0.5)])
def test_learning_is_left_alone(healthy: Log) -> None:
    assert told(healthy) is None


def test_back_at_chance_is_a_collapse() -> None:
    expected = "the network has collapsed to constant logits: validation accuracy 11.0%, after 84.0% before"
    assert told(log(0.1, 0.84, 0.11)) == expected


def test_never_above_chance_by_a_third_of_the_run() -> None:
    expected = "the network does not learn: 11.0% after 3 of 9 epochs is no more than chance"
    assert told(log(0.1, 0.1, 0.11)) == expected


def test_training_on_adversarial_images_may_stand_below_chance() -> None:
    """While it learns, and when it overfits to one step: the images as they are tell."""
    assert told(log(0.05, 0.1, 0.11, validation=0.97)) is None
    assert told(log(0.3, 0.5, 0.03, validation=0.99)) is None


def test_in_the_last_epoch_validation_decides() -> None:
    assert told(log(0.9, 0.8, validation=0.1), epochs=3) is None
    assert told(log(0.9, 0.8, validation=0.1), epochs=2) is not None


def test_few_validation_images_do_not_stop_a_training_that_learns() -> None:
    assert told(log(0.3, 0.36, 0.4, validation=0.4), validated=20) is None


def test_chance_is_the_commonest_class() -> None:
    labels = torch.tensor([0] * 800 + [1] * 200)
    assert collapse(log(0.5, 0.81), labels, 100, epochs=3) is not None
    assert collapse(log(0.5, 0.99), labels, 100, epochs=3) is None
