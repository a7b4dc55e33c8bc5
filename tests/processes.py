"""Processes that tests start, each forked from one that has loaded what they need: to load it takes seconds each time.

Else they are what `python` and `torchrun` start, with arguments, an environment and an end of their own. `python`
itself is run by test_cli.py. Of `torchrun` no more is left out than how it reads its words.
"""

import importlib
import multiprocessing
import os
import runpy
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lean
import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bpfc.__main__ import main

lean.load_fabric()

for room in ("auditing", "certification", "training.start", "training.recipes"):
    importlib.import_module(f"bpfc.{room}")

WAITING = ThreadPoolExecutor(1)


def torchrun(processes: int, script: str, *words: str, **environment: str) -> "Future[tuple[bool, str]]":
    """As `torchrun --standalone`: whether all of them ended well, and what they printed.

    Args:
        processes: how many.
        script: a file, or "bpfc".
        words: its arguments.
        environment: on top of this process's.
    """
    ready()
    return WAITING.submit(_launched, processes, script, words, environment)


def _launched(processes: int, script: str, words: tuple[str, ...], environment: dict[str, str]) -> tuple[bool, str]:
    with TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="test",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.1,
            start_method="forkserver",
            logs_specs=DefaultLogsSpecs(logs, redirects=Std.ALL),
        )
        try:
            elastic_launch(config, begin)(script, words, environment)
            well = True
        except ChildFailedError:
            well = False
        return well, "".join(path.read_text() for path in sorted(Path(logs).rglob("std*.log")))


def python(script: str, *words: str, **environment: str) -> ForkServerProcess:
    """As `python -m bpfc` or `python FILE`, begun; what it prints is dropped."""
    ready()
    process = multiprocessing.get_context("forkserver").Process(target=_unheard, args=(script, words, environment))
    process.start()
    return process


def _unheard(*what: Any) -> None:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        begin(*what)


@cache
def ready() -> None:
    """Starts the process that the others are forked from."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # where it looks for this file
    forkserver.set_forkserver_preload([__name__])
    forkserver.ensure_running()
    os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)


def begin(script: str, words: tuple[str, ...], environment: dict[str, str]) -> None:
    """What such a process does."""
    os.environ.update(environment)
    torch.seed()  # by the clock, as each process is; what they are forked from was, once for all
    sys.argv = [script, *words]
    if script == "bpfc":
        main()
    else:
        runpy.run_path(script, run_name="__main__")
