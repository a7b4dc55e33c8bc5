"""`bpfc …` in a fork of this process: its exit status, what it says, and what can befall it on the way."""

import fcntl
import os
import resource
import shlex
import signal
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from bpfc.__main__ import main as bpfc_main

PATIENCE = 60
"""Seconds of computing after which a verb counts as hanging; or ten times as many of waiting, on a busy machine."""
ROOM = 4 * 2**30
"""Bytes of address space beyond this process's own; who needs more fails."""
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}
"""Audit events of operations that change what is on disk, besides opening a file to write."""


_SAID = [""]


def call(line: str, *, seconds: float | None = None, operation: int | None = None, size: int | None = None) -> int:
    """Runs `bpfc LINE` in a fork; gives back its exit status.

    Args:
        line: verb and options.
        seconds: kill it after so many.
        operation: let it kill itself right before its n-th operation on files.
        size: bytes beyond which no file may grow, as on a full disk.
    """
    reads, writes = os.pipe()  # no file, so that a full disk does not touch it
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 2**20)
    child = os.fork()
    if child == 0:
        _in_the_fork(line, writes, operation, size)
    os.close(writes)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(reads, "rb") as stream:
        _SAID[0] = stream.read().decode(errors="replace")
    return status


def said() -> str:
    """What the last call said on stderr, without the folders of this machine."""
    here = str(Path(__file__).parents[2])
    return _SAID[0].replace(sysconfig.get_path("purelib"), "site-packages").replace(here, ".")


def is_told(status: int) -> bool:
    """Whether the last call ended as an error should: exit status 2, and one line."""
    return status == 2 and said().startswith("bpfc: error: ") and said().count("\n") == 1


def ended(status: int) -> bool:
    """Whether the last call came to its end: an audit of few images stays open."""
    return status in (0, 3)


def operations(line: str) -> int:
    """How many operations on files `bpfc LINE` makes."""
    assert ended(call(line, operation=10**9)), said()
    return int(Path("operations").read_text())


def _in_the_fork(line: str, stderr: int, operation: int | None, size: int | None) -> None:
    """The verb as the command line does it; never returns."""
    code, counted = 1, [0]
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.dup2(stderr, sys.stderr.fileno())
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        signal.alarm(10 * PATIENCE)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        if operation is not None:
            counted = _kill_before(operation)
        sys.argv = ["bpfc", *shlex.split(line)]
        bpfc_main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        if operation is not None:
            Path("operations").write_text(str(counted[0]))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _kill_before(operation: int) -> list[int]:
    """Has this process kill itself right before its n-th operation on files; gives back where they are counted.

    Whatever comes first after a rename counts too, so that a kill can come right after each.
    """
    count, renamed = [0], [False]

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        after, renamed[0] = renamed[0], event == "os.rename"
        if writes or after or event in CHANGES:
            count[0] += 1
            if count[0] == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)
    return count
