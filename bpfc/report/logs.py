"""Tables of what was measured on the way: training logs, and benchmarks."""

from collections.abc import Mapping, Sequence
from typing import Any

from bpfc.files import read_json
from bpfc.report.captions import captioned, shown_seeds, shown_sources
from bpfc.report.figures import DATA, Results, percent
from bpfc.training.overfitting import WATCHED


def overfitting(results: Results, runs: Sequence[str]) -> str:
    """The epoch in which PGD accuracy fell furthest below its best so far, and the last epoch, from the logs."""
    header = [
        "",
        "epochs",
        "at the end: FGSM",
        "PGD-10",
        "alignment",
        "at the fall: epoch",
        "FGSM",
        "PGD-10",
        "alignment",
    ]
    rows = []
    for run in runs:
        log, best, depth, deepest = results.log(run), 0.0, 0.0, None
        for row in log:
            best = max(best, row["watched_pgd_accuracy"])
            if best - row["watched_pgd_accuracy"] > depth:
                depth, deepest = best - row["watched_pgd_accuracy"], row
        name = f"{DATA[results.recipe(run)['data']]}: {results.label(run)}"
        fall = [f"{deepest['epoch'] + 1}", *_signs(deepest)] if deepest else ["none", "", "", ""]
        rows.append([name, f"{len(log)}", *_signs(log[-1]), *fall])
    watched = sorted({min(WATCHED, results.recipe(run)["validation_attacked"]) for run in runs})
    told = (
        f"Accuracy in % on {' or '.join(map(str, watched))} validation images, watched in training: at its end, and "
        "after the epoch in which PGD-10 accuracy stood furthest below its best so far. "
        f"{shown_seeds(results, runs)} {shown_sources(runs)}"
    )
    return captioned(header, rows, told)


def benchmark(results: Results, name: str) -> str:
    """The output of a benchmark as it is in results/benchmarks, without the lines that tell the machine at length."""
    path = results.folder / "benchmarks" / f"{name}.txt"
    if not path.exists():
        return "Not run yet."
    lines = path.read_text().rstrip().splitlines()
    return "\n".join(["```text", *(line for line in lines if not line.startswith("{")), "```"])


COMPARED = {"standard": "AutoAttack", "fast": "`fast`", "adv-lib": "adv-lib, APGD-CE + APGD-T"}


def fast(results: Results, name: str) -> str:
    """AutoAttack, the suite `fast` and adv-lib's APGD on the same images, network by network and image by image.

    Of results/benchmarks/NAME.json, which benchmarks/fast.py made.
    """
    path = results.folder / "benchmarks" / f"{name}.json"
    if not path.exists():
        return "Not run yet."
    content = read_json(path)
    header = ["", "images", "", "stand", "it alone leaves", "it alone breaks", "forwards + backwards", "seconds"]
    rows = []
    networks = content["networks"]
    for network, entry in networks.items():
        official = entry["standard"]
        first, count = entry.get("first", 0), entry["images"]
        rows.append(
            [
                network,
                f"{first + 1} … {first + count}" if first else str(count),
                COMPARED["standard"],
                str(official["stand"]),
                "",
                "",
            ]
        )
        rows[-1] += [f"{_passes(official):,}", f"{official['seconds']:.1f}"]
        for suite in ("fast", "adv-lib"):
            if (found := entry.get(suite)) is not None:
                apart = [str(len(found[side])) for side in ("only_standard", "only_here")]
                rows.append(["", "", COMPARED[suite], str(found["stand"]), *apart])
                share = f" ({percent(found['seconds'] / official['seconds'])} %)"
                same = found.get("devices") == official.get("devices")  # else the share would be of the machines
                rows[-1] += [
                    f"{_passes(found):,} ({percent(_passes(found) / _passes(official))} %)",
                    f"{found['seconds']:.1f}{share if same else ''}",
                ]
    entries = [entry[suite] for entry in networks.values() for suite in COMPARED if suite in entry]
    maker = content["provenance"]["hardware"]["device"]
    devices = sorted({device.replace("(R)", "") for entry in entries for device in entry.get("devices", [maker])})
    of = "Seconds of one core" if all(each.get("device", "cpu") == "cpu" for each in networks.values()) else "Seconds"
    told = (
        "It alone leaves what AutoAttack breaks, and alone breaks what AutoAttack leaves. In brackets, the share of "
        f"AutoAttack's. {of} ({', '.join(devices)}), float32. {_agreement(networks)}"
        f"`results/benchmarks/{name}.json`."
    )
    return captioned(header, rows, told)


def _agreement(networks: Mapping[str, Any]) -> str:
    """What `fast` was, and how far it is from AutoAttack on all images of the networks that it does not warn of."""
    ran = {network: entry for network, entry in networks.items() if "fast" in entry}
    if not ran:
        return ""
    suites = sorted({entry["fast"]["settings"] for entry in ran.values()})
    flagged = [network for network, entry in ran.items() if entry["fast"].get("warnings")]
    warned = f", and warned of {', '.join(flagged)}" if flagged else ""
    silent = [entry for network, entry in ran.items() if network not in flagged]
    images = sum(entry["images"] for entry in silent)
    leaves, breaks = (sum(len(entry["fast"][side]) for entry in silent) for side in ("only_standard", "only_here"))
    return (
        f"Here `fast` was `{'` or `'.join(suites)}`{warned}. Of the {images:,} images"
        f"{' of the others' if flagged else ''} it alone leaves {leaves} and alone breaks {breaks}. "
    )


def _passes(found: dict[str, Any]) -> int:
    return int(found["forwards"] + found["backwards"])


def _signs(row: dict[str, Any]) -> list[str]:
    shares = (percent(row[f"watched_{name}_accuracy"]) for name in ("fgsm", "pgd"))
    return [*shares, f"{row['gradient_alignment']:.2f}"]


def flat_pixels(results: Results) -> str:
    """A row a tone curve: the share of test pixels that it takes, with all of their interval, to one point, in %.

    Of results/benchmarks/flat-pixels.json, which benchmarks/flat_pixels.py made.
    """
    content = read_json(results.folder / "benchmarks" / "flat-pixels.json")
    rows = []
    for row in content["curves"]:
        named = (f"{row[end]:g}" for end in ("eps", "a", "b"))
        rows.append([DATA[row["data"]], *named, percent(row["flat"])])
    images = {row["images"] for row in content["curves"]}
    told = f"All {images.pop():,} test images. From `results/benchmarks/flat-pixels.json`."
    return captioned(["", "ε", "a", "b", "out of reach, %"], rows, told)
