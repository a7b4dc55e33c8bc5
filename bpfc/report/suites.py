"""Tables of the attack suites: what stands, after which attack, and what it took."""

from collections.abc import Sequence
from typing import Any

from bpfc.report.captions import captioned, check_same, shown_images, shown_machine, shown_seeds, shown_sources
from bpfc.report.figures import PRECISIONS, Results, percent, with_interval

SUITES = ("standard", "worst")


def suites(results: Results, runs: Sequence[str]) -> str:
    """AutoAttack's standard version and `worst`, side by side."""
    rows: list[list[str]] = []
    summaries: dict[str, dict[str, Any]] = {}
    for run in runs:
        found = {suite: results.summary(f"{run}/evaluation-{suite}") for suite in SUITES}
        summaries |= {f"{run}/evaluation-{suite}": summary for suite, summary in found.items()}
        shares = [with_interval(summary["worst_case"]) for summary in found.values()]
        count = f"{len(found['worst']['attacks'])}"
        rows.append([results.label(run), results.class_of(run), with_interval(found["worst"]["clean"]), *shares, count])
    check_same(summaries, "data", "eps", "images")
    first = next(iter(summaries.values()))
    told = f"{shown_images(first)}, ε {first['eps']:g}. {shown_seeds(results, runs)} {shown_sources(list(summaries))}"
    return captioned(["", "class", "clean", "AutoAttack, standard", "`worst`", "attacks in it"], rows, told)


def cascade(results: Results, name: str) -> str:
    """What stands after each attack of a suite, where each attacks what those before it left."""
    summary = results.summary(name)
    images, before = summary["images"], summary["clean"]["accuracy"]
    rows = [["none: clean", percent(before), ""]]
    for attack, share in summary["attacks"].items():
        rows.append([f"`{attack}`", percent(share["accuracy"]), f"{round((before - share['accuracy']) * images)}"])
        before = share["accuracy"]
    rows.append(["worst case", with_interval(summary["worst_case"]), ""])
    told = (
        f"{shown_images(summary)}, ε {summary['eps']:g}; each attack on what those before it left. Gradients of "
        f"ours in {PRECISIONS[summary['precision']]}, AutoAttack's in float32. {shown_sources([name])}"
    )
    return captioned(["after", "stands", "images lost"], rows, told)


def fast_on_all(results: Results, runs: Sequence[str]) -> str:
    """AutoAttack's standard version and `fast`, on the images that no certificate covers."""
    rows: list[list[str]] = []
    summaries: dict[str, dict[str, Any]] = {}
    for run in runs:
        found = {suite: results.summary(f"{run}/evaluation-{suite}") for suite in ("standard", "fast")}
        check_same(found, "weights_sha256", "data", "eps", "certificates")
        summaries |= {f"{run}/evaluation-{suite}": summary for suite, summary in found.items()}
        stands = [percent(summary["worst_case"]["accuracy"]) for summary in found.values()]
        seconds = [f"{summary['seconds']:,.0f}" for summary in found.values()]
        rows.append([run, *stands, percent(found["fast"]["between"]["certified"]), *seconds])
    check_same(summaries, "images")
    check_same({name: summary["provenance"]["hardware"] for name, summary in summaries.items()}, "device", "threads")
    first = next(iter(summaries.values()))
    told = (
        f"Accuracy in %. {shown_images(first)}. Seconds by the clock, {shown_machine(first['provenance']['hardware'])}"
        f", which had other work too. {shown_seeds(results, runs)} {shown_sources(list(summaries))}"
    )
    return captioned(["", "AutoAttack", "`fast`", "certified", "AutoAttack: seconds", "`fast`: seconds"], rows, told)


def costs(results: Results, runs: Sequence[str]) -> str:
    """What the long suites took: the part of each evaluation that ran in one go."""
    rows = []
    for run in runs:
        for suite in SUITES:
            summary = results.summary(f"{run}/evaluation-{suite}")
            done = summary["images"] - summary["images_resumed"]
            machine = shown_machine(summary["provenance"]["hardware"])
            rows.append([results.label(run), f"`{suite}`", f"{done:,}", f"{summary['seconds'] / 60:.0f}", machine])
    told = f"Fashion-MNIST, M-LeNet. {shown_sources([f'{run}/evaluation-{suite}' for run in runs for suite in SUITES])}"
    return captioned(["", "suite", "images", "minutes", "on"], rows, told)
