"""From a file to pixels: what would lose something is refused, and what is no picture reaches no other parser."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from bpfc.data import DataError
from bpfc.data.decoding import decode
from bpfc.data.folders import File
from bpfc.options import Reading


def refuse(message: str, path: Path, **reading: object) -> None:
    with pytest.raises(DataError, match=message):
        decode(File(path), Reading(**reading))  # type: ignore[arg-type]


def png16(path: Path, kind: int, channels: int) -> None:
    """A PNG of 16 bits a channel, opaque if the last of them is alpha; Pillow writes none in colour."""
    values = np.random.default_rng(0).integers(0, 65536, (4, 4, channels))
    values[..., -1] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_colour_cuts_no_values(colour: str, tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)).save(tmp_path / "f.tiff")
    refuse("f.tiff: a picture of mode F", tmp_path / "f.tiff", colour=colour)
    for kind, channels in ((2, 3), (4, 2), (6, 4)):
        png16(tmp_path / "a.png", kind, channels)
        refuse("a.png: 16 bits a colour, of which 8 would be lost", tmp_path / "a.png", colour=colour)
    for kind in (b"P6", b"P3"):
        (tmp_path / "p.ppm").write_bytes(kind + b" 2 2 1023\n" + b" 1 2 3" * 8)
        refuse("p.ppm: 16 bits a colour, of which 8 would be lost", tmp_path / "p.ppm", colour=colour)
    (tmp_path / "p.ppm").write_bytes(b"P1 2 2\n1 0 0 1")
    pixels = decode(File(tmp_path / "p.ppm"), Reading(colour=colour))  # type: ignore[arg-type]
    assert pixels[0].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("size", [None, 2])
def test_colour_takes_grey_of_sixteen_bits_as_it_is(size: int | None, tmp_path: Path) -> None:
    """It stayed of one channel."""
    Image.fromarray(np.full((4, 4), 40_001, np.uint16)).save(tmp_path / "0.png")
    for colour, channels in (("grey", 1), ("rgb", 3)):
        pixels = decode(File(tmp_path / "0.png"), Reading(colour=colour, size=size))  # type: ignore[arg-type]
        assert pixels.shape == (channels, size or 4, size or 4)
        assert np.unique(pixels).tolist() == [40_001]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_colour_takes_all_modes_of_eight_bits(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("0.tiff" if mode == "CMYK" else "0.png")
    Image.new("RGB", (4, 5), (255, 255, 255)).convert(mode).save(path)
    for colour, channels in (("grey", 1), ("rgb", 3)):
        pixels = decode(File(path), Reading(colour=colour))  # type: ignore[arg-type]
        assert pixels.shape == (channels, 5, 4)
        assert pixels.min() == 255


def test_only_the_formats_that_are_named_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands EPS to Ghostscript, which runs it as a program."""

    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    (tmp_path / "0.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    )
    refuse("0.png: not a picture that can be read; must be PNG, BMP, JPEG, WEBP, TIFF or PPM", tmp_path / "0.png")
    with pytest.raises(DataError, match="must be PNG"):
        decode(File(tmp_path / "0.png"), Reading(colour="rgb"))


@pytest.mark.parametrize("kind", ["png", "bmp", "jpg", "mpo", "webp", "tiff", "ppm", "pgm"])
def test_formats(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"0.{kind}"
    Image.new("L", (4, 5), 10).save(path, **({"save_all": True, "append_images": []} if kind == "mpo" else {}))
    assert decode(File(path), Reading(colour="grey")).shape == (1, 5, 4)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
def test_a_very_long_picture_is_not_made_larger_than_a_picture_may_be(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("L", size).save(tmp_path / "0.png")
    refuse(r"0.png: .* would become .* at --size 224, before the middle is cut out", tmp_path / "0.png", size=224)
    assert decode(File(tmp_path / "0.png"), Reading(size=8)).shape == (1, 8, 8)
