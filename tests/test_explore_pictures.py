"""What the explorer takes of the pictures of strangers, and what it refuses."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bpfc.data import DataError
from bpfc.explore import pictures
from bpfc.explore.pictures import read_picture


def png(path: Path, width: int, height: int) -> Path:
    """A PNG that says it has so many pixels, and holds none."""

    def part(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", b"") + part(b"IEND", b""))
    return path


def test_a_picture_of_the_networks_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png", channels=1, size=28)
    assert torch.equal((image * 255).round().to(torch.uint8)[0], torch.from_numpy(pixels))
    swapped = read_picture(tmp_path / "a.png", channels=1, size=28, inverted=True)
    torch.testing.assert_close(swapped, 1 - image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK"])
def test_the_middle_of_any_kind_of_picture_is_taken(tmp_path: Path, mode: str) -> None:
    wide = Image.new("RGB", (200, 100), "red")
    wide.paste("white", (50, 0, 150, 100))
    wide.convert(mode).save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    path = next(tmp_path.iterdir())
    assert read_picture(path, channels=1, size=28).shape == (1, 28, 28)
    assert float(read_picture(path, channels=3, size=32).min()) > 0.95


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_brought_down_to_eight(tmp_path: Path, channels: int) -> None:
    """All above 255 of 65 535 was white."""
    pixels = np.random.default_rng(0).integers(0, 65_536, (28, 28), np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png", channels=channels, size=28)
    expected = torch.from_numpy(pixels / 65_535).float().expand(channels, 28, 28)
    torch.testing.assert_close(image, expected, rtol=0, atol=0.51 / 255)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert float(read_picture(tmp_path / "a.png", channels=1, size=28).min()) == 1


@pytest.mark.parametrize("size", [(5000, 5000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match="pixels"):
        read_picture(png(tmp_path / "a.png", *size), channels=1, size=28)


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    for content in (
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"GIF89a" + bytes(9),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a picture that can be read; must be one of PNG"):
            read_picture(path, channels=1, size=28)
    with pytest.raises(DataError, match="not a picture"):
        read_picture(png(path, 20, 20), channels=1, size=28)  # cut off
    monkeypatch.setattr(pictures, "BYTES", 10)
    with pytest.raises(DataError, match="MB; must be at most"):
        read_picture(path, channels=1, size=28)
