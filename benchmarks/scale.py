"""Seconds and memory of `bpfc evaluate` over images of 3×224×224 that lie on disk as JPEG, in one process and in more.

    python benchmarks/scale.py [--images 1000 10000] [--processes 1 2] [--out results/benchmarks/scale.jsonl]

The pictures are made: blobs of colour with some grain, by a seed. ResNet-18 for ImageNet (7×7 stem, He et al. 2016)
with fresh weights and 10 classes; a picture's class is what the network takes it for, so that every image is attacked.
Each line of the file is one evaluation through the real command line, or the data path alone; a line that is there is
not made again. Each process has one thread. Seconds are of the clock and, where others work on the machine too, better
believed as those of the CPU, of all processes together; memory is the peak of the largest process.
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
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from bpfc.data import in_parts, load_images, to_float
from bpfc.files import append_lines, read_jsonl
from bpfc.machine import peak_memory_mib, pick_device
from bpfc.models.resnet import BasicBlock
from bpfc.options import Reading
from bpfc.provenance import provenance

SIZE, CLASSES, BATCH, EPS = 224, 10, 64, "1/255"
HERE = Path(__file__).resolve()


def model() -> nn.Module:
    """ResNet-18 as for ImageNet, with 10 classes that fresh weights take about alike."""
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
    return network


def picture(seed: int) -> NDArray[np.uint8]:
    """Blobs of colour with some grain, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return (np.asarray(blobs) + rng.normal(0, 8, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)


def make(folder: Path, count: int) -> None:
    """So many JPEGs, in a folder for each class that the network sees in them."""
    network = model()
    for begin in range(0, count, BATCH):
        seeds = range(begin, min(begin + BATCH, count))
        if (folder / f".done-{seeds[-1]}").exists():
            continue
        with ThreadPoolExecutor() as threads:
            made = list(threads.map(encoded, seeds))
        # As they come back from the disk, for JPEG loses something.
        pixels = [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in made]
        with torch.no_grad():
            guesses = network(to_float(torch.stack(pixels))).argmax(dim=1).tolist()
        for seed, path, guess in zip(seeds, made, guesses, strict=True):
            (folder / str(guess)).mkdir(parents=True, exist_ok=True)
            shutil.move(path, folder / str(guess) / f"{seed:06d}.jpg")
        (folder / f".done-{seeds[-1]}").touch()


def encoded(seed: int) -> Path:
    path = Path(tempfile.gettempdir()) / f"scale-{os.getpid()}-{seed}.jpg"
    Image.fromarray(picture(seed)).save(path, quality=90)
    return path


def data_path(folder: Path) -> dict[str, Any]:
    """Seconds to decode all pictures once, as an evaluation's data path does, and the memory that takes."""
    before, started, spent = peak_memory_mib(pick_device("cpu")), time.perf_counter(), time.process_time()
    images = load_images(folder, Reading())
    for some in in_parts(images, torch.arange(len(images)).split(BATCH)):
        to_float(some.pixels)
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mib": round(peak_memory_mib(pick_device("cpu")) - before),
    }


def evaluation(folder: Path, processes: int, out: Path) -> dict[str, Any]:
    """Seconds of the attack and of the whole, and the peak memory of the largest process."""
    words = ["--model", "scale:peak_told", "--data", str(folder), "--eps", EPS, "--attacks", "fgsm"]
    words += ["--batch-size", str(BATCH), "--device", "cpu", "--precision", "fp32", "--out", str(out)]
    many = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [*(many if processes > 1 else [sys.executable, "-m"]), "bpfc", "evaluate", *words]
    told = out.parent / f"{out.name}-peaks"
    told.mkdir(parents=True, exist_ok=True)
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


def todo(options: Scale) -> Iterator[tuple[int, int]]:
    """(images, processes), the cheap before the dear; 0 processes are the data path alone."""
    yield 64, 1
    for count in options.images:
        for processes in (0, *options.processes):
            yield count, processes


def main(options: Scale) -> None:
    done = [(row["images"], row["processes"]) for row in read_jsonl(options.out)]
    for count, processes in todo(options):
        if (count, processes) in done:
            continue
        folder = options.work / str(count)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, count)
        out = options.work / f"evaluation-{count}-{processes}"
        shutil.rmtree(out, ignore_errors=True)
        found = evaluation(folder, processes, out) if processes else data_path(folder)
        told = provenance(pick_device("cpu"))
        told["command"] = "python benchmarks/scale.py"
        row = {"images": count, "processes": processes, **found, "provenance": told}
        append_lines(options.out, [row])
        print({name: value for name, value in row.items() if name != "provenance"}, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Scale, description=__doc__))
