"""Which commit stands beside a figure."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bpfc import provenance


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_command_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "mnist-bpfc", "--out", "my runs/one", "--eps", "8/255"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/bpfc", *words])
    command = provenance.provenance(torch.device("cpu"))["command"]
    assert command == "bpfc train mnist-bpfc --out 'my runs/one' --eps 8/255"


def test_the_commit_is_that_of_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed into an environment within somebody's own repository, it gave their commit as its own."""
    module = tmp_path / ".venv" / "bpfc" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("code")
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance._commit() == "not a checkout"
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "--message", "theirs")
    assert provenance._commit() == "not a checkout"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "a checkout of ours")
    assert provenance._commit() == git(tmp_path, "rev-parse", "HEAD")
    module.write_text("changed")
    assert provenance._commit() == git(tmp_path, "rev-parse", "HEAD") + "+changes"
