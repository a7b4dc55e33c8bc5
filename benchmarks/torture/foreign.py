"""Pictures, archives and weights of somebody's, damaged, with a linear model whose answers numpy can check."""

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import torch
from damages import edit_tensors, flip, move, overwrite, truncate
from forks import call, is_told, said
from outcomes import Trial
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn

SIDE, CLASSES, PICTURES = 6, 3, 2
LINE = "evaluate --model foreign:linear --attacks noise-2 --eps 0.02 --device cpu --precision fp32 --out new"
FORMATS = ("png", "jpg", "bmp", "tif", "webp", "ppm", "pgm")
BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (flip, flip, truncate, overwrite, move)


def linear() -> nn.Module:
    """A grey image's logits; the weights are as the seed gives them."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).eval()


def prepare() -> None:
    """Makes the folder `theirs`: images as arrays and as pictures, and weights, safetensors and torch's."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (CLASSES * PICTURES, SIDE, SIDE), np.uint8)
    labels = np.repeat(np.arange(CLASSES), PICTURES)
    place = Path("theirs")
    place.mkdir()
    np.savez(place / "some.npz", images=pixels, labels=labels)
    np.savez_compressed(place / "packed.npz", x=pixels.astype(np.float32) / 255, y=labels.astype(np.uint8))
    for format_ in FORMATS:
        for index, (grey, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = place / format_ / f"class-{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(folder / f"{index}.{format_}")
    state = linear().state_dict()
    save_file(state, place / "weights.safetensors")
    torch.save(state, place / "weights.pt")


def foreign(chance: random.Random, _: int) -> Trial:
    """One trial with a damaged file of somebody's."""
    shutil.rmtree("new", ignore_errors=True)
    shutil.rmtree("given", ignore_errors=True)
    shutil.copytree("theirs", "given")
    kind = chance.choice(list(KINDS))
    data, weights = KINDS[kind](chance)
    line = f"{LINE} --data {data}" + (f" --weights {weights}" if weights else "")
    told = {"row": f"{kind} damaged", "command": f"bpfc {line}"}
    status = call(line)
    if is_told(status):
        return told | {"end": "told", "stderr": said()}
    if status != 0:
        return told | {"end": "traceback", "status": status, "stderr": said()[-2000:]}
    summary = json.loads(Path("new/summary.json").read_text())
    found, expected = summary["clean"]["accuracy"], _clean(Path(data), weights and Path(weights))
    return told | {"end": "right" if abs(found - expected) < 1e-9 else "wrong", "found": found, "expected": expected}


def _picture(chance: random.Random) -> tuple[str, None]:
    folder = Path("given") / chance.choice(FORMATS)
    _damage_bytes(chance, chance.choice(sorted(folder.rglob("*.*"))))
    return str(folder), None


def _archive(chance: random.Random) -> tuple[str, None]:
    path = Path("given") / chance.choice(["some.npz", "packed.npz"])
    if chance.random() < 0.4:
        _damage_bytes(chance, path)
    else:
        _edit_arrays(chance, path)
    return str(path), None


def _weights(chance: random.Random) -> tuple[str, str]:
    path = Path("given") / chance.choice(["weights.safetensors", "weights.pt"])
    if path.suffix == ".safetensors" and chance.random() < 0.6:
        path.write_bytes(edit_tensors(chance, path.read_bytes()))
    else:
        _damage_bytes(chance, path)
    return "given/some.npz", str(path)


KINDS: dict[str, Callable[[random.Random], tuple[str, str | None]]] = {
    "picture": _picture,
    "archive": _archive,
    "weights": _weights,
}


def _damage_bytes(chance: random.Random, path: Path) -> None:
    path.write_bytes(chance.choice(BYTES)(chance, path.read_bytes()))


def _edit_arrays(chance: random.Random, path: Path) -> None:
    """An array with another header, type, shape, name or content, zipped anew, so that the checksums are right."""
    with ZipFile(path) as content:
        arrays = {name: content.read(name) for name in content.namelist()}
    name = chance.choice(list(arrays))
    way = chance.randrange(5)
    if way == 0:
        arrays[name] = chance.choice(BYTES)(chance, arrays[name])
    elif way == 1:
        begin = arrays[name].index(b"{")
        header = chance.choice(BYTES)(chance, arrays[name][begin:128])
        arrays[name] = arrays[name][:begin] + header + arrays[name][128:]
    elif way == 2:
        array: Any = np.load(io.BytesIO(arrays[name]))
        kinds = ("bool", "int8", "uint16", "int64", "float16", "float64", ">u2", "complex64", "S4", "U2", "M8[s]", "O")
        arrays[name] = _npy(array.astype(chance.choice(kinds)))
    elif way == 3:
        array = np.load(io.BytesIO(arrays[name]))
        shapes = [(-1,), (*array.shape, 1), (1, *array.shape), array.shape[::-1], (0, *array.shape[1:]), ()]
        shape = chance.choice(shapes)
        arrays[name] = _npy(array.ravel() if shape == (-1,) else np.resize(array, shape))
    else:
        arrays[chance.choice(["image.npy", "x", "y.npy", "../x.npy", ""])] = arrays.pop(name)
    with ZipFile(path, "w", chance.choice([ZIP_STORED, ZIP_DEFLATED])) as content:
        for each, inside in arrays.items():
            content.writestr(each, inside)


def _npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _clean(data: Path, weights: Path | None) -> float:
    """The clean accuracy, read by numpy, Pillow, safetensors and torch without the package."""
    if data.is_dir():
        files = sorted(data.rglob("*.*"))
        labels = np.array([int(file.parent.name.removeprefix("class-")) for file in files])
        read = [np.asarray(Image.open(file)) for file in files]
        pixels = np.stack(read)
    else:
        with np.load(data) as content:
            pixels, labels = (content[a if a in content else b] for a, b in (("images", "x"), ("labels", "y")))
    top = {"u1": 255.0, "u2": 65535.0}.get(pixels.dtype.str[1:], 1.0)
    flat = pixels.reshape(len(pixels), -1).astype(np.float64) / top
    state: Any = {name: tensor.numpy() for name, tensor in linear().state_dict().items()}
    if weights is not None:
        state = load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights, weights_only=True)
    weight, bias = (np.asarray(state[name], dtype=np.float64) for name in ("1.weight", "1.bias"))
    return float(((flat @ weight.T + bias).argmax(axis=1) == labels).mean())
