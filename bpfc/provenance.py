"""Which code, versions and hardware made a result: what is written beside every figure."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch


def provenance(device: torch.device) -> dict[str, object]:
    """Command, commit, versions, hardware and time, ready for JSON."""
    return {
        "command": shlex.join(["bpfc", *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {
            "bpfc": version("bpfc"),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "hardware": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": int(os.environ.get("WORLD_SIZE", "1")),
        },
    }


def _commit() -> str:
    """The commit of the checkout that this code is run from, with '+changes' if it has any; or 'not a checkout'."""
    here, name = Path(__file__).resolve().parent, Path(__file__).name
    try:
        _git(here, "ls-files", "--error-unmatch", name)  # else the checkout around an environment would count
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
