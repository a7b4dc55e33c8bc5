"""What decides a row, but the network and the image: which attacks, within which ball, from which random starts."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bpfc.attacks import SPSA, Attack, AutoAttackBehind, Ball, Behind, Noise, Norm, Square, ball
from bpfc.attacks.base import check_count, check_radius
from bpfc.attacks.made import Made
from bpfc.options import Arithmetic

SHOWN_NORMS: dict[Norm, str] = {"linf": "ℓ∞", "l2": "ℓ2"}
"""For people."""


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may do: move an image by at most ε, within the box [0, 1].

    Attributes:
        norm: in which the move is measured.
        eps: ε, in units of [0, 1], such as 8/255.

    Raises:
        ValueError: ε is not above 0, or in ℓ∞ above 1.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps)

    def __str__(self) -> str:
        return f"{SHOWN_NORMS[self.norm]} ε {self.eps:.4g}"

    @property
    def ball(self) -> Ball:
        """Which perturbations count."""
        return ball(self.norm, self.eps)


@dataclass(frozen=True)
class PlannedAttack:
    """An attack as an evaluation runs it.

    Attributes:
        name: as it was asked for; in the ledger and the tables.
        attack: with its hyper-parameters.
        restarts: how many random starts, each on what the earlier ones left.
        any_iterate: every iterate is judged, and broken images leave; else the last one alone, with nobody dropped.
    """

    name: str
    attack: Attack
    restarts: int = 1
    any_iterate: bool = True

    def __post_init__(self) -> None:
        if self.restarts < 1:
            raise ValueError(f"attack {self.name!r}: restarts must be 1 or more")

    @property
    def by_gradients(self) -> bool:
        """Whether the attack differentiates the model."""
        kind = self.attack
        return not (isinstance(kind, Made | Noise | SPSA | Square) or getattr(kind, "part", None) == "square")

    @property
    def minimum_norm(self) -> Norm | None:
        """For an attack without a radius, the norm in which it looks for the nearest misclassified image."""
        return self.attack.norm if self.attack.eps is None else None


@dataclass(frozen=True)
class Plan:
    """An evaluation of any network on any images.

    Attributes:
        attacks: in the order in which they run.
        threat: the one threat model of them all.
        cascade: each attack runs only on what those before it left.
        seed: of the random starts.
        precision: of attacks by gradients; verdicts, and attacks without gradients, are in float32 always.
        batch_size: images at a time; bounds the memory.

    Raises:
        ValueError: an attack was made for another threat model, a name stands there twice, or a number makes no sense.
    """

    attacks: tuple[PlannedAttack, ...]
    threat: ThreatModel
    cascade: bool = False
    seed: int = 0
    precision: Arithmetic = "fp32"
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_count(batch_size=self.batch_size)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed={self.seed!r}: must be a whole number from 0 to 2⁶⁴ − 1")
        for name, count in Counter(self.names).items():
            if count > 1:
                raise ValueError(f"attack {name!r} is named twice; name each once")
        for item in self.attacks:
            if item.attack.eps is None:
                continue
            own = ThreatModel(item.attack.norm, item.attack.eps)
            if own != self.threat:
                raise ValueError(
                    f"attack {item.name!r}: made for {own}, but the plan's threat model is {self.threat}; "
                    "plan all attacks from one threat model"
                )

    @property
    def names(self) -> list[str]:
        return [item.name for item in self.attacks]

    def precision_of(self, item: PlannedAttack) -> Arithmetic:
        """What an attack computes in. Without gradients it goes by small gains of the margin, which rounding hides."""
        return self.precision if item.by_gradients else "fp32"

    @property
    def by_gradients(self) -> bool:
        """Whether any attack differentiates the model."""
        return any(item.by_gradients for item in self.attacks)

    @property
    def past_curve(self) -> bool:
        """Whether any attack differentiates what stands behind a tone curve, which may hide it from those in x."""
        return any(item.by_gradients and isinstance(item.attack, Behind | AutoAttackBehind) for item in self.attacks)

    @property
    def minimum_norm(self) -> dict[str, Norm]:
        """The attacks that look for the nearest misclassified image, and in which norm."""
        return {item.name: item.minimum_norm for item in self.attacks if item.minimum_norm is not None}

    def header(self) -> dict[str, Any]:
        """What a ledger says of the plan, ready for JSON: all that decides a row.

        The batch size is not there: verdicts do not depend on it, so that an evaluation may go on with another.
        """
        header = {
            "plan": self.names,
            "attack_settings": {item.name: repr(item.attack) for item in self.attacks},
            "norm": self.threat.norm,
            "eps": self.threat.eps,
            "cascade": self.cascade,
            "seed": self.seed,
            "precision": self.precision,
        }
        # Earlier versions took shorter steps where the gradient is very short: their rows are not gone on with.
        return header | {"l2_steps": "full"} if self.threat.norm == "l2" else header
