"""How much an audit spends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """How much an audit spends.

    Attributes:
        images: how many, unless more or fewer are asked for.
        steps: of the long PGD; the short ones take a fifth, the settling ones two fifths.
        restarts: few and many, of the check of restarts.
        queries: of Square.
        draws: of random points, and as many corners.
        scales: of the logits.
        imitations: how many images the twin sees, in thousands.
        samples: of a random model's answers, growing; the last also says of how many the mean is judged.
    """

    images: int
    steps: int
    restarts: tuple[int, int]
    queries: int
    draws: int
    scales: tuple[float, ...]
    imitations: int
    samples: tuple[int, ...] = (4, 16)


QUICK = Budget(200, 100, (2, 6), 1000, 20, (1e-3, 1e-1, 10.0), 6)
FULL = Budget(1000, 200, (10, 50), 5000, 100, (1e-3, 1e-2, 1e-1, 10.0, 100.0, 1000.0), 60, (4, 16, 64))
