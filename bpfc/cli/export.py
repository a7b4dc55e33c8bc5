"""Verb `export`: a run -> a format that others read."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bpfc.options import DataFolder, read_words

Format = Literal["onnx", "torchscript", "hub", "robustbench", "tensorboard"]


@dataclass(frozen=True)
class Export:
    """Write the network of a run in a format that others read."""

    run: tyro.conf.Positional[Path]
    """Folder that bpfc train wrote."""
    to: Annotated[
        Format,
        tyro.conf.arg(
            help="onnx, torchscript: a graph, checked on 100 images; hub: a Hugging Face "
            "folder with its model card; robustbench: an entry for RobustBench; "
            "tensorboard: the training's curves and the weights."
        ),
    ]
    out: Path | None = None
    """Folder for what is written; RUN/export-FORMAT unless given."""
    model: str | None = None
    """The run's network, if it is not bpfc's and you trust its code."""
    data: str | None = None
    """Where the run's own data lies now."""
    data_dir: DataFolder = None
    name: str = ""
    """Of the RobustBench entry: title of the paper."""
    authors: str = ""
    """Likewise."""
    link: str = ""
    """Likewise."""
    venue: str = ""
    """Likewise."""


def parse(arguments: list[str]) -> Export:
    return read_words(Export, "bpfc export", arguments)


def main(options: Export) -> None:
    """The verb: write, and say what was written."""
    for line in run(options):
        print(line)


def run(options: Export) -> list[str]:
    """Exports by the options; gives back what to tell, a line each.

    Raises:
        ValueError, DataError, RunError, UserError, OSError: it cannot be had in that format.
    """
    from bpfc.cli.subjects import vouched
    from bpfc.data import to_float
    from bpfc.exporting import export_hub, export_onnx, export_robustbench, export_tensorboard, export_torchscript
    from bpfc.exporting.graphs import CHECKED
    from bpfc.report.page.records import read_run
    from bpfc.training.run import Run
    from bpfc.training.run_data import data_of

    out = options.out or options.run / f"export-{options.to}"
    found = Run(options.run)
    (network,) = vouched([found], () if options.model is None else (options.model,))
    data = data_of(found, options.data_dir, options.data)
    model = found.model(data, network)
    if options.to in ("onnx", "torchscript"):
        images = to_float(data.test[:CHECKED].pixels)
        path = out / ("model.onnx" if options.to == "onnx" else "model.torchscript.pt")
        write = export_onnx if options.to == "onnx" else export_torchscript
        difference = write(model, images, path)
        return [f"{path}: logits as the network's to {difference:.1e} on {len(images)} test images"]
    if options.to == "tensorboard":
        epochs = export_tensorboard(found.log, model, out)
        return [f"{out}: {epochs} epochs; look with: tensorboard --logdir {shlex.quote(str(out))}"]
    record = read_run(options.run)
    if options.to == "hub":
        shape = {"channels": data.channels, "classes": data.classes, "size": data.size}
        lacking = export_hub(record, shape, data.class_names, out)
        return [f"{out}: ready for huggingface-cli upload"] + [f"The card has {line}" for line in lacking]
    names = {name: getattr(options, name) for name in ("name", "authors", "link", "venue")}
    path = export_robustbench(record, model, out, names)
    empty = [f"--{name}" for name, value in names.items() if not value]
    return [f"{path}, with its model file"] + ([f"Left empty: {', '.join(empty)}"] if empty else [])
