from pathlib import Path

import pytest
from PIL import Image

from bpfc.data import DataError, load_images


def test_pictures_that_cannot_be_taken(tmp_path: Path) -> None:
    def refuse(message: str, path: Path) -> None:
        with pytest.raises(DataError, match=message):
            load_images(path)

    refuse("nothing: must be a folder with one folder of pictures a class, or an .npz file", tmp_path / "nothing")
    folder = tmp_path / "f"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    refuse("2 classes, 0 pictures", folder)
    Image.new("RGB", (4, 5)).save(folder / "a" / "1.png")
    Image.new("L", (4, 5)).save(folder / "b" / "2.png")
    refuse(r"2.png: 5×4 with 1 channels, but 1.png is 5×4 with 3", folder)
    (folder / "b" / "2.png").write_bytes(b"no picture")
    refuse("2.png: not a picture", folder)


def test_classes_are_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for shade in (10, 20):
            Image.new("L", (4, 5), shade + label).save(tmp_path / name / f"{shade}.png")
    images = load_images(tmp_path)
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.pixels.shape == (4, 1, 5, 4)
    assert images.pixels[:, 0, 0, 0].tolist() == [10, 20, 11, 21]
