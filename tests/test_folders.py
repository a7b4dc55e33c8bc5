import warnings
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from PIL import Image

from bpfc.data import DataError, load_images, to_float
from bpfc.data.folders import list_folder
from bpfc.data.shards import shards


def refuse(message: str, path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_images(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two grey pictures each."""
    root = tmp_path / "f"
    for label, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True)
        for shade in (10, 20):
            Image.new("L", (4, 5), shade + label).save(root / name / f"{shade}.png")
    return root


def test_pictures_that_cannot_be_taken(folder: Path, tmp_path: Path) -> None:
    refuse(
        "nothing: must be a folder with one folder of pictures a class, of shards, or an .npz file",
        tmp_path / "nothing",
    )
    Image.new("RGB", (4, 5)).save(folder / "bee" / "30.png")
    refuse(r"30.png: 5×4 with 3 channels of 8 bits, but the first picture is 5×4 with 1", folder)
    (folder / "bee" / "30.png").write_bytes(b"no picture")
    refuse("30.png: not a picture", folder)
    whole = (folder / "bee" / "20.png").read_bytes()
    (folder / "bee" / "30.png").write_bytes(whole[: len(whole) // 2])
    refuse("30.png: not a picture", folder)


def test_classes_are_folders_in_the_order_of_their_names(folder: Path) -> None:
    for hidden in (".git", ".ipynb_checkpoints"):  # F8: they counted as classes, and shifted every label
        (folder / hidden).mkdir()
    (folder / "ant" / ".DS_Store").write_bytes(b"")
    (folder / "features.npz").write_bytes(b"")  # beside classes it is no part to train or to test on
    images = load_images(folder)
    assert images.labels.tolist() == [0, 1, 0, 1]
    assert images.pixels.shape == (4, 1, 5, 4)
    assert images.pixels[:, 0, 0, 0].tolist() == [10, 11, 20, 21]


def test_the_order_of_names_is_the_same_on_every_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows compares paths without their case, which gave other labels there."""
    (folder / "bee").rename(folder / "Bee")
    (folder / "ant" / "20.png").rename(folder / "ant" / "A.png")
    (folder / "ant" / "10.png").rename(folder / "ant" / "a.png")
    monkeypatch.setattr(PurePath, "__lt__", lambda self, other: str(self).lower() < str(other).lower())
    classes, pictures, labels = list_folder(folder)
    assert classes == ["Bee", "ant"]
    assert [Path(picture.name).name for picture in pictures] == ["10.png", "20.png", "A.png", "a.png"]
    assert labels == [0, 0, 1, 1]
    for name in ("train-B.tar", "train-a.tar"):
        (folder / name).touch()
    assert [path.name for path in next(shards(folder, "train"))[1]] == ["train-B.tar", "train-a.tar"]


def test_any_first_images_hold_the_classes_in_their_proportions(folder: Path) -> None:
    """An audit takes the first: by class, they were all of one."""
    for number in range(30, 34):
        Image.new("L", (4, 5), number).save(folder / "bee" / f"{number}.png")
    labels = load_images(folder).labels
    assert labels.bincount().tolist() == [2, 6]
    assert labels[:4].bincount().tolist() == [1, 3]


def test_what_would_be_left_out_is_named(folder: Path) -> None:  # F8
    (folder / "aaa").mkdir()
    refuse("aaa: a class without pictures; it would shift the labels", folder)
    (folder / "aaa").rmdir()
    (folder / "bee" / "more").mkdir()
    refuse("more: a folder inside the class bee; take it out, or, if bee holds the classes, name .*bee itself", folder)
    (folder / "bee" / "more").rmdir()
    Image.new("L", (4, 5)).save(folder / "bee" / "30.gif")
    refuse("30.gif: not one of .png", folder)
    (folder / "bee" / "30.gif").unlink()
    Image.new("L", (4, 5)).save(folder / "30.png")
    refuse("30.png: belongs to no class", folder)


def test_sixteen_bits_keep_their_depth(folder: Path) -> None:  # F9: clipped to 0 and 1
    values = np.arange(20, dtype=np.uint16).reshape(5, 4) * 3000
    for name in ("ant/10.png", "ant/20.png", "bee/10.png", "bee/20.png"):
        Image.fromarray(values).save(folder / name)
    images = load_images(folder)
    assert images.pixels.dtype == torch.uint16
    expected = torch.from_numpy(values.astype(np.float32)) / 65535
    assert torch.equal(to_float(images.pixels)[2, 0], expected)
    assert len(images[torch.tensor([0, 2])].pixels) == 2
    assert images.sha256() != ""
    Image.new("L", (4, 5)).save(folder / "bee" / "30.png")
    refuse("30.png: 5×4 with 1 channels of 8 bits, but the first picture is 5×4 with 1 channels of 16 bits", folder)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "F"])
def test_modes_that_have_no_one_meaning(mode: str, folder: Path) -> None:
    name = folder / "bee" / ("30.png" if mode in ("RGBA", "LA") else "30.tiff")
    Image.new(mode, (4, 5)).save(name)
    refuse(f"a picture of mode {mode}, or with transparency; save it as plain grey or RGB", folder)


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_several_pictures_in_a_file(kind: str, folder: Path) -> None:  # the first alone counted, in silence
    shades = [Image.new("RGB", (4, 5), (shade, 0, 0)) for shade in (10, 200, 100)]
    shades[0].save(folder / "bee" / f"30.{kind}", save_all=True, append_images=shades[1:])
    refuse(rf"30\.{kind}: holds 3 pictures, of which the first alone would count", folder)


def test_a_palette_is_its_colours_and_exif_turns(tmp_path: Path) -> None:
    colours = Image.new("RGB", (4, 5), (250, 10, 0))
    colours.putpixel((0, 0), (0, 0, 200))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        colours.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / name / "palette.png")
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        turned = colours.transpose(Image.Transpose.ROTATE_90)
        turned.save(tmp_path / name / "turned.png", exif=exif)
    images = load_images(tmp_path)
    assert images.pixels.shape == (4, 3, 5, 4)
    assert images.pixels[:, :, 0, 0].tolist() == [[0, 0, 200]] * 4
    assert images.pixels[:, :, 4, 3].tolist() == [[250, 10, 0]] * 4


def test_a_declared_size_is_refused_before_it_is_decoded(folder: Path) -> None:
    for width in (30_000, 3_000):  # of the second Pillow would only warn
        (folder / "bee" / "30.pgm").write_bytes(f"P5 {width} 30000 255\n".encode() + b"0" * 100)
        refuse("30.pgm: too large to be a picture", folder)


def test_what_pillow_warns_of_metadata_stays_unsaid(folder: Path) -> None:
    """A warning would stand beside the one line of an error, whatever other threads do to filters meanwhile."""
    load_images(folder)
    warnings.warn_explicit("Corrupt EXIF data", UserWarning, "a file", 1, module="PIL.TiffImagePlugin")
