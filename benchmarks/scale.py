"""Seconds and memory of `bpfc evaluate` over images of 3×224×224 that lie on disk as JPEG, in one process and in more.

    python benchmarks/scale.py [--images 1000 10000] [--processes 1 2] [--out results/benchmarks/scale.jsonl]

The pictures are made: blobs of colour with some grain, by a seed. ResNet-18 for ImageNet (7×7 stem, He et al. 2016)
with fresh weights and 10 classes; a picture's class is what the network takes it for, so that every image is attacked.
Pictures are made and classified once: a larger set takes over those of a smaller one.

A line of the file is one of these (`what`); one that is there is not made again:

- evaluation: through the real command line, by one or more processes of one thread each;
- decoding: the data path alone, by one process;
- forward, gradient: the network alone, on 128 images in memory: its logits, or their gradient by the images.

Seconds are of the clock (`seconds`) and of the CPU, of all processes together (`cpu_seconds`), which are better
believed where others work on the machine too. Memory is the peak of the largest process, torch and all.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from bpfc.data import in_parts, load_images, to_float
from bpfc.files import append_lines, read_jsonl, write_file
from bpfc.machine import peak_memory_mib, pick_device
from bpfc.models.resnet import BasicBlock
from bpfc.options import Reading
from bpfc.provenance import provenance

SIZE, CLASSES, BATCH, EPS = 224, 10, 16, "1/255"
PASSES = 128
"""Images that the network alone is timed on."""
HERE = Path(__file__).resolve()


def model() -> nn.Module:
    """ResNet-18 as for ImageNet, with 10 classes that fresh weights take about alike; channels last, which is fast."""
    torch.manual_seed(0)
    stages: list[nn.Module] = []
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        stages += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    stem = [nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    head = nn.Linear(512, CLASSES)
    network = nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(512), head)
    with torch.no_grad():  # else one class would take them all
        some = torch.stack([torch.from_numpy(picture(seed)).permute(2, 0, 1) for seed in range(64)])
        network.eval()
        head.bias.sub_(network(to_float(some)).mean(dim=0))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def picture(seed: int) -> NDArray[np.uint8]:
    """Blobs of colour with some grain, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return (np.asarray(blobs) + rng.normal(0, 8, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)


def linked(work: Path, count: int) -> Path:
    """A folder of so many pictures, by class: hard links to those in work/made, which are made if need be."""
    made, folder = work / "made", work / str(count)
    make(made, count)
    for path in made.glob("*/*.jpg"):
        link = folder / path.parent.name / path.name
        if int(path.stem) < count and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    return folder


def make(folder: Path, count: int) -> None:
    """The first so many pictures as JPEG, in a folder for each class that the network sees in them."""
    there = {int(path.stem) for path in folder.glob("*/*.jpg")}
    missing = [seed for seed in range(count) if seed not in there]
    network = model().eval()
    for begin in range(0, len(missing), BATCH):
        seeds = missing[begin : begin + BATCH]
        with ThreadPoolExecutor() as threads:
            files = list(threads.map(encoded, seeds))
        # As they come back from the disk, for JPEG loses something.
        pixels = [torch.from_numpy(np.array(Image.open(BytesIO(file)))).permute(2, 0, 1) for file in files]
        with torch.no_grad():
            guesses = network(to_float(torch.stack(pixels))).argmax(dim=1).tolist()
        for seed, file, guess in zip(seeds, files, guesses, strict=True):
            path = folder / str(guess) / f"{seed:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, file)
        if (done := begin // BATCH + 1) % 50 == 0:
            print(f"{done * BATCH} of {len(missing)} pictures made", flush=True)


def encoded(seed: int) -> bytes:
    file = BytesIO()
    Image.fromarray(picture(seed)).save(file, "JPEG", quality=90)
    return file.getvalue()


def passes(gradient: bool) -> dict[str, Any]:
    """Of the network alone: its logits, or their gradient by the images."""
    network = model().eval().requires_grad_(False)
    torch.set_num_threads(1)
    batches = torch.rand(PASSES, 3, SIZE, SIZE).split(BATCH)
    network(batches[0])  # the first is slower
    started, spent = time.perf_counter(), time.process_time()
    for batch in batches:
        images = batch.clone().requires_grad_(gradient)
        logits = network(images)
        if gradient:
            torch.autograd.grad(logits.sum(), images)
    return _since(started, spent)


def _since(started: float, spent: float) -> dict[str, Any]:
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}


def data_path(folder: Path) -> dict[str, Any]:
    """Decodes all pictures once, as an evaluation's data path does."""
    started, spent = time.perf_counter(), time.process_time()
    images = load_images(folder, Reading())
    for some in in_parts(images, torch.arange(len(images)).split(BATCH)):
        to_float(some.pixels)
    return _since(started, spent)


def evaluation(folder: Path, processes: int, out: Path) -> dict[str, Any]:
    """Seconds of the attack and of the whole, and the peak memory of the largest process."""
    words = ["--model", "scale:peak_told", "--data", str(folder), "--eps", EPS, "--attacks", "fgsm"]
    words += ["--batch-size", str(BATCH), "--device", "cpu", "--precision", "fp32", "--out", str(out)]
    many = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [*(many if processes > 1 else [sys.executable, "-m"]), "bpfc", "evaluate", *words]
    told = out.parent / f"{out.name}-peaks"
    shutil.rmtree(told, ignore_errors=True)
    told.mkdir(parents=True)
    around = {
        **os.environ,
        "PYTHONPATH": f"{HERE.parent}:{HERE.parent.parent}",
        "PEAKS": str(told),
        "OMP_NUM_THREADS": "1",
    }
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=around, stdout=subprocess.DEVNULL, cwd=HERE.parent)
    whole, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((out / "summary.json").read_text())
    peaks = [float(path.read_text()) for path in told.iterdir()]
    return {
        "seconds": round(whole, 1),
        "cpu_seconds": round(cpu, 1),
        "attack_seconds": summary["seconds"],
        "attacked": round(summary["clean"]["accuracy"] * summary["images"]),
        "peak_mib": round(max(peaks)),
    }


