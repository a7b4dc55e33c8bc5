"""How far a certificate reaches: for each image the largest ε for which it is found, and from that a curve over ε.

For a network that was not trained for bounds the certificate at a usual ε is empty: each layer multiplies the width of
the intervals by the sum of its weights' absolute values, whether or not one image can make use of all of it. The radius
says from where on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bpfc.certification.engine import check, parse_methods
from bpfc.checks import handed_in
from bpfc.data import to_float
from bpfc.judge import exact_logits
from bpfc.wrappers import with_hooks

SMALLEST = 2.0**-20
"""The smallest ε that is tried, 1e-6: the judge's own slack in ε is as large."""


def certified_radii(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    methods: str = "interval,crown-ibp",
    largest: float = 1.0,
    rounds: int = 10,
) -> Tensor:
    """For each image (N,), float64, an ε in ℓ∞ for which it is certified; 0 where none is found.

    By bisection of log ε between SMALLEST and `largest`, so that the radius is at most a factor of
    (largest / SMALLEST) ^ (1 / 2 ^ rounds) smaller than the largest one that the methods prove, if their bounds grow
    with ε as they mostly do. Each radius is proven whether or not they do.

    Args:
        model, images, labels, methods: as `certify` takes them.
        largest: upper end, in units of [0, 1].
        rounds: how often the methods run, beside twice for the ends.

    Raises:
        ValueError: as `certify` does.
    """
    certifiers = parse_methods(methods)
    model = with_hooks(model)
    check(model, handed_in(images, labels), largest)
    images, labels = to_float(images), labels.long()

    def proven(places: Tensor, eps: Tensor) -> Tensor:
        """Which of the images at `places` are certified, each for its ε."""
        found = torch.zeros(len(places), dtype=torch.bool, device=places.device)
        for certifier in certifiers:
            left = torch.nonzero(~found).flatten()
            if len(left):
                at = places[left]
                found[left] = certifier(model, images[at], labels[at], eps[left]) > 0
        return found

    low = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    high = torch.full_like(low, largest)
    places = torch.nonzero(exact_logits(model, images).argmax(dim=1) == labels).flatten()
    places = places[proven(places, torch.full_like(low[places], SMALLEST))]
    low[places] = SMALLEST
    whole = proven(places, high[places])
    low[places[whole]] = largest
    places = places[~whole]
    for _ in range(rounds):
        middle = (low[places] * high[places]).sqrt()
        found = proven(places, middle)
        low[places[found]] = middle[found]
        high[places[~found]] = middle[~found]
    return low


def certified_shares(radii: Tensor, eps: Sequence[float]) -> list[float]:
    """Share of the images certified at each ε, of `certified_radii`: a certificate at ε is one at any smaller ε."""
    return [float((radii >= each).double().mean()) for each in eps]
