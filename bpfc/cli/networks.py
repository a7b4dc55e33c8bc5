"""Verb `networks`: the networks by name, with what each costs, counted."""

from dataclasses import dataclass

from bpfc.options import read_words

SHAPES = {"mnist, fashion-mnist": (1, 28), "cifar-10": (3, 32)}
"""Channels and size of the images of each kind of data set; all have 10 classes."""


@dataclass(frozen=True)
class Networks:
    """List the networks with their parameters and multiply-adds an image.

    --network also takes timm:NAME, torchvision:NAME and package.module:function.
    """


def parse(arguments: list[str]) -> Networks:
    return read_words(Networks, "bpfc networks", arguments)


def main(_: Networks) -> None:
    """The verb: print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("network", "data", "parameters", "multiply-adds"):
        table.add_column(column, justify="left" if column in ("network", "data") else "right")
    for name, data, count, work in costs():
        table.add_row(name, data, f"{count:,}", f"{work:,}")
    Console().print(table)


def costs() -> list[tuple[str, str, int, int]]:
    """(network, data sets, parameters, multiply-adds an image) for every network and data set that go together."""
    from bpfc.models import NETWORKS, build
    from bpfc.models.cost import multiply_adds, parameters

    found = []
    for name in NETWORKS:
        for data, (channels, size) in SHAPES.items():
            try:
                model = build(name, channels=channels, classes=10, size=size)
            except ValueError:  # the network is not for images of that size
                continue
            found.append((name, data, parameters(model), multiply_adds(model, channels, size)))
    return found
