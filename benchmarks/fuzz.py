"""Files that nobody wrote, through every reader: each is read, or refused in a line that names it.

    pip install atheris==3.0.0
    python benchmarks/fuzz.py [--minutes 5] [--readers png,npz,…] [--corpus FOLDER]

atheris (libFuzzer) mutates small sound files by what the mutations reach in the package's own code, and each reader in
turn has its share of the time, in a process of its own. The first input that ends in anything but bpfc's own errors is
kept as FOLDER/READER/crash-…, and the command tells it. Exit status: 0 if no reader had one.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
PATIENCE = 20
"""Seconds that one file may take."""
ROOM = 4096
"""MiB that the process may take."""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--minutes", type=float, default=5, help="for all readers together")
    words.add_argument("--readers", help="comma-separated; all unless given")
    words.add_argument(
        "--corpus", type=Path, help="folder for what the fuzzer learns and finds; temporary unless given"
    )
    words.add_argument("--one", help=argparse.SUPPRESS)
    given, rest = words.parse_known_args()
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: error: atheris is not installed; pip install atheris==3.0.0", file=sys.stderr)
        return 2
    if given.one:
        _fuzz(given.one, rest)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        corpus = given.corpus or Path(temporary)
        seeds = _seeds()
        names = given.readers.split(",") if given.readers else sorted(seeds)
        failed = [name for name in names if not _spawn(name, corpus, seeds, 60 * given.minutes / len(names))]
        for name in failed:
            print(f"{name}: an input that is neither read nor refused; see {corpus / name}")
            if given.corpus is None:
                shutil.copytree(corpus / name, Path("fuzz-found") / name, dirs_exist_ok=True)
    return 1 if failed else 0


def _spawn(name: str, corpus: Path, seeds: dict[str, list[bytes]], seconds: float) -> bool:
    """Whether a reader stood its time."""
    if name not in seeds:
        raise SystemExit(f"fuzz: error: no reader {name!r}; there are {', '.join(sorted(seeds))}")
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds[name]):
        (folder / f"seed-{number}").write_bytes(content)
    limits = [f"-max_total_time={round(seconds)}", f"-timeout={PATIENCE}", f"-rss_limit_mb={ROOM}", "-max_len=8192"]
    found = [f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    words = [sys.executable, __file__, "--one", name, *limits, *found, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    stats = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    tried = stats[0].split()[-1] if stats else "?"
    print(f"{name:12} {tried:>8} files, exit status {done.returncode}", flush=True)
    if done.returncode:
        print(done.stderr[-3000:])
    return done.returncode == 0


def _fuzz(name: str, words: list[str]) -> None:
    """Runs atheris on one reader; never returns."""
    import atheris

    with atheris.instrument_imports(include=["bpfc", "PIL", "zipfile", "json"]):
        import bpfc.data
        import bpfc.models
        import bpfc.training.run  # noqa: F401 (instrumented here, used by the readers)
    from bpfc.errors import UserError

    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp())
    read = READERS[name](folder)
    os.fsync = lambda _: None  # type: ignore[assignment]

    def one(content: bytes) -> None:
        with contextlib.suppress(UserError, ValueError):
            read(content)

    atheris.Setup([sys.argv[0], *words], one)
    atheris.Fuzz()


def _picture(suffix: str) -> Callable[[Path], Callable[[bytes], object]]:
    def reader(folder: Path) -> Callable[[bytes], object]:
        from bpfc.data import load_images

        for name in ("a", "b"):
            (folder / name).mkdir()

        def read(content: bytes) -> object:
            for name in ("a", "b"):
                (folder / name / f"p.{suffix}").write_bytes(content)
            return load_images(folder)

        return read

    return reader


def _npz(folder: Path) -> Callable[[bytes], object]:
    from bpfc.data import load_images

    def read(content: bytes) -> object:
        (folder / "some.npz").write_bytes(content)
        return load_images(folder / "some.npz")

    return read


def _idx(_: Path) -> Callable[[bytes], object]:
    from bpfc.data.formats import idx

    return lambda content: idx(content, "train-images")


def _cifar10(_: Path) -> Callable[[bytes], object]:
    from bpfc.data.formats import cifar10_binary

    return lambda content: cifar10_binary(content, "data_batch_1.bin")


def _gzip(folder: Path) -> Callable[[bytes], object]:
    from bpfc.data.formats import read as read_file

    def read(content: bytes) -> object:
        (folder / "t10k.gz").write_bytes(content)
        return read_file(folder / "t10k.gz")

    return read


def _tensors(folder: Path) -> Callable[[bytes], object]:
    from bpfc.weights import load_tensors

    def read(content: bytes) -> object:
        (folder / "w.safetensors").write_bytes(content)
        return load_tensors(folder / "w.safetensors")

    return read


def _weights(folder: Path) -> Callable[[bytes], object]:
    from torch import nn

    from bpfc.models import load_weights

    model = nn.Linear(2, 2)

    def read(content: bytes) -> None:
        (folder / "w.pt").write_bytes(content)
        load_weights(model, folder / "w.pt")

    return read


def _ledger(folder: Path) -> Callable[[bytes], object]:
    from bpfc.ledger import read_ledger

    def read(content: bytes) -> object:
        (folder / "ledger.jsonl").write_bytes(content)
        return read_ledger(folder / "ledger.jsonl", [0, 1, 0, 1], ["fgsm", "pgd-2"])

    return read


def _recipe(folder: Path) -> Callable[[bytes], object]:
    from bpfc.training.run import Run

    def read(content: bytes) -> object:
        (folder / "recipe.json").write_bytes(content)
        return Run(folder).recipe()

    return read


def _header(folder: Path) -> Callable[[bytes], object]:
    from bpfc.ledger import Ledger

    def read(content: bytes) -> object:
        (folder / "evaluation.json").write_bytes(content)
        return Ledger(folder, {"plan": ["fgsm"], "images": 2}, [0, 1], ["fgsm"])

    return read


PICTURES = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM", "gif": "GIF"}
READERS: dict[str, Callable[[Path], Callable[[bytes], object]]] = {
    **{suffix: _picture(suffix) for suffix in PICTURES},
    "npz": _npz,
    "idx": _idx,
    "cifar10": _cifar10,
    "gzip": _gzip,
    "safetensors": _tensors,
    "weights": _weights,
    "ledger": _ledger,
    "recipe": _recipe,
    "header": _header,
}


def _seeds() -> dict[str, list[bytes]]:
    """Small sound files for each reader."""
    import gzip

    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import save

    from bpfc.files import with_checksum
    from bpfc.training.recipe import recipe_json
    from bpfc.training.recipes import RECIPES

    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    found: dict[str, list[bytes]] = {}
    for suffix, format_ in PICTURES.items():
        for picture in (Image.fromarray(pixels), Image.fromarray(pixels[..., 0]), Image.fromarray(pixels).convert("P")):
            file = io.BytesIO()
            with contextlib.suppress(OSError):  # where a format has no palettes
                picture.save(file, format_)
                found.setdefault(suffix, []).append(file.getvalue())
    stored, packed = io.BytesIO(), io.BytesIO()
    np.savez(stored, x=pixels[None], y=np.zeros(1, np.int64))
    np.savez_compressed(packed, images=pixels[None, ..., 0] / 255, labels=np.zeros(1, np.uint8))
    weights = io.BytesIO()
    state = torch.nn.Linear(2, 2).state_dict()
    torch.save(state, weights)
    verdict = {"broken": False, "restart": None, "step": None, "linf": None, "l2": None, "queries": 2}
    row = {"index": 0, "label": 0, "prediction": 0, "broken_by": None, "attacks": {"fgsm": verdict, "pgd-2": verdict}}
    recipe = recipe_json(RECIPES["mnist-5k-bpfc"][1], "fp32")
    images = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (1, 4, 4)) + bytes(16)
    return found | {
        "npz": [stored.getvalue(), packed.getvalue()],
        "idx": [images],
        "cifar10": [bytes(3073), pickle.dumps({b"data": pixels, b"labels": [0]})],
        "gzip": [gzip.compress(images)],
        "safetensors": [save(state), save(state, {"bpfc_tensors_sha256": "0"})],
        "weights": [weights.getvalue()],
        "ledger": [json.dumps(each).encode() + b"\n" for each in (row, with_checksum(row))],
        "recipe": [json.dumps(each).encode() for each in (recipe, with_checksum(recipe))],
        "header": [json.dumps({"schema": 3, "plan": ["fgsm"], "images": 2, "warnings": []}).encode()],
    }


if __name__ == "__main__":
    sys.exit(main())
