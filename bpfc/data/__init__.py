"""Data sets: which there are, where their files come from, batches on the device."""

from bpfc.data.batches import crop_and_flip, epoch_batches, to_float
from bpfc.data.formats import DataError
from bpfc.data.sets import DATA_SETS, DataSet, Images, load, load_images, split

__all__ = [
    "DATA_SETS",
    "DataError",
    "DataSet",
    "Images",
    "crop_and_flip",
    "epoch_batches",
    "load",
    "load_images",
    "split",
    "to_float",
]
