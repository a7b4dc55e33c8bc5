"""Pictures of one's own: a folder of them for each class."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bpfc.data.decoding import Encoded
from bpfc.data.formats import DataError

PICTURES = (".png", ".bmp", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class File:
    """A picture in a file of its own."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        return self.path.read_bytes()


def by_name(paths: Iterable[Path]) -> list[Path]:
    """What lies in a folder and is not hidden, as .git and macOS's ._1.png are.

    The order is the same on every system: Windows compares paths without their case.
    """
    return sorted((path for path in paths if not path.name.startswith(".")), key=lambda path: path.name)


def list_folder(path: Path, least: int = 2) -> tuple[list[str], list[Encoded], list[int]]:
    """Classes, pictures and their labels, from a folder that holds one folder a class.

    The classes' order by name gives the labels; hidden folders and files are none. There must be at `least` so many of
    them.

    Raises:
        DataError: there is nothing there, or it is not as above; the message names the file.
    """
    classes = by_name(item for item in path.iterdir() if item.is_dir())
    if stray := by_name(file for file in path.iterdir() if file.suffix.lower() in PICTURES and file.is_file()):
        raise DataError(f"{stray[0]}: belongs to no class; put it into a folder for its class, or remove it")
    files = [(file, label) for label, folder in enumerate(classes) for file in _pictures(folder)]
    if len(classes) < least:
        raise DataError(f"{path}: {len(classes)} classes, {len(files)} pictures; must be a folder of pictures a class")
    return [folder.name for folder in classes], [File(file) for file, _ in files], [label for _, label in files]


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a class, by name; whatever else is there is named, for it might have been meant to count."""
    files = by_name(folder.iterdir())
    for file in files:
        if file.is_dir():
            raise DataError(
                f"{file}: a folder inside the class {folder.name}; take it out, or, if {folder.name} holds the "
                f"classes, name {folder} itself, or have both parts beside each other, as train and val"
            )
        if file.suffix.lower() not in PICTURES or not file.is_file():
            what = "not one of " + ", ".join(PICTURES)
            raise DataError(f"{file}: {what}; remove it, or save it in the class's folder as one of these")
    if not files:
        raise DataError(f"{folder}: a class without pictures; it would shift the labels after it; remove or fill it")
    return files
