"""The folder that a training leaves. No other room knows a file's name in it, but for the page's.

RUN/recipe.json, data.json   the effective recipe, precision included; which data of somebody's own (run_data.py)
RUN/provenance.json          for each start of the run: command, commit, versions, hardware
RUN/log.jsonl                a row an epoch
RUN/model.safetensors        the selected weights so far
RUN/checkpoint-0012/         everything after 12 epochs: written under another name, then renamed
    state.json               epochs done, what is selected, the log, and the digests of recipe and tensors
    *.safetensors            weights, the optimizer's memory, averaged and selected weights
RUN/evaluation…/             evaluations of the selected weights; see bpfc.ledger
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bpfc.data import DATA_SETS, DataSet
from bpfc.errors import UserError
from bpfc.files import (
    SUMMARY,
    flush_folder,
    read_json,
    read_jsonl,
    with_checksum,
    write_file,
    write_json,
    write_jsonl,
)
from bpfc.machine import precision_of
from bpfc.models import build, is_code, kept_as, lay_out
from bpfc.options import Arithmetic
from bpfc.training.recipe import Recipe, recipe_from, recipe_json
from bpfc.training.state import State, read_state
from bpfc.weights import digest, load_tensors, save_tensors

EVALUATION, CERTIFICATION = "evaluation", "certification"
"""Folders in a run for what is found of its selected weights, unless told otherwise."""


class RunError(UserError):
    """A run's folder is not what it should be; the message says what is wrong and the way out."""


