"""The demo's figure: digits, their bit planes and quantised versions, adversarial versions, accuracies."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from bpfc.files import write_file

if TYPE_CHECKING:
    from bpfc.cli.demo import Exhibit

NAMES = {"normal": "normal training", "bpfc": "BPFC"}
COLOURS = {"normal": "#9aa5b1", "bpfc": "#1f5fa8"}
PLANES_SHOWN = (7, 6, 5, 4, 0)


def draw_demo(path: Path, exhibits: "list[Exhibit]", accuracy: dict[str, dict[str, float]]) -> None:
    """Writes the figure as PNG: a row a digit, and the accuracies as bars below.

    Args:
        path: of the file to write.
        exhibits: what to show of each digit.
        accuracy: by attack, then by network ("normal", "bpfc"), shares.
    """
    columns = 2 + len(PLANES_SHOWN) + len(NAMES)
    figure = Figure(figsize=(1.25 * columns, 1.25 * len(exhibits) + 3.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.25 * len(exhibits) + 0.5, 2.9])  # type: ignore[misc]
    grid = top.subplots(len(exhibits), columns, squeeze=False)
    for i, (row, exhibit) in enumerate(zip(grid, exhibits, strict=True)):
        shown = [(exhibit.image, "image", f"{exhibit.label}", "black")]
        shown += [(exhibit.planes[plane], f"bit plane {plane}", "", "black") for plane in PLANES_SHOWN]
        shown += [(exhibit.quantised, "quantised", "", "black")]
        for name, (image, guess) in exhibit.adversarial.items():
            wrong = guess != exhibit.label
            told = f"read as {guess}"
            shown += [(image, f"PGD on\n{NAMES[name]}", told, "#c0282d" if wrong else "#1c7c3c")]
        for axes, (image, title, caption, colour) in zip(row, shown, strict=True):
            axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(caption, color=colour, fontsize=9)
            if i == 0:
                axes.set_title(title, fontsize=9)
    bars = bottom.subplots()
    width = 0.38
    for i, name in enumerate(NAMES):
        heights = [100 * row[name] for row in accuracy.values()]
        places = [x + (i - 0.5) * width for x in range(len(accuracy))]
        drawn = bars.bar(places, heights, width, label=NAMES[name], color=COLOURS[name])
        bars.bar_label(drawn, fmt="%.1f", fontsize=9)
    bars.set_xticks(
        range(len(accuracy)), [name.upper() if "-" in name or name == "fgsm" else name for name in accuracy]
    )
    bars.set_ylim(0, 112)
    bars.set_ylabel("accuracy, %")
    bars.legend(frameon=False, loc="upper right")
    bars.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, dpi=130, format="png")
    write_file(path, content.getvalue())
