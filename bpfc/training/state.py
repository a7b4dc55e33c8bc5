"""What a killed training needs to go on, in a folder of its own; see bpfc.training.run for its files.

On a CPU it goes on to the bit. On a GPU, where it has not been tried, to rounding: cuDNN may choose backwards that sum
in another order each time, and nothing here forbids it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bpfc.files import read_json, without_checksum, write_json
from bpfc.weights import all_finite, digest, load_tensors, save_tensors

TENSORS = ("weights", "momentum", "averaged", "selected")
STATE = ("epochs_done", "selected_epoch", "selected_score", "recipe_sha256", "tensors_sha256", "log")
"""What a state holds: tensors, each in a file of its own, and what stands in state.json."""


@dataclass
class State:
    """Everything after an epoch. Random numbers are not in it: they derive from the seed and the epoch."""

    epochs_done: int
    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]
    """The optimizer's memory: NAME.PLACE, with the place of the parameter in the network."""
    averaged: dict[str, Tensor]
    """The moving average of the weights; empty where the recipe takes none."""
    selected: dict[str, Tensor]
    selected_epoch: int
    selected_score: float | None
    """Its accuracy under I-FGSM; None where no epoch may be selected by that yet."""
    log: list[dict[str, Any]]

    def write(self, folder: Path, recipe_sha256: str) -> None:
        """Writes the state into a folder that is there and empty."""
        tensors: dict[str, dict[str, Tensor]] = {name: getattr(self, name) for name in TENSORS}
        for name, values in tensors.items():
            save_tensors(folder / f"{name}.safetensors", values)
        content = {
            "epochs_done": self.epochs_done,
            "selected_epoch": self.selected_epoch,
            "selected_score": self.selected_score,
            "recipe_sha256": recipe_sha256,
            "tensors_sha256": {name: digest(values) for name, values in tensors.items()},
            "log": self.log,
        }
        write_json(folder / "state.json", content)


def read_state(folder: Path, recipe_sha256: str) -> State:
    """The state in a folder, on the CPU.

    Raises:
        ValueError: it is damaged, not that of a sound training, or another recipe's.
    """
    try:
        content = without_checksum(read_json(folder / "state.json"), STATE)
        if content["recipe_sha256"] != recipe_sha256:
            raise ValueError("it was written under another recipe.json")
        tensors = {name: load_tensors(folder / f"{name}.safetensors") for name in TENSORS}
        for name, told in content["tensors_sha256"].items():
            if digest(tensors[name]) != told:
                raise ValueError(f"{name}.safetensors belongs to another state")
        state = State(
            epochs_done=int(content["epochs_done"]),
            selected_epoch=int(content["selected_epoch"]),
            selected_score=None if (score := content["selected_score"]) is None else float(score),
            log=list(content["log"]),
            **tensors,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"state.json is not as it was written ({error!r})") from error
    if state.epochs_done != len(state.log) or not all_finite(state.weights):
        raise ValueError("its log or its weights are not those of a sound training")
    return state