def peak_told() -> nn.Module:
    """The model; at its end the process leaves its peak memory in the folder PEAKS."""
    import atexit

    path = Path(os.environ["PEAKS"]) / str(os.getpid())
    atexit.register(lambda: path.write_text(str(peak_memory_mib(pick_device("cpu")))))
    return model()


@dataclass(frozen=True)
class Scale:
    """What to measure; see above."""

    images: tuple[int, ...] = (1_000, 10_000)
    processes: tuple[int, ...] = (1, 2)
    out: Path = Path("results/benchmarks/scale.jsonl")
    work: Path = Path(tempfile.gettempdir()) / "bpfc-scale"
    """Where the pictures and ledgers lie."""


def todo(options: Scale) -> Iterator[tuple[str, int, int]]:
    """What, images and processes; the cheap before the dear."""
    yield "forward", PASSES, 1
    yield "gradient", PASSES, 1
    for count in options.images:
        yield "decoding", count, 1
        for processes in options.processes:
            yield "evaluation", count, processes


def measured(what: str, count: int, processes: int, work: Path) -> dict[str, Any]:
    if what in ("forward", "gradient"):
        return passes(gradient=what == "gradient")
    folder = linked(work, count)
    if what == "decoding":
        return data_path(folder)
    out = work / f"evaluation-{count}-{processes}"
    shutil.rmtree(out, ignore_errors=True)
    return evaluation(folder, processes, out)


def main(options: Scale) -> None:
    done = [(row["what"], row["images"], row["processes"]) for row in read_jsonl(options.out)]
    for each in todo(options):
        if each in done:
            continue
        found = measured(*each, options.work)
        told = provenance(pick_device("cpu"))
        told["command"] = "python benchmarks/scale.py"
        row = dict(zip(("what", "images", "processes"), each, strict=True)) | found
        append_lines(options.out, [row | {"provenance": told}])
        print(row, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Scale, description=__doc__))
