"""The settings of the recipes beyond the paper, as a table made of the recipes themselves."""

from bpfc.methods import AnyMethod
from bpfc.report import short
from bpfc.report.figures import Results
from bpfc.report.markdown import table
from bpfc.training.own_recipes import BEST
from bpfc.training.recipes import RECIPES

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
        for name in (f"{data}-{each}" for each in (*short.RECIPES, "best")):
            recipe = RECIPES[name][1]
            behind = RECIPES.get(f"{name}-curve", RECIPES[name])[1].network
            training = f"{recipe.optimizer}, {recipe.lr:g}, {recipe.batch_size}"
            averaged = "–" if recipe.averaging is None else f"{recipe.averaging:g}"
            rows.append([f"`{name}`", _settings(recipe.method), training, averaged, f"{recipe.epochs}", f"`{behind}`"])
    header = ["recipe", "settings", "optimizer, peak rate, batch", "averaging", "epochs", "network of `…-curve`"]
    return table(header, rows, words=True)


def _settings(method: AnyMethod) -> str:
    told = [f"{symbol} {getattr(method, field):g}" for field, symbol in SYMBOLS[method.name].items()]
    if getattr(method, "blocks", (1,)) != (1,):
        told.append("blocks")
    return ", ".join(told) or "–"
