"""How far our best networks are: beside the paper's BPFC, what is published, and the goals of this project."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bpfc.report.both_sides import over_seeds
from bpfc.report.captions import captioned, shown_images, shown_sources
from bpfc.report.figures import DATA, Results, paper, percent
from bpfc.report.trade_off import PUBLISHED, chosen, lowest


class Goal(NamedTuple):
    """At least these shares of the test images; None where no goal is set."""

    clean: float
    stands: float
    certified: float | None


GOALS: dict[str, tuple[Goal, ...]] = {
    "fashion-mnist": (Goal(0.86, 0.79, None), Goal(0.88, 0.74, None)),
    "mnist": (Goal(0.985, 0.95, 0.93),),
    "cifar-10": (Goal(0.82, 0.42, None),),
}
"""By data set, at the paper's ε and with its networks, under AutoAttack's standard version."""


def goals(results: Results, ours: Mapping[str, Sequence[tuple[str, Sequence[str]]]]) -> str:
    """A part for each data set, in %: the paper's BPFC, what is published, the goals, and ours.

    Args:
        ours: by data set, one or more of an evaluation such as evaluation-fast with the trainings of one recipe, a seed
            each; what is not there is left out.
    """
    rows, sources, counted, theirs = [], list[str](), list[str](), list[str]()
    for data, families in ours.items():
        clean, stands = (paper(data, "bpfc", what) for what in ("clean", "pgd-1000"))
        rows.append([f"{DATA[data]}: the paper's BPFC", "0", clean, stands, "PGD-1000", "–"])
        for row in PUBLISHED[data]:
            shares = ("–" if share is None else percent(share) for share in (row.clean, row.stands, row.certified))
            clean, stands, certified = shares
            rows.append([f"– {row.name} (published)", f"{row.number}", clean, stands, row.under or "–", certified])
            theirs.append(f"{row.name} ({row.source})")
        for goal in GOALS[data]:
            clean, stands, certified = ("–" if share is None else f"≥ {100 * share:g}" for share in goal)
            rows.append(["– goal", "0 or 1", clean, stands, "AutoAttack", certified])
        for evaluation, runs in families:
            found, (clean, stands, certified) = over_seeds(results, evaluation, runs)
            if not found:
                continue
            first = next(iter(found))
            run = first.split("/")[0]
            is_theirs = paper(data, results.method(run), "clean") != "no row"
            name = "trained here as the paper has it" if is_theirs else "ours"
            name = f"– **{name}: {results.label(run)}**"
            rows.append([name, results.class_of(run), clean, stands, lowest(found[first])[1], certified])
            counted.append(f"{DATA[data]}, {shown_images(found[first]).lower()}")
            sources += found
    told = (
        f"Accuracy in %. Ours: {'; '.join(dict.fromkeys(counted)) or 'not run'}. ± is the standard deviation over "
        "seeds; without it, one seed. Published rows count what their papers count, on other networks: "
        f"{'; '.join(theirs)}. {chosen(results, [source.split('/')[0] for source in sources])} {shown_sources(sources)}"
    )
    return captioned(["", "class", "clean", "stands", "under", "certified"], rows, told)
