"""Files of every format, drawn over their structure: read as an independent reader reads them, or refused in a line."""

import io
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import idx_bytes, small_network
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from bpfc.data import DataError, load_images
from bpfc.data.formats import cifar10_binary, idx
from bpfc.errors import UserError
from bpfc.files import append_lines, read_json, read_jsonl, write_json
from bpfc.ledger import Ledger, Row, read_ledger
from bpfc.models import load_weights
from bpfc.training.run import Run
from bpfc.weights import load_tensors, save_tensors

drawn = settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy disk takes longer than all else here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file cut short, with a stretch of other bytes, or with one taken out."""
    begin = draw(st.integers(0, len(content)))
    end = draw(st.integers(begin, min(len(content), begin + 40)))
    return draw(st.sampled_from([content[:begin], content[:begin] + draw(st.binary(max_size=40)) + content[end:]]))


def refused(path: Path, told: str) -> None:
    """An error names the file, and gives no advice to run what is in it."""
    assert path.name in told
    assert "weights_only" not in told


# Pictures

FORMATS = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM", "jpg": "JPEG", "gif": "GIF"}


@drawn
@given(st.data())
def test_pictures(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(FORMATS)))
    mode = data.draw(st.sampled_from(["L", "RGB", "P", "1", "RGBA", "LA", "CMYK", "I;16"]))
    channels = {"RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}.get(mode, 1)
    kind = np.uint16 if mode == "I;16" else np.uint8
    pixels = np.frombuffer(data.draw(st.binary(min_size=24 * channels, max_size=24 * channels)), np.uint8)
    array = pixels.reshape(4, 6, channels)[..., slice(None) if channels > 1 else 0].astype(kind)
    made = Image.fromarray(array) if mode == "I;16" else Image.fromarray(array, "L" if channels == 1 else mode)
    content = io.BytesIO()
    try:
        (made.convert(mode) if mode in ("P", "1") else made).save(content, FORMATS[suffix])
    except OSError:
        assume(False)  # a format that has no such pictures
    whole = data.draw(st.just(content.getvalue()) | damaged(content.getvalue()))
    for name in ("a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        for old in (tmp_path / name).iterdir():
            old.unlink()
        (tmp_path / name / f"p.{suffix}").write_bytes(whole)
    try:
        images = load_images(tmp_path)
    except DataError as error:
        refused(tmp_path / "a" / f"p.{suffix}", str(error))
        return
    assert suffix != "gif"
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(whole)) as again:  # of damaged metadata
        assert again.mode in ("L", "RGB", "P", "1", "I;16", "I", "I;16B")
        plain = np.asarray(ImageOps.exif_transpose(again.convert("RGB") if again.mode == "P" else again))
    expected = plain * np.uint8(255) if plain.dtype == bool else plain
    assert np.array_equal(images.pixels[0].numpy().transpose(1, 2, 0).squeeze(), np.squeeze(expected))


# The publishers' formats


@drawn
@given(st.data())
def test_idx(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    array = np.arange(int(np.prod(shape)), dtype=np.uint8).reshape(shape)
    whole = data.draw(st.just(idx_bytes(array)) | damaged(idx_bytes(array)) | st.binary(max_size=40))
    try:
        found = idx(whole, "train-images")
    except DataError as error:
        refused(Path("train-images"), str(error))
        return
    assert whole == idx_bytes(found)  # what is read is all of it, and nothing else


@drawn
@given(st.data())
def test_cifar10(data: st.DataObject) -> None:
    """The binary version; the other one is pickled, and is neither unpickled nor taken for it."""
    rows = np.arange(3073 * 2, dtype=np.uint8)
    tricks = st.sampled_from([pickle.dumps({b"data": rows, b"labels": [0, 1]}), b"", bytes(3072)])
    whole = data.draw(st.just(rows.tobytes()) | tricks | damaged(rows.tobytes()))
    try:
        images, labels = cifar10_binary(whole, "data_batch_1.bin")
    except DataError as error:
        refused(Path("data_batch_1.bin"), str(error))
        return
    again = np.concatenate([labels[:, None], images.reshape(len(labels), -1)], axis=1)
    assert again.tobytes() == whole


# Arrays

KINDS = ("u1", "u2", ">u2", "f2", "f4", "f8", "i4", "i8", "b1", "c8", "S3", "U2", "M8[s]", "O")


@drawn
@given(st.data())
def test_npz(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "some.npz"
    kind = np.dtype(data.draw(st.sampled_from(KINDS)))
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5)))
    array = (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(kind)
    labels = np.arange(data.draw(st.just(shape[0]) | st.integers(0, 4))).astype(data.draw(st.sampled_from(KINDS[:8])))
    content = {}
    for name, each in (("x.npy", array), ("y.npy", labels)):
        file = io.BytesIO()
        np.save(file, each, allow_pickle=True)
        content[name] = data.draw(st.just(file.getvalue()) | damaged(file.getvalue()))
    with zipfile.ZipFile(path, "w", data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name, each in content.items():
            archive.writestr(name, each)
    path.write_bytes(data.draw(st.just(path.read_bytes()) | damaged(path.read_bytes())))
    try:
        images = load_images(path)
    except DataError as error:
        refused(path, str(error))
        return
    with np.load(path, allow_pickle=False) as again:
        plain = again["x"]
        assert images.labels.tolist() == again["y"].tolist()
    plain = plain[:, None] if plain.ndim == 3 else plain
    if images.pixels.shape != plain.shape:
        plain = plain.transpose(0, 3, 1, 2)
    assert np.array_equal(images.pixels.numpy(), plain.astype(images.pixels.numpy().dtype), equal_nan=True)


# Tensors


@drawn
@given(st.data())
def test_safetensors(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.arange(6).reshape(2, 3), "b": torch.ones(2)})
    ours = path.read_bytes()
    header = json.loads(ours[8 : 8 + int.from_bytes(ours[:8], "little")])
    name = data.draw(st.sampled_from(sorted(header)))
    entry = header[name]
    edited = entry | {data.draw(st.sampled_from(sorted(entry))): data.draw(json_values)}
    text = json.dumps(header | {name: edited}).encode()
    other = len(text).to_bytes(8, "little") + text + ours[8 + int.from_bytes(ours[:8], "little") :]
    plain = save_safetensors({"a": np.arange(3, dtype=np.float32)})
    path.write_bytes(data.draw(st.sampled_from([ours, other, plain]) | damaged(ours) | st.binary(max_size=60)))
    try:
        found = load_tensors(path)
    except ValueError as error:
        refused(path, str(error))
        return
    again = load_safetensors(path.read_bytes())
    assert {key: value.tolist() for key, value in found.items()} == {key: each.tolist() for key, each in again.items()}
    if b"bpfc_tensors_sha256" in path.read_bytes():
        assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@drawn
@given(st.data())
def test_weights_of_somebody_s(tmp_path: Path, data: st.DataObject) -> None:
    model, file = small_network(), io.BytesIO()
    state = model.state_dict()
    torch.save(
        data.draw(st.sampled_from([state, {"state_dict": state}, [], 5, {"state_dict": 5}, {"0.bias": 3}])), file
    )
    path = tmp_path / data.draw(st.sampled_from(["w.pt", "w.safetensors"]))
    path.write_bytes(data.draw(st.just(file.getvalue()) | damaged(file.getvalue()[:2000]) | st.binary(max_size=60)))
    try:
        load_weights(model, path)
    except ValueError as error:
        refused(path, str(error))


# JSON

LABELS, ATTACKS = [0, 1, 0, 1], ["fgsm", "pgd-2"]
FINE = {"broken": False, "restart": None, "step": None, "linf": None, "l2": None, "queries": 2}
ROWS = [
    Row(index=n, label=n % 2, prediction=n % 2, broken_by=None, attacks=dict.fromkeys(ATTACKS, FINE))  # type: ignore[arg-type]
    for n in range(4)
]


@st.composite
def edited(draw: st.DrawFn, content: dict[str, Any]) -> dict[str, Any]:
    """An object with a value replaced, taken out or added, at its top or one below."""
    name = draw(st.sampled_from(sorted(content)) | st.text(max_size=5))
    if isinstance(content.get(name), dict) and content[name] and draw(st.booleans()):
        return content | {name: draw(edited(content[name]))}
    if draw(st.booleans()):
        return {key: value for key, value in content.items() if key != name}
    return content | {name: draw(json_values)}


@drawn
@given(st.data())
def test_ledger_lines(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "ledger.jsonl"
    path.unlink(missing_ok=True)
    append_lines(path, ROWS)
    lines = path.read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, 3))
    odd = json.dumps(data.draw(edited(json.loads(lines[at])) | json_values)).encode() + b"\n"
    lines[at] = data.draw(st.just(odd) | st.just(lines[at - 1]) | damaged(lines[at]))
    path.write_bytes(b"".join(lines))
    try:
        found = read_ledger(path, LABELS, ATTACKS)
    except ValueError as error:
        refused(path, str(error))
        return
    assert all(row in ROWS for row in found)  # fewer, if a line lost its end; none that was not written


@drawn
@given(st.data())
def test_headers(tmp_path: Path, data: st.DataObject) -> None:
    header = {"plan": ATTACKS, "eps": 0.1, "images": 4, "attack_settings": {"fgsm": "FGSM(0.1)"}}
    path = tmp_path / "evaluation.json"
    path.unlink(missing_ok=True)
    Ledger(tmp_path, header, LABELS, ATTACKS)
    sound = path.read_bytes()
    odd = json.dumps(data.draw(edited(json.loads(sound)) | json_values)).encode()
    path.write_bytes(data.draw(st.just(odd) | damaged(sound)))
    try:
        Ledger(tmp_path, header, LABELS, ATTACKS)
    except ValueError as error:
        refused(tmp_path, str(error))
        return
    assert path.read_bytes() == sound


@drawn
@given(st.data())
@pytest.mark.parametrize("name", ["recipe.json", "provenance.json"])
def test_what_a_run_tells_of_itself(name: str, tmp_path: Path, data: st.DataObject) -> None:
    from bpfc.training.recipes import RECIPES

    recipe, path = RECIPES["mnist-5k-bpfc"][1], tmp_path / name
    for old in tmp_path.glob("*.json"):
        old.unlink()
    start = {"command": "bpfc train", "commit": "abc", "versions": {"bpfc": "1"}}
    Run(tmp_path).begin(recipe, "fp32", start)
    sound = json.loads(path.read_text())
    odd: Any = data.draw(json_values)
    if data.draw(st.booleans()):
        odd = data.draw(edited(sound)) if isinstance(sound, dict) else [data.draw(edited(sound[0]))]
    path.write_bytes(data.draw(st.just(json.dumps(odd).encode()) | damaged(path.read_bytes())))
    try:
        Run(tmp_path).begin(recipe, "fp32", start)
        assert Run(tmp_path).recipe() == recipe
    except (UserError, ValueError) as error:
        refused(tmp_path, str(error))


@drawn
@given(json_values, st.data())
def test_json_comes_back_or_is_refused(tmp_path: Path, content: Any, data: st.DataObject) -> None:
    path = tmp_path / "some.json"
    write_json(path, {"a": content, "b": 1})
    assert json.dumps(read_json(path)) == json.dumps({"a": content, "b": 1})
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged(whole)))
    try:
        found = read_json(path)
    except ValueError as error:
        refused(path, str(error))
        return
    assert "crc32" not in path.read_text(errors="replace") or json.dumps(found) == json.dumps({"a": content, "b": 1})


@drawn
@given(st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=3), max_size=3))
def test_lines_come_back(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "some.jsonl"
    path.unlink(missing_ok=True)
    append_lines(path, rows)
    assert json.dumps(read_jsonl(path)) == json.dumps(rows)
