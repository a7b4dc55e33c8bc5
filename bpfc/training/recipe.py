"""One training, complete: its settings and its method."""

from dataclasses import dataclass

from bpfc.methods import AnyMethod, Method
from bpfc.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """With the code and the data it determines the weights."""

    method: AnyMethod
    """Training method and its settings."""

    def method_at(self, position: float) -> Method:
        """The method after `position` epochs (a fraction counts), with the λ of its schedule."""
        return self.method.weighted(self.weight_schedule.at(position, self.epochs))
