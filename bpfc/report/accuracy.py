"""Tables of accuracies: networks under attacks, beside the paper's figures."""

from collections.abc import Sequence

from bpfc.report.captions import (
    captioned,
    check_same,
    shown_images,
    shown_last,
    shown_machine,
    shown_seeds,
    shown_sources,
)
from bpfc.report.figures import DATA, METHODS, Results, paper, percent, with_interval, without

ATTACKS = {
    "fgsm": "FGSM",
    "ifgsm-7": "I-FGSM-7",
    "ifgsm-40": "I-FGSM-40",
    "pgd-7-last": "PGD-7",
    "pgd-20-last": "PGD-20",
    "pgd-100": "PGD-100",
    "pgd-1000": "PGD-1000",
    "pgd-1000-last": "its last iterate",
    "mt-pgd-20": "multi-targeted PGD-20",
    "pgd-50x5": "PGD-50, 5 restarts",
    "pgd-100x10": "PGD-100, 10 restarts",
    "square-500": "Square-500",
}
"""Attacks as a table's header names them."""
SOURCES = {"net-a": "Net-A", "m-lenet": "M-LeNet", "vgg-19": "VGG19"}
"""Networks that black-box images are made on, likewise."""
HEADLINES = ("pgd-100", "pgd-1000", "square-500")
"""Those whose figures have their interval."""


def accuracies(results: Results, evaluations: Sequence[str], attacks: Sequence[str], against: str | None = None) -> str:
    """Networks under attacks, a row each: RUN/EVALUATION of results/.

    Args:
        results: where they stand.
        evaluations: of one data set, ε and number of images.
        attacks: the columns.
        against: the figure of the paper that stands beside ours, clean or pgd-1000; None for none.

    Raises:
        ValueError: they have not all the same images.
    """
    summaries = {name: results.summary(name) for name in evaluations}
    runs = [name.split("/")[0] for name in evaluations]
    check_same(summaries, "data", "eps", "images")
    first = summaries[evaluations[0]]
    header = ["", "class", "epochs", "clean", *(ATTACKS[name] for name in attacks), "arithmetic"]
    rows = []
    for run, summary in zip(runs, summaries.values(), strict=True):
        found, arithmetic = summary["attacks"], (results.recipe(run)["precision"], summary["precision"])
        rows.append(
            [
                results.label(run),
                results.class_of(run),
                f"{results.recipe(run)['epochs']}",
                with_interval(summary["clean"]),
                *((with_interval if attack in HEADLINES else without)(found.get(attack)) for attack in attacks),
                ", ".join(dict.fromkeys(arithmetic)),
            ]
        )
    if against:
        header.insert(3, {"clean": "paper: clean", "pgd-1000": "paper: PGD-1000"}[against])
        for run, row in zip(runs, rows, strict=True):
            row.insert(3, paper(first["data"], results.method(run), against))
    last = [ATTACKS[name] for name in attacks if name.endswith("-last") and "last" not in ATTACKS[name]]
    told = (
        f"{shown_images(first)}, ε {first['eps']:g}. {shown_last(last)}"
        f"{shown_seeds(results, runs)} In brackets: 95 % intervals. "
        "Arithmetic: of training, and after it that of the attacks' gradients, if another; verdicts are in float32. "
    )
    return captioned(header, rows, told + shown_sources(evaluations))


def headline(results: Results) -> str:
    """README's table: four networks, one number of images."""
    runs = ("fashion-mnist-normal", "fashion-mnist-bpfc", "mnist-normal", "mnist-bpfc")
    summaries = {run: results.summary(f"{run}/evaluation-10000") for run in runs}
    check_same(summaries, "images")
    suites = {run: results.summary(f"{run}/evaluation-fast-1000") for run in runs}
    check_same(suites, "images")
    rows = []
    for run, summary in summaries.items():
        name = f"{DATA[summary['data']]}, ε {summary['eps']:g}: {results.label(run)}"
        shares = [without(summary["attacks"][attack]) for attack in ("fgsm", "pgd-100")]
        name_and_class = [name, results.class_of(run)]
        rows.append([*name_and_class, without(summary["clean"]), *shares, with_interval(suites[run]["worst_case"])])
    held = " or ".join(sorted({f"`{','.join(found['attacks'])}`" for found in suites.values()}))
    told = (
        f"Accuracy in %. {shown_images(summaries[runs[0]])}; `fast`, which comes close to AutoAttack, here {held}: "
        f"{shown_images(suites[runs[0]]).lower()}. {shown_seeds(results, runs)} In brackets: 95 % interval."
    )
    return captioned(["", "class", "clean", "FGSM", "PGD-100", "`fast`"], rows, told)


def demo(results: Results) -> str:
    """The networks of `bpfc demo`."""
    summary = results.summary("demo")
    rows = []
    for name in ("normal", "bpfc"):
        epochs = results.recipe(f"demo/{name}")["epochs"]
        rows.append([METHODS[name], f"{epochs}", *(percent(figures[name]) for figures in summary["accuracy"].values())])
    took = f"{summary['seconds']:.0f} s in all" if summary["seconds"] else "a time not measured"
    told = (
        f"{summary['images']} held-out digits, ε {summary['eps']:g}. One training a row, n = 1, seed {summary['seed']}."
        f" It took {took}, on {shown_machine(summary['provenance']['hardware'])}. {shown_sources(['demo'])}"
    )
    header = ["", "epochs", *(ATTACKS.get(name, name) for name in summary["accuracy"])]
    return captioned(header, rows, told)


def black_box(
    results: Results, data: str, sources: Sequence[tuple[str, str]], white_box: str, attacks: Sequence[str]
) -> str:
    """FGSM images made on source networks, judged on targets, beside the paper's Table 3 and the white box.

    Args:
        results: of them the black box, in the folder DATA-table-3.
        data: a data set by its name.
        sources: each a run and its network by the name that the paper's columns have, such as net-a.
        white_box: the folder in each target that holds its evaluation.
        attacks: of that evaluation, those shown.
    """
    summary = results.summary(f"{data}-table-3")
    header = ["target", "class", "clean"]
    for _, network in sources:
        header += [f"paper: {SOURCES[network]}", "ours"]
    header += [f"{'' if at else 'white box: '}{ATTACKS.get(name, name)}" for at, name in enumerate(attacks)]
    rows = []
    for run, target in summary["targets"].items():
        row = [results.label(run), results.class_of(run), without(target["clean"])]
        for source, network in sources:
            ours = without(target["attacks"][f"fgsm@{source}"])
            row += [
                paper(data, results.method(run), f"from-{network}"),
                f"{ours} (the source)" if source == run else ours,
            ]
        inside = results.summary(f"{run}/{white_box}")
        check_same({"black box": summary, run: inside}, "data", "eps", "images")
        rows.append([*row, *(without(inside["attacks"][name]) for name in attacks)])
    told = f"{shown_images(summary)}, ε {summary['eps']:g}. {shown_seeds(results, list(summary['targets']))} "
    told += f"From `results/{data}-table-3`; the white box from `{white_box}` in each target's own folder beside it."
    return captioned(header, rows, told)
