"""A training's curves and weights for TensorBoard."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bpfc.errors import UserError
from bpfc.files import make_writable_folder

SUFFIX = ".bpfc"
"""Of the event files of an export, by which the next one knows them from those of others."""


def export_tensorboard(log: Iterable[Mapping[str, Any]], model: nn.Module, folder: Path) -> int:
    """An event file: each number of the log by epoch from 1, and a histogram of each of the model's parameters.

    Args:
        log: a row an epoch, as bpfc train writes it.
        model: the selected network; its histograms stand at the epoch that the log's last row says was selected.
        folder: made if need be; an event file of an earlier export goes, because TensorBoard would draw both.

    Returns:
        The number of epochs.

    Raises:
        UserError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(f"--to tensorboard: {error.name} is not installed; pip install 'bpfc[export]'") from error
    make_writable_folder(folder)
    for path in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        path.unlink()
    epochs, selected = 0, 0
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for row in log:
            epochs = row["epoch"] + 1
            selected = row.get("selected_epoch", row["epoch"]) + 1
            for name, value in row.items():
                if name not in ("epoch", "selected_epoch") and value is not None:
                    writer.add_scalar(name, value, epochs)
        for name, weights in model.named_parameters():
            writer.add_histogram(name.replace(".", "/"), weights.detach().float().cpu().numpy(), selected)
    return epochs
