"""Which arithmetic `--precision auto` means."""

import json
import sys
from importlib import reload
from pathlib import Path
from typing import Literal

import pytest
import torch

from bpfc import machine

CPU = torch.device("cpu")


@pytest.mark.parametrize(("fp32", "bf16", "expected"), [(2.0, 1.0, "bf16"), (1.1, 1.0, "fp32"), (1.0, 1.5, "fp32")])
def test_auto_on_a_cpu_is_what_is_clearly_faster_there(
    fp32: float, bf16: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_seconds", {"fp32": fp32, "bf16": bf16}.__getitem__)
    assert machine.resolve("auto", CPU) == expected
    assert machine.resolve("bf16", CPU) == "bf16"


def test_both_precisions_are_timed() -> None:
    assert 0 < machine._seconds("bf16") < 60
    assert machine.resolve("auto", CPU) in ("fp32", "bf16")


@pytest.mark.parametrize("before", ["fp32", "bf16"])
def test_auto_goes_on_in_the_precision_of_the_start(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "recipe.json"
    monkeypatch.setattr(machine, "_seconds", {"fp32": 1.0, "bf16": 1.0}.__getitem__)
    assert machine.resolve("auto", CPU, machine.precision_of(started)) == "fp32"
    started.write_text(json.dumps({"precision": before}))
    assert machine.resolve("auto", CPU, machine.precision_of(started)) == before
    assert machine.resolve("fp32", CPU, machine.precision_of(started)) == "fp32"
    for damaged in ("", "{", "[]", "{}", '{"precision": "int4"}', "[" * 10_000):
        started.write_text(damaged)
        assert machine.precision_of(started) is None


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_float32_on_a_gpu_is_float32(asked: Literal["auto", "cuda"], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # put back at the end
    assert machine.pick_device("cpu") == CPU
    assert torch.backends.cudnn.allow_tf32
    assert machine.pick_device(asked).type == "cuda"
    assert not torch.backends.cudnn.allow_tf32


def test_float32_lasts_until_the_last_thread_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to leave put TF32 back beside the second, which then left it off for good."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    first, second = machine.float32(), machine.float32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32
    second.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32


def test_where_nobody_tells_the_memory_all_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where every verb ended at the import of `resource`."""
    assert machine.peak_memory_mib(CPU) > 10
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    reload(machine)
    assert machine.peak_memory_mib(CPU) == 0
