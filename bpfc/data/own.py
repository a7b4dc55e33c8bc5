"""Images of one's own: pictures a class, shards of them, or arrays; with a part to test on, or without.

PATH/ant/1.png PATH/bee/2.png …              pictures by class
PATH/train/ant/1.png PATH/val/ant/2.png …    the same, with a part to test on (val, valid, validation, dev, test)
PATH/train-0000.tar PATH/val-0000.tar …      WebDataset's shards; see bpfc.data.shards
PATH/data/train-….parquet …                  a Hugging Face data set on disk; see there
PATH.npz, or PATH/train.npz PATH/val.npz     arrays; see bpfc.data.npz
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bpfc.data.folders import by_name, list_folder
from bpfc.data.formats import DataError, numbered
from bpfc.data.images import AnyImages, Images, out_of_range, pictures
from bpfc.data.npz import load_npz
from bpfc.data.shards import list_parquet, list_tar, relabelled, shards
from bpfc.options import Reading

Place = Path | list[Path]
"""A folder or a file, or some shards."""
TEST = ("val", "validation", "test")
"""What the part to test on may be called."""
OTHERWISE = ("valid", "dev")
"""And where there is none of these."""


@dataclass(frozen=True)
class Own:
    """What was found at a path.

    Attributes:
        train: all images, where `test` is None.
        test: the part to test on, where there is one.
        classes: their names, in the order of the labels.
    """

    train: AnyImages
    test: AnyImages | None
    classes: tuple[str, ...]

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of pictures that cannot be read and were left out."""
        return self.train.skipped + (() if self.test is None else self.test.skipped)


def load_own(path: Path, reading: Reading) -> Own:
    """Whatever of the above lies at a path.

    Raises:
        DataError: there is nothing there, or it is not as above; the message names it.
    """
    parts = _parts(path)
    if parts is None:
        images, classes = _load(path, reading, None)
        return Own(images, None, classes)
    train, classes = _load(parts[0], reading, None)
    test, found = _load(parts[1], reading, classes)
    if isinstance(test, Images) and len(found) > len(classes):
        raise DataError(f"{parts[1]}: holds class {found[-1]}, which {parts[0]} has not; put it into both")
    return Own(train, test, classes)


def takes_folders(path: Path) -> bool:
    """Whether each folder in it is a class: pictures that are neither in shards nor in parts to train and to test on.

    Raises:
        DataError: as `load_own`.
    """
    return path.is_dir() and _parts(path) is None and not dict(shards(path))


def _parts(path: Path) -> tuple[Place, Place] | None:
    """The part to train on and that to test on, if they are told apart."""
    for ending in ("", ".npz"):
        train = path / f"train{ending}"
        tests = _there(path, TEST, ending) or _there(path, OTHERWISE, ending)
        if train.exists() and tests:
            _check_one(path, [test.name for test in tests])
            return train, tests[0]
    of_train = dict(shards(path, "train"))
    for kind, files in of_train.items():
        names = _named(path, kind, TEST) or _named(path, kind, OTHERWISE)
        if names:
            _check_one(path, list(names))
            return files, next(iter(names.values()))
        if others := [file for file in dict(shards(path))[kind] if file not in files]:
            raise DataError(
                f"{others[0]}: is neither of train, as {files[0].name} is, nor of a part to test on; begin its name "
                f"with train or one of {', '.join((*TEST, *OTHERWISE))}, or move it away"
            )
    return None


def _there(path: Path, names: Sequence[str], ending: str) -> list[Path]:
    return [each for name in names if (each := path / f"{name}{ending}").exists()]


def _named(path: Path, kind: str, names: Sequence[str]) -> dict[str, list[Path]]:
    """Shards of a kind that are called so, by the name that they begin with."""
    return {name: found[kind] for name in names if kind in (found := dict(shards(path, name)))}


def _check_one(path: Path, tests: list[str]) -> None:
    if len(tests) > 1:
        raise DataError(f"{path}: holds {tests[0]} and {tests[1]}; keep the one to test on there")


def _load(place: Place, reading: Reading, known: tuple[str, ...] | None) -> tuple[AnyImages, tuple[str, ...]]:
    """Images and the names of their classes; labels by the classes that are `known`, if given."""
    path = place if isinstance(place, Path) else place[0]
    files = place if isinstance(place, list) else next((found for _, found in shards(place)), [])
    if files:
        classes, items, labels = list_tar(files) if files[0].suffix == ".tar" else list_parquet(files)
        if known is not None:
            labels = relabelled(path, labels, classes, "the part to train on", known)
        return pictures(items, labels, reading), classes
    if path.is_dir():
        if arrow := by_name(path.glob("*.arrow")):
            raise DataError(f"{arrow[0]}: Arrow, as save_to_disk leaves it; save each part as parquet (to_parquet)")
        inside = by_name(path.iterdir())
        if (arrays := [each.name for each in inside if each.suffix == ".npz"]) and not any(map(Path.is_dir, inside)):
            tests = ", ".join(f"{name}.npz" for name in (*TEST, *OTHERWISE))
            lacks = f"none of {tests}" if "train.npz" in arrays else "no train.npz"
            raise DataError(
                f"{path}: holds {', '.join(arrays)}, but {lacks}; put the part to train on into train.npz and that to "
                f"test on into val.npz, or name {path / arrays[0]} itself"
            )
        names, items, labels = list_folder(path, least=2 if known is None else 1)
        if known is not None:
            if strange := sorted(set(names) - set(known)):
                raise DataError(f"{path / strange[0]}: a class that is not among those to train on; put it into both")
            labels = [known.index(names[label]) for label in labels]
        found = pictures(items, labels, reading)
        return found[_mixed(found.labels)], tuple(names)
    if path.suffix == ".npz" and path.is_file():
        if reading.size is not None or reading.colour is not None:
            raise DataError(f"{path}: --size and --colour are for pictures; make the arrays as they should be")
        images = Images(*load_npz(path))
        if not len(images):
            raise DataError(f"{path}: holds no images; fill it")
        if images.dtype == torch.float32 and (told := out_of_range(images.pixels)):
            raise DataError(f"{path}: {told}")
        return images, numbered(path, int(images.labels.min()), int(images.labels.max()))
    raise DataError(f"{path}: must be a folder with one folder of pictures a class, of shards, or an .npz file")


def _mixed(labels: Tensor) -> Tensor:
    """An order (N,) of images in which each class is spread evenly over the whole, and otherwise as they were.

    Folders come class by class, but an audit, or an evaluation with a limit, takes the first images: they must hold the
    classes in about the proportions of the whole.
    """
    counts, by_class = labels.bincount(), labels.argsort(stable=True)
    place = torch.empty_like(labels)
    place[by_class] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return ((place.double() + 0.5) / counts[labels]).argsort(stable=True)