@dataclass(frozen=True)
class Run:
    """A training's folder: its recipe, states, log, weights and evaluations."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def exists(self) -> bool:
        """Whether a training was begun in the folder."""
        return self._recipe_file.is_file()

    @property
    def weights(self) -> Path:
        """The selected weights."""
        return self.folder / "model.safetensors"

    @property
    def data_file(self) -> Path:
        """What is known of somebody's own data; see run_data.py."""
        return self.folder / "data.json"

    @property
    def digest(self) -> str:
        """SHA-256 of the selected weights' file.

        Raises:
            RunError: there are no weights yet.
        """
        self._require_weights()
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    @property
    def log(self) -> list[dict[str, Any]]:
        """A row for each epoch so far."""
        return read_jsonl(self._log_file)

    @property
    def precision(self) -> Arithmetic | None:
        """In which it was begun; None where there is no run yet."""
        return precision_of(self._recipe_file)

    @property
    def devices(self) -> set[str]:
        """Names of the processors that it was trained on; none where that is not kept."""
        return {start["hardware"]["device"] for start in self.starts()}

    def starts(self) -> list[dict[str, Any]]:
        """The provenance of each start: command, commit, versions, hardware; none where that is not kept."""
        return read_json(self._starts_file, list) if self._starts_file.exists() else []

    def evaluations(self) -> list[dict[str, Any]]:
        """The summaries of the evaluations in the folder, of whichever weights."""
        found = [read_json(path) for path in sorted(self.folder.glob(f"*/{SUMMARY}"))]
        return [summary for summary in found if {"clean", "attacks"} <= summary.keys()]

    def settings(self) -> dict[str, Any]:
        """The recipe as it stands in its file, by the names of the version that wrote it.

        Raises:
            RunError: the folder holds no run, or the file cannot be read.
        """
        if not self.exists:
            raise RunError(f"{self.folder}: holds no run (no recipe.json); name a folder that bpfc train wrote")
        try:
            return read_json(self._recipe_file)
        except ValueError as error:
            raise RunError(f"{error}; or train the run again") from error

    def recipe(self) -> Recipe:
        """The recipe.

        Raises:
            RunError: the folder holds no run, or its recipe cannot be read.
        """
        content = self.settings()
        try:
            return recipe_from(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{self._recipe_file}: not a recipe of this version ({error!r}); train it again") from error

    def begin(self, recipe: Recipe, precision: Arithmetic, provenance: Mapping[str, Any]) -> None:
        """Writes the recipe, where there is none yet, and adds this start to the provenance.

        Raises:
            RunError: a run of other settings was begun in the folder, or its recipe is gone.
        """
        if self.exists:
            before, now = recipe_json(self.recipe(), self.precision), recipe_json(recipe, precision)
            if recipe.data not in DATA_SETS and self.data_file.exists():  # known by its content, wherever it lies now
                before["data"] = recipe.data
            if changed := [name for name in now if before.get(name) != now[name]]:
                told = "; ".join(f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in changed)
                raise RunError(
                    f"{self.folder}: started with other settings ({told}); give the same ones or choose another --out"
                )
        elif self.has_states:
            raise self.lacks("recipe.json")
        else:
            write_json(self._recipe_file, recipe_json(recipe, precision))
        write_json(self._starts_file, [*self.starts(), dict(provenance)])

    @property
    def has_states(self) -> bool:
        """Whether there is a state to go on from."""
        return bool(self._states())

    def lacks(self, name: str) -> RunError:
        """What is wrong with a state whose file of that name, which says of what it is one, is gone."""
        return RunError(f"{self._states()[-1]}: a state without its {name}; put that back or choose another --out")

    def check_trust(self, trusted: str | None) -> None:
        """Raises RunError where the network is code, and not that which may be imported; or where there is no run."""
        network = self.recipe().network
        if is_code(network) and network != trusted:
            raise RunError(
                f"{self.folder}: its network {network} is not bpfc's, and importing it runs code; if you trust that "
                f"code, say so with --model {network}"
            )

    def model(self, data: DataSet, trusted: str | None = None) -> nn.Module:
        """The selected network, in eval mode, on the CPU.

        Args:
            data: the data set that it was trained on.
            trusted: the network that may be imported, if the recipe names one outside bpfc.

        Raises:
            RunError: there are no weights yet, they are damaged or belong to another network, or the network is code
                that nobody has vouched for.
        """
        recipe = self.recipe()
        self.check_trust(trusted)
        self._require_weights()
        model = build(kept_as(recipe.network), channels=data.channels, classes=data.classes, size=data.size)
        try:
            weights = load_tensors(self.weights)
            model.load_state_dict(weights)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            wrong = f"{self.weights}: not the weights of {recipe.network} on {data.name} ({reason})"
            raise RunError(f"{wrong}; put the file of this run back or train it again") from error
        if self._selected_digest() not in (None, digest(weights)):
            raise RunError(
                f"{self.weights}: not the weights that {self._states()[-1]} has selected; bring these back with bpfc "
                "train --resume, or take the state away"
            )
        lay_out(model, data.test.shape[1:])
        return model.eval()

    def save(self, state: State) -> None:
        """Writes the state after an epoch, then what follows from it; removes older states."""
        folder = self.folder / f"checkpoint-{state.epochs_done:04d}"
        temporary = self.folder / f".{folder.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        state.write(temporary, self._recipe_digest())
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        flush_folder(self.folder)
        self.follow(state)

    def load(self) -> State | None:
        """The newest state, on the CPU; None if there is none yet.

        Raises:
            RunError: the state is damaged, or another recipe's.
        """
        states = self._states()
        if not states:
            return None
        if ((folder := states[-1]) / "state.pt").exists():
            raise RunError(f"{folder}: a state of an earlier version; train anew, into another --out")
        try:
            return read_state(folder, self._recipe_digest())
        except ValueError as error:
            raise RunError(
                f"{folder}: cannot be gone on from: {error}; put it back, or delete {self.folder} to start anew"
            ) from error

    def follow(self, state: State) -> None:
        """Brings log and selected weights in accord with the state and removes older ones, lest a kill came before.

        The log comes last: where it tells all epochs, nothing is left to do.
        """
        if not self.weights.exists() or _digest_of(self.weights) != digest(state.selected):
            save_tensors(self.weights, state.selected)
        for older in self._states():
            if older.name != f"checkpoint-{state.epochs_done:04d}":
                shutil.rmtree(older)
        write_jsonl(self._log_file, [with_checksum(row) for row in state.log])

    def copy(self, folder: Path) -> None:
        """Copies what the training found, without states and evaluations; the recipe last, so that a copy is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in (self._starts_file, self._log_file, self.weights, self.data_file, self._recipe_file):
            if file.exists():
                write_file(folder / file.name, file.read_bytes())

    def _states(self) -> list[Path]:
        found = [path for path in self.folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d{4,}", path.name)]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    @property
    def _recipe_file(self) -> Path:
        return self.folder / "recipe.json"

    @property
    def _starts_file(self) -> Path:
        return self.folder / "provenance.json"

    @property
    def _log_file(self) -> Path:
        return self.folder / "log.jsonl"

    def _selected_digest(self) -> str | None:
        """Of the weights that the newest state has selected; None without one. Who goes on from it checks the rest."""
        try:
            return str(read_json(self._states()[-1] / "state.json")["tensors_sha256"]["selected"])
        except (IndexError, ValueError, KeyError, TypeError):
            return None

    def _recipe_digest(self) -> str:
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()

    def _require_weights(self) -> None:
        if not self.weights.is_file():
            commands = [start["command"] for start in self.starts() if "command" in start]
            again = f" with {commands[0]}" if commands else f" with the settings in {self._recipe_file}"
            raise RunError(
                f"{self.weights}: no weights; where the run ended before its first epoch, go on with bpfc train "
                f"--resume; where they were not kept, train it again{again}"
            )


def runs_in(folder: Path) -> list[Run]:
    """The runs in a folder of runs, by name. A folder that is not there holds none."""
    return [Run(path.parent) for path in sorted(folder.glob("*/recipe.json"))]


def _digest_of(path: Path) -> str | None:
    """Of the tensors in a file; None if it cannot be read."""
    try:
        return digest(load_tensors(path))
    except ValueError:
        return None
