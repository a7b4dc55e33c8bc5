"""The settings of the recipes beyond the paper, as a table made of the recipes themselves."""

from bpfc.methods import AnyMethod
from bpfc.report.figures import Results
from bpfc.report.markdown import table
from bpfc.training.own_recipes import BEST
from bpfc.training.recipes import RECIPES

NAMES = ("normal-fast", "bpfc-fast", "bpfc-blocks", "box", "margin", "margin-coarse", "ibp", "bpfc-ibp", "best")
"""Recipes by their names without the data set's in front; each but the best also has one with -curve behind."""
SYMBOLS = {
    "normal": {},
    "bpfc": {"k": "k", "weight": "λ"},
    "box-consistency": {"weight": "λ"},
    "margin": {"k": "k", "weight": "λ", "strength": "ρ"},
    "ibp": {"weight": "κ"},
    "bpfc-ibp": {"k": "k", "weight": "λ", "share": "κ"},
}
"""By method, what formulas call its settings."""


def own(_: Results) -> str:
    """A row a recipe: what its method, its training and its tone curve are set to."""
    rows = []
    for data in BEST:
        for name in (f"{data}-{each}" for each in NAMES):
            recipe = RECIPES[name][1]
            behind = RECIPES.get(f"{name}-curve", RECIPES[name])[1].network
            training = f"{recipe.optimizer}, {recipe.lr:g}, {recipe.batch_size}"
            rows.append([f"`{name}`", _settings(recipe.method), training, f"{recipe.epochs}", f"`{behind}`"])
    made = table(["recipe", "settings", "optimizer, peak rate, batch", "epochs", "network, with its curve"], rows)
    return made.replace("--:", "---")  # words, not numbers


def _settings(method: AnyMethod) -> str:
    return ", ".join(f"{symbol} {getattr(method, field):g}" for field, symbol in SYMBOLS[method.name].items()) or "–"
