"""One training, complete: its settings and its method."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from bpfc.methods import METHODS, AnyMethod, Method
from bpfc.options import Arithmetic
from bpfc.training.settings import Schedule, Settings

RENAMED = {"attack_step": "step_size", "step": "step_size"}
"""Settings of recipes and methods by the names that earlier versions wrote."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """With the code and the data it determines the weights."""

    method: AnyMethod
    """Training method and its settings."""

    def method_at(self, position: float) -> Method:
        """The method after `position` epochs (a fraction counts), with the λ of its schedule."""
        return self.method.weighted(self.weight_schedule.at(position, self.epochs))


def recipe_json(recipe: Recipe, precision: Arithmetic | None) -> dict[str, Any]:
    """The recipe and the arithmetic that it was followed in, as JSON gives them back."""
    content = {**asdict(recipe), "method": {"name": recipe.method.name, **asdict(recipe.method)}}
    return json.loads(json.dumps({**content, "precision": precision}))


def recipe_from(content: dict[str, Any]) -> Recipe:
    """The recipe in `recipe_json`'s content, or in an earlier version's.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none of this version's.
    """
    values = {RENAMED.get(name, name): value for name, value in content.items()}
    known = {"precision", *(item.name for item in fields(Recipe))}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"an unknown setting {unknown[0]!r}")
    values.pop("precision", None)
    settings = {RENAMED.get(name, name): value for name, value in values["method"].items()}
    method = METHODS[settings.pop("name")]
    lists = {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}
    values["method"] = method(**(settings | lists))
    for name in ("lr_schedule", "weight_schedule"):
        values[name] = Schedule(**{**values[name], "milestones": tuple(values[name]["milestones"])})
    return Recipe(**values)
