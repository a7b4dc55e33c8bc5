"""What was tried towards the goals: every training here that saw no adversarial example, and how far it came."""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bpfc.methods.classes import standing
from bpfc.report.both_sides import spread
from bpfc.report.captions import captioned, check_same
from bpfc.report.figures import Results, signed
from bpfc.report.goals import GOALS
from bpfc.report.trade_off import EARLIER, FEWEST, lowest, suite
from bpfc.training.run import Run

LENGTH = re.compile(r"(-half)?(-\d+-epochs)?$")
"""How a folder's name ends that tells width and epochs."""
BASELINES = ("normal", "mixup")
"""Methods that are no try, unless behind a tone curve."""


class Try(NamedTuple):
    """A recipe by one evaluation of its seeds.

    Attributes:
        name: the folder of the first training, without what stands in the other columns.
        width: of the network, half or full.
        summaries: of the evaluation, one a seed that has it.
    """

    name: str
    number: int
    width: str
    epochs: int
    summaries: list[dict[str, Any]]

    @property
    def shares(self) -> list[list[float]]:
        """Over the seeds what is clean, what stands, and what is certified, the last perhaps of none."""
        return [
            [summary["clean"]["accuracy"] for summary in self.summaries],
            [lowest(summary)[0] for summary in self.summaries],
            [summary["between"]["certified"] for summary in self.summaries if "between" in summary],
        ]


def tried(results: Results, data: str) -> str:
    """A row a recipe, in %, by what stands: from each goal how far, clean and under attack and certified.

    Raises:
        ValueError: the evaluations are of different ε.
    """
    every = sorted(_tries(results, data), key=lambda each: -statistics.fmean(each.shares[1]))
    check_same({each.name: each.summaries[0] for each in every}, "data", "eps")
    goals = [[share for share in goal if share is not None] for goal in GOALS[data]]
    columns = ["class", "width", "epochs", "clean", "stands", "under", "images", "certified"]
    header = ["", *columns, *(f"from {' / '.join(f'{100 * share:g}' for share in goal)}" for goal in goals)]
    rows = []
    for each in every:
        clean, stands, certified = each.shares
        first = each.summaries[0]
        training = [f"{each.number}", each.width, f"{each.epochs}"]
        proven = spread(certified) if certified else "–"
        judged = [spread(clean), spread(stands), lowest(first)[1], f"{first['images']:,}", proven]
        rows.append([f"`{each.name}`", *training, *judged, *(_apart(each.shares, goal) for goal in goals)])
    seeds = sorted({len(each.summaries) for each in every} - {1})
    over = f"; ± is the standard deviation over {' or '.join(map(str, seeds))} seeds" if seeds else ""
    told = (
        f"Accuracy in %{over}. A row is of the folder in `results/` that begins with `{data}-` and its name, and "
        "perhaps ends with width and epochs. It is of AutoAttack or of `fast` where one of them was run, else of the "
        "strongest attack that was, on as many test images as it was run on. An earlier `fast` had "
        f"{' or '.join(f'`{each}`' for each in EARLIER)} in place of `apgd-narrowing-100` and `outside-in-60`. "
        "The last columns: above the goal, or below it, in points; "
        f"clean / stands{' / certified' if any(len(goal) > 2 for goal in goals) else ''}."
    )
    return captioned(header, rows, told)


def _tries(results: Results, data: str) -> Iterator[Try]:
    families: dict[str, list[str]] = {}
    for path in sorted(results.folder.glob("*/recipe.json")):
        families.setdefault(re.sub(r"-seed\d+$", "", path.parent.name), []).append(path.parent.name)
    for name, runs in families.items():
        recipe = Run(results.folder / runs[0]).recipe()
        number, _ = standing(recipe.method)
        is_baseline = results.method(runs[0]) in BASELINES and "@" not in recipe.network
        if recipe.data != data or number > 1 or is_baseline:
            continue
        if found := _evaluation(results, runs):
            width = "half" if "-half" in recipe.network else "full"
            yield Try(LENGTH.sub("", name.removeprefix(f"{data}-")), number, width, recipe.epochs, found)


def _evaluation(results: Results, runs: Sequence[str]) -> list[dict[str, Any]]:
    """What says most, of the seeds that have it: a whole suite, of most seeds, of most images, the lowest.

    So a seed that was attacked by less than the first takes nothing from what is known of that.
    """
    each = [_judged(results, run) for run in runs]
    every = [[found[name] for found in each if name in found] for name in sorted(set().union(*each))]
    return max(every, key=_worth, default=[])


def _judged(results: Results, run: str) -> Mapping[str, dict[str, Any]]:
    names = [path.parent.name for path in results.folder.glob(f"{run}/evaluation*/summary.json")]
    found = {name: results.summary(f"{run}/{name}") for name in names}
    return {name: summary for name, summary in found.items() if summary["images"] >= FEWEST}


def _worth(summaries: Sequence[dict[str, Any]]) -> tuple[bool, int, int, float]:
    first = summaries[0]
    return suite(first["attacks"]) is not None, len(summaries), first["images"], -lowest(first)[0]


def _apart(shares: Sequence[Sequence[float]], goal: Sequence[float]) -> str:
    """From what is asked to what is shown, of as many coordinates as the goal has; "–" for what is not there."""
    told = []
    for share, least in zip(shares, goal, strict=False):
        apart = round(100 * statistics.fmean(share), 1) - 100 * least if share else None
        told.append("–" if apart is None else signed(apart))
    return " / ".join(told)
