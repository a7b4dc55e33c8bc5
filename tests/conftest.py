"""What tests share: a small data folder in the publishers' formats, and a small network trained on real digits."""

import gzip
import hashlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import lean
import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

import bpfc
from bpfc.auditing import twin
from bpfc.data import DataSet, Images, load, sources, to_float
from bpfc.data import sets as data_sets

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The machine may be shared: a slow example is no failure.
settings.register_profile("bpfc", deadline=None)
settings.load_profile("bpfc")
# Networks this small gain little from a second thread, and two that wait for each other on a busy machine lose more.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
lean.load_fabric()
# What takes `load` from bpfc.data takes the real one, before a test puts another there for a while: a module that is
# imported meanwhile would keep that for good.
for name in ("evaluation.subject", "training.start", "training.run_data", "report.page.gallery"):
    importlib.import_module(f"bpfc.{name}")
# torch seeds itself from the clock: what modules draw while they are collected must not differ from run to run.
torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test draws the same numbers, alone or in company."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits() -> DataSet:
    return load("mnist-5k")


def small_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=4),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 49, 10),
    )


@pytest.fixture(scope="session")
def trained(digits: DataSet) -> nn.Module:
    """A small network trained on 2,000 real digits by the drop-in loss: 92 % clean, 59 % under PGD-20 at ε 0.1.

    In float64, so that every CPU ends with the same one: in float32 its weights differ by up to 0.08.
    """
    torch.manual_seed(1)
    model = small_network().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    method = bpfc.BPFC(k=6, weight=2.0)
    for _ in range(4):
        for batch in torch.randperm(2000).split(50):
            loss = method(model, to_float(digits.train.pixels[batch]).double(), digits.train.labels[batch]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.float().eval()


@pytest.fixture(scope="session", autouse=True)
def _brief_fits() -> Iterator[None]:
    """An audit teaches its stand-ins for layers in a fifth of the steps, and the network beside the models but once."""
    taught: dict[object, nn.Module] = {}

    def undefended(images: Images, classes: int, epochs: int) -> nn.Module:
        key = images.sha256(), classes, epochs
        if key not in taught:
            taught[key] = twin.undefended(images, classes, epochs)
        return taught[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bpfc.auditing.fitted.STEPS", 60)
        patch.setattr("bpfc.auditing.checks.beside.undefended", undefended)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_power_cuts() -> Iterator[None]:
    """No test waits for the disk; which files are flushed, and when, is test_files.py's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def test_digits(digits: DataSet) -> tuple[Tensor, Tensor]:
    return to_float(digits.test.pixels), digits.test.labels


CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium. Where it is missing, tests that need it fail and say so."""
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium", pytrace=False)
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MNIST, Fashion-MNIST and CIFAR-10 with 60 + 20 random images each, laid out and digested as the real ones."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for name in ("MNIST", "FASHION_MNIST"):
        files = {}
        for part, count in (("train", 60), ("t10k", 20)):
            files[f"{part}-images-idx3-ubyte"] = idx_bytes(rng.integers(0, 256, (count, 28, 28), np.uint8))
            files[f"{part}-labels-idx1-ubyte"] = idx_bytes(rng.integers(0, 10, count, np.uint8))
        _install(root, name, files, monkeypatch)
    rows = rng.integers(0, 256, (80, 3073), np.uint8)
    rows[:, 0] %= 10
    names = list(sources.CIFAR10.digests)
    cifar = {name: rows[i * 12 : (i + 1) * 12].tobytes() for i, name in enumerate(names[:5])}
    _install(root, "CIFAR10", {**cifar, names[5]: rows[60:].tobytes()}, monkeypatch)
    monkeypatch.setenv("BPFC_DATA", str(root))
    return root


COUNT = 40  # digits that audits look at


@pytest.fixture(scope="module")
def shown(digits: DataSet) -> tuple[Tensor, Tensor]:
    """The digits that audits look at, and their labels."""
    return digits.test.pixels[:COUNT], digits.test.labels[:COUNT]


def idx_bytes(array: np.ndarray) -> bytes:
    header = b"\x00\x00\x08" + bytes([array.ndim])
    return header + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def _install(root: Path, name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    source = replace(getattr(sources, name), digests=digests, system=None)
    for module in (sources, data_sets):
        monkeypatch.setattr(module, name, source)
    folder = root / source.folder
    folder.mkdir(parents=True)
    for file, content in files.items():
        if name == "CIFAR10":
            (folder / file).write_bytes(content)
        else:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content))


def network_with_modes() -> nn.Module:
    """With BatchNorm: making adversaries in the wrong mode changes them, or the running statistics."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10), nn.ReLU()
    )


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(6, 1, 28, 28), torch.randint(0, 10, (6,))
