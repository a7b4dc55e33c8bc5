"""Data sets: which there are, where their files come from, batches on the device."""

from bpfc.data.batches import alternating_flips, crop_and_flip, epoch_batches, shrink, to_float
from bpfc.data.blocks import Block, blocks, each_block, parts_of
from bpfc.data.formats import DataError
from bpfc.data.images import AnyImages, Images, Pictures, in_blocks, in_parts, out_of_range, told_of
from bpfc.data.sets import DATA_SETS, DataSet, load, load_images, split
from bpfc.data.units import check_units

__all__ = [
    "DATA_SETS",
    "AnyImages",
    "Block",
    "DataError",
    "DataSet",
    "Images",
    "Pictures",
    "alternating_flips",
    "blocks",
    "check_units",
    "crop_and_flip",
    "each_block",
    "epoch_batches",
    "in_blocks",
    "in_parts",
    "load",
    "load_images",
    "out_of_range",
    "parts_of",
    "shrink",
    "split",
    "to_float",
    "told_of",
]
