"""What people hand to an audit: models and labels of every sort, and each gets the verdict that it deserves."""

from dataclasses import replace

import pytest
import torch
from test_auditing import EPS, TINY
from torch import Tensor, nn

import bpfc
from bpfc.auditing import audit


@pytest.fixture(scope="module")
def few(shown: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return shown[0][:20], shown[1][:20]


BRIEF = replace(TINY, images=20)


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_labels_are_integers_of_any_size(kind: torch.dtype, trained: nn.Module, few: tuple[Tensor, Tensor]) -> None:
    images, labels = few
    found = audit(trained, images, labels.to(kind), eps=EPS, budget=BRIEF)
    assert found == audit(trained, images, labels, eps=EPS, budget=BRIEF)
    proofs = bpfc.certify(trained, images, labels.to(kind), eps=0.001)
    assert proofs.rows == bpfc.certify(trained, images, labels, eps=0.001).rows
