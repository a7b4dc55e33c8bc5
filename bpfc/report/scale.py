"""Tables of what an evaluation costs as its set grows: measured, and for ImageNet on paper."""

from collections.abc import Mapping
from typing import Any

from bpfc.files import read_json, read_jsonl
from bpfc.report.captions import captioned, shown_machine
from bpfc.report.figures import Results
from bpfc.report.trade_off import suite

IMAGES, PROCESSES = (1_000, 10_000, 50_000), (1, 2, 4)
RESNET_18, RESNET_50 = 1.8e9, 4.1e9
"""Multiply-adds of a forward of one image of 3×224×224 (He et al. 2016, Table 1), ResNet-50 with torchvision's strides,
which stand in the 3×3 layer."""
GPU = 20e12
"""Floating-point operations a second that one GPU is assumed to sustain in float32: a round number, not measured."""
GPUS = (1, 8, 64)

Rows = Mapping[tuple[str, int, int], Mapping[str, Any]]
"""Of the benchmark, by what, images and processes."""


def _rows(results: Results) -> Rows:
    found = read_jsonl(results.folder / "benchmarks" / "scale.jsonl")
    return {(row["what"], row["images"], row["processes"]): row for row in found}


def scale(results: Results) -> str:
    """Seconds, CPU seconds an image and memory of `bpfc evaluate` over JPEGs, by images and processes."""
    rows = _rows(results)
    shown = [
        [f"{images:,}", str(processes), *_cells(rows, images, processes)]
        for images in IMAGES
        for processes in PROCESSES
    ]
    header = ["images", "processes", "seconds", "CPU seconds", "an image", "decoding", "peak memory"]
    machines = {shown_machine(row["provenance"]["hardware"] | {"threads": 1}) for row in rows.values()}
    cores = {f"{row['provenance']['hardware']['cores']} cores" for row in rows.values()}
    told = (
        "FGSM on ResNet-18, JPEGs of 3×224×224, batches of 16, float32; each process "
        f"{' or '.join(sorted(machines)) or 'one thread'}, of {' or '.join(sorted(cores)) or 'a machine'} that others "
        "worked on as well, so that the CPU's seconds, of all processes together, say more than the clock's. Decoding: "
        "the CPU seconds of going through all pictures once, as a share. Memory: of the largest process, torch and "
        f"all. {_linear(rows)} `results/benchmarks/scale.jsonl`."
    )
    return captioned(header, shown, told)


def _cells(rows: Rows, images: int, processes: int) -> list[str]:
    row = rows.get(("evaluation", images, processes))
    if row is None:
        return ["not run"] * 5
    decoding, cpu = rows.get(("decoding", images, 1)), row["cpu_seconds"]
    share = "not run" if decoding is None else f"{decoding['cpu_seconds'] / cpu:.1%}"
    return [f"{row['seconds']:,.0f}", f"{cpu:,.0f}", f"{cpu / images:.3f}", share, f"{row['peak_mib']:,} MiB"]


def _linear(rows: Rows) -> str:
    """By how much the cost of an image in the largest set differs from that in the smallest, for each way of running.

    Like with like: the same number of processes.
    """
    told = []
    for processes in PROCESSES:
        there = [images for images in IMAGES if ("evaluation", images, processes) in rows]
        if len(there) > 1:
            first, last = (
                rows["evaluation", images, processes]["cpu_seconds"] / images for images in (there[0], there[-1])
            )
            told.append(
                f"With {processes} {'process' if processes == 1 else 'processes'}, each of {there[-1]:,} images costs "
                f"{abs(last / first - 1):.1%} {'more' if last > first else 'less'} than each of {there[0]:,}."
            )
    return " ".join(told) or "Whether cost grows in proportion has not been measured: that takes sets of two sizes."


def imagenet(results: Results) -> str:
    """Hours for ImageNet's 50,000 validation images with ResNet-50, on paper."""
    content = read_json(results.folder / "benchmarks" / "fast.json")["networks"]["fashion-mnist-bpfc"]
    measured = {what: row["cpu_seconds"] / row["images"] for (what, _, _), row in _rows(results).items()}
    shown = []
    for name in ("fast", "standard"):
        forwards, backwards = (content[name][passes] / content["images"] for passes in ("forwards", "backwards"))
        hours = [50_000 * 2 * RESNET_50 * (forwards + backwards) / (GPU * count) / 3600 for count in GPUS]
        core = "not run"
        if {"forward", "gradient"} <= measured.keys():
            an_image = forwards * measured["forward"] + backwards * (measured["gradient"] - measured["forward"])
            core = f"{50_000 * an_image * RESNET_50 / RESNET_18 / 3600:,.0f}"
        ran = suite(content[name]["settings"].split(",")) if name == "fast" else None
        shown.append([ran or f"`{name}`", f"{forwards:,.0f}", f"{backwards:,.0f}", core, *map(_hours, hours)])
    header = ["suite", "forwards an image", "backwards an image", "1 core of the CPU above"]
    header += [f"{count} GPU{'s' * (count > 1)}" for count in GPUS]
    speed = "has not been measured"
    if "forward" in measured:
        speed = f"was measured at {1 / measured['forward']:.0f} images/s forwards"
        if "gradient" in measured:
            speed += f", {1 / measured['gradient']:.0f} images/s with the gradient"
    told = (
        f"Hours. Counted: forwards and backwards an image, on the Fashion-MNIST BPFC network, of whose "
        f"{content['images']} images {content['standard']['stand']} stood (an image that breaks leaves); "
        f"`results/benchmarks/fast.json`. The CPU: ResNet-18 {speed} on one core, and ResNet-50 takes "
        f"{RESNET_50 / 1e9:.1f}/{RESNET_18 / 1e9:.1f} times its multiply-adds. A GPU, assumed and not measured: "
        f"{GPU / 1e12:.0f} · 10¹² floating-point operations a second in float32; hours = 50,000 · passes · 2 · "
        f"{RESNET_50 / 1e9:.1f} · 10⁹ / (GPUs · {GPU / 1e12:.0f} · 10¹² · 3,600), where a backward by the images "
        "counts as a forward. Assumed too: nothing is lost between GPUs, and decoding keeps up."
    )
    return captioned(header, shown, told)


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"
