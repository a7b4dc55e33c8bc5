"""A network in a folder of its own: config.json says how it is built, model.safetensors holds its weights."""

from pathlib import Path
from typing import Any

from torch import nn

from bpfc.files import read_json, write_plain_json
from bpfc.models.libraries import is_code
from bpfc.models.outside import load_weights

BUILD = ("network", "channels", "classes", "size")
"""What config.json must say; what else it says is for people."""


def write_config(folder: Path, config: dict[str, Any]) -> None:
    write_plain_json(folder / "config.json", config)


def from_folder(folder: Path | str, trusted: str | None = None) -> nn.Module:
    """The network in a folder that `bpfc export RUN --to hub` wrote, in eval mode, on the CPU.

    From float32 images (N, channels, size, size) in [0, 1] to logits (N, classes).

    Args:
        folder: with config.json and model.safetensors.
        trusted: the network that may be imported, as package.module:function, if config.json names one outside bpfc.

    Raises:
        ValueError: the folder holds no such network, or one that is somebody's code and not trusted.
    """
    from bpfc.models import build  # which lists this one

    folder = Path(folder)
    config = read_json(folder / "config.json")
    if lacking := [name for name in BUILD if name not in config]:
        raise ValueError(f"{folder / 'config.json'}: does not say {lacking[0]}; export the network again")
    network = str(config["network"])
    if is_code(network) and network != trusted:
        raise ValueError(f"{folder}: its network {network} is code outside bpfc; if you trust it, name it as trusted")
    model = build(network, **{name: int(config[name]) for name in BUILD[1:]})
    load_weights(model, folder / "model.safetensors")
    return model.eval()
