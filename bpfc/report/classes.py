"""The classes of methods, by what training does with the gradient by the image, as a table."""

from bpfc.methods.classes import MEANINGS, standing
from bpfc.report.figures import Results
from bpfc.report.markdown import table
from bpfc.training.recipes import RECIPES

DATA = "fashion-mnist"
"""It has a recipe of every method."""


def classes(_results: Results) -> str:
    """A row a class, with the methods that are here, as recipes name them behind their data set; variants are left out.

    A variant is a recipe of a method that has one by its own name.
    """
    here: dict[int, list[str]] = {number: [] for number in range(len(MEANINGS))}
    for name, (_text, recipe) in RECIPES.items():
        is_variant = name.endswith("-curve") or f"{DATA}-{recipe.method.name}" in RECIPES.keys() - {name}
        if recipe.data == DATA and not is_variant:
            here[standing(recipe.method).number].append(f"`{name.removeprefix(f'{DATA}-')}`")
    rows = [[f"{number}", MEANINGS[number], ", ".join(found) or "none"] for number, found in here.items()]
    return table(["class", "what training does with the gradient by the image", "methods here"], rows, words=True)
