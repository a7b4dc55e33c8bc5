"""Tables of how trainings end over seeds, threads and ways of rounding."""

import re

from bpfc.files import read_jsonl
from bpfc.report.captions import captioned, shown_sources
from bpfc.report.figures import Results, percent


def stability(results: Results) -> str:
    """The demo's trainings over seeds, threads and ways of rounding: minimum, median and maximum."""
    if not results.has("stability"):
        return "Not run."
    summary = results.summary("stability")
    header = ["", "runs", "diverged", "collapsed", "normal: clean", "PGD-100", "BPFC: clean", "PGD-100"]
    rows = []
    for setting in summary["settings"]:
        spans = [
            " / ".join(map(percent, setting[what].get(network, [])))
            for network in ("normal", "bpfc")
            for what in ("clean", "pgd_100")
        ]
        rows.append([setting["name"], *(f"{setting[name]}" for name in ("runs", "diverged", "collapsed")), *spans])
    return captioned(header, rows, f"Minimum / median / maximum over the runs, in %. {shown_sources(['stability'])}")


def paper_recipes(results: Results) -> str:
    """The first epochs of the paper's own recipes, a row a training."""
    rows = []
    found = read_jsonl(results.folder / "stability" / "paper.jsonl")
    for row in sorted(found, key=lambda row: (row["recipe"], row["seed"])):
        losses, accuracies = row["loss"], row["train_accuracy"]
        ended = [percent(accuracies[0]), percent(min(accuracies[1:])), percent(accuracies[-1])]
        loss = [f"{losses[0]:.3f}", f"{max(losses[1:]):.3f}", f"{losses[-1]:.3f}"]
        fate = _fate(row["failed"])
        cells = [
            " / ".join(loss),
            " / ".join(ended),
            f"{row['precision']}, {row['hardware']['device'].replace('(R)', '')}",
        ]
        rows.append([f"`{row['recipe']}`", f"{row['seed']}", f"{len(losses)}", fate, *cells])
    told = ""
    for recipe in dict.fromkeys(row["recipe"] for row in found):
        failed = [row["failed"] is not None for row in found if row["recipe"] == recipe]
        told += f"Of {len(failed)} trainings of `{recipe}`, {sum(failed)} diverged or collapsed. "
    told += (
        "Loss: first epoch / largest after it / last. Training accuracy in %: first epoch / smallest after it / last. "
        "From `results/stability/paper.jsonl`."
    )
    return captioned(
        ["recipe", "seed", "epochs", "diverged or collapsed", "loss", "accuracy", "arithmetic"], rows, told
    )


def _fate(failed: str | None) -> str:
    """In a word or two, from the message that a training ended with."""
    if failed is None:
        return "neither"
    word = "diverged" if "finite" in failed else "collapsed"
    epoch = re.search(r"epoch (\d+)", failed)
    return f"{word} in epoch {epoch[1]}" if epoch else word
