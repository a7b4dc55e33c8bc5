"""Pieces of work done one after the other, or side by side in processes of their own."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bpfc.cli.jobs import BlackBox, DeviceName, Job
from bpfc.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def do(
    jobs: Sequence[Job | BlackBox], processes: int, device: DeviceName, data_dir: Path | None, console: "Console"
) -> list[str]:
    """Does the pieces of work. One that fails does not stop the others, however it does; gives back a line for each.

    With one process they are done here, one after the other. With several the trainings come first, side by side, each
    with its output in a file beside its folder, and the black-box evaluations after them.
    """
    failed: list[str] = []
    if processes == 1:
        for number, job in enumerate(jobs, start=1):
            _say(console, f"{number}/{len(jobs)} {job.told}")
            try:
                job.do(device, data_dir)
            except Exception as error:
                failed.append(_failed(job, _told(error), console))
        return failed
    first = [job for job in jobs if isinstance(job, Job)]
    for batch in (first, [job for job in jobs if not isinstance(job, Job)]):
        failed += _side_by_side(batch, processes, device, data_dir, console)
    return failed


class _Running(NamedTuple):
    """A piece of work in a process, at one of the places that there are, and where its last words are heard."""

    job: Job | BlackBox
    place: int
    work: multiprocessing.process.BaseProcess
    hears: Connection


def _side_by_side(
    jobs: Sequence[Job | BlackBox], processes: int, device: DeviceName, data_dir: Path | None, console: "Console"
) -> list[str]:
    """A process for each piece of work, so that one that is killed, as for its memory, takes no other with it."""
    spawn = multiprocessing.get_context("spawn")
    processes = min(processes, len(jobs))
    done, failed, waiting, free = 0, [], list(jobs), list(range(processes))
    running: dict[int, _Running] = {}
    try:
        while waiting or running:
            while waiting and free:
                job, place = waiting.pop(0), free.pop(0)
                hears, says = spawn.Pipe(duplex=False)
                given = (job, device, data_dir, place, processes, os.getpid(), says)
                begun = spawn.Process(target=_apart, args=given)
                begun.start()
                says.close()  # so that its end is heard here when the process is gone
                running[begun.sentinel] = _Running(job, place, begun, hears)
                _say(console, f"begun: {job.told}; its output is in {_log(job)}")
            ended = wait(list(running))
            for job, place, work, hears in [running.pop(each) for each in list(running) if each in ended]:
                work.join()
                free.append(place)
                if work.exitcode == 0:
                    done += 1
                    _say(console, f"{done}/{len(jobs)} done: {job.told}")
                else:
                    failed.append(_failed(job, _last_words(hears, work.exitcode), console))
                hears.close()
    finally:
        for each in running.values():
            each.work.terminate()
            each.work.join()
    return failed


def _apart(
    job: Job | BlackBox,
    device: DeviceName,
    data_dir: Path | None,
    place: int,
    processes: int,
    parent: int,
    says: Connection,
) -> None:
    """A piece of work in a process of its own, whose words go to a file; what went wrong is sent, as a line."""
    _settle(place, processes, parent)
    _log(job).parent.mkdir(parents=True, exist_ok=True)
    with _log(job).open("a") as file, redirect_stdout(file):
        try:
            job.do(device, data_dir)
        except Exception as error:
            traceback.print_exc(file=file)
            says.send(_told(error))
            raise SystemExit(1) from None


def _settle(place: int, processes: int, parent: int) -> None:
    """A process takes its GPU, if there are several, and its share of the cores; it ends with the one that began it."""
    import torch

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if (count := torch.cuda.device_count()) > 1:  # before anything else looks at them
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % count]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a kill would else leave it at work, with the folders in its hands."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # states and ledgers are whole at any moment


def _last_words(hears: Connection, exitcode: int | None) -> str:
    """What a process said went wrong, or how it ended without a word."""
    try:
        return str(hears.recv())
    except EOFError:
        if exitcode == -signal.SIGKILL:
            return "its process was killed, as it is where memory runs out; fewer --jobs take less"
        return f"its process ended with status {exitcode}"


def _told(error: Exception) -> str:
    """In a line; of an error that nobody foresaw, its kind too."""
    foreseen = isinstance(error, UserError | ValueError | OSError)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def _log(job: Job | BlackBox) -> Path:
    return job.folder.with_suffix(".log")


def _failed(job: Job | BlackBox, told: str, console: "Console") -> str:
    line = f"{job.folder.name}: {told}"
    console.print(f"failed: {line}", style="red", markup=False, highlight=False, soft_wrap=True)
    return line


def _say(console: "Console", line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
