"""The classes of methods, by what training does with the gradient by the image, as a table."""

from bpfc.methods.classes import MEANINGS, STANDINGS
from bpfc.report.figures import Results
from bpfc.report.markdown import table


def classes(_: Results) -> str:
    """A row a class, with the methods that are here, by their names in recipes."""
    rows = []
    for number, meaning in enumerate(MEANINGS):
        here = [f"`{name}`" for name, standing in STANDINGS.items() if standing.number == number]
        rows.append([f"{number}", meaning, ", ".join(here) or "none"])
    return table(["class", "what training does with the gradient by the image", "methods here"], rows, words=True)
