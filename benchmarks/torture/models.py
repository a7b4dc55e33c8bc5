"""Models of odd kinds: each gets a right figure or an error of one line, from every verb that takes a model."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import torch
from forks import call, is_told, said
from outcomes import Trial

ON = "--data odd.npz --device cpu --batch-size 4 --out new"
VERBS = {
    "evaluate": f"evaluate {ON} --attacks fgsm,pgd-3 --eps 0.1 --precision fp32 --save-images",
    "certify": f"certify {ON} --eps 0.001",
    "audit": f"audit {ON} --eps 0.1 --quick",
}
CASES = [(verb, name) for name in odd_models.MODELS for verb in VERBS]
IMAGES = 10


def prepare() -> None:
    """Makes the images, each of the class that an ordinary model takes it for, but for every fourth."""
    draw = np.random.default_rng(0)
    images = draw.random((IMAGES, 1, odd_models.SIDE, odd_models.SIDE), np.float32)
    labels = odd_models.plain()(torch.from_numpy(images)).argmax(dim=1).numpy()
    labels[::4] = (labels[::4] + 1) % odd_models.CLASSES
    np.savez("odd.npz", x=images, y=labels)


def model(_: random.Random, number: int) -> Trial:
    """The trial of a verb and a model."""
    verb, name = CASES[number]
    shutil.rmtree("new", ignore_errors=True)
    line = f"{VERBS[verb]} --model odd_models:{name}"
    told = {"row": f"odd model, {verb}", "model": name, "command": f"bpfc {line}"}
    status = call(line)
    if is_told(status):
        return told | {"end": "told", "stderr": said()}
    if status not in ((0, 1, 3) if verb == "audit" else (0,)) or said():
        return told | {"end": "traceback", "status": status, "stderr": said()[-2000:]}
    if not Path("new").exists():
        return told | {"end": "wrong", "wrong": "an exit status without error, and nothing there"}
    wrong = {"evaluate": _evaluated, "certify": _certified, "audit": _audited}[verb](name)
    return told | {"end": "wrong" if wrong else "right", "wrong": wrong}


def _answers(name: str, images: torch.Tensor) -> torch.Tensor:
    """The model's classes for images, each shown to it alone, double precision kept."""
    with torch.no_grad():
        made = getattr(odd_models, name)().eval()
        logits = torch.cat([made(image[None].clone()) for image in images]).double()
        return torch.where(logits.isfinite().all(dim=1), logits.argmax(dim=1), -1)


def _evaluated(name: str) -> str | None:
    """What is wrong with an evaluation; None where nothing is."""
    summary = json.loads(Path("new/summary.json").read_text())
    rows = [json.loads(line) for line in Path("new/ledger.jsonl").read_text().splitlines()]
    images, labels = _given()
    if name in odd_models.RANDOM:
        return "an answer at random went unnoticed"
    right = _answers(name, images) == labels
    if summary["clean"]["accuracy"] != float(right.double().mean()):
        return f"clean {summary['clean']['accuracy']}, but {float(right.double().mean())}"
    if summary["worst_case"]["accuracy"] != sum(row["broken_by"] is None for row in rows) / len(rows):
        return "the worst case is not that of the rows"
    for row in rows:
        if row["broken_by"] not in (None, "clean"):
            image = torch.from_numpy(np.load(f"new/adversarial/{row['index']:06d}.npy"))
            if not (float(image.min()) >= 0 and float(image.max()) <= 1):
                return f"image {row['index']} leaves the box"
            if float((image - images[row["index"]]).abs().max()) > 0.1 + 1e-6:
                return f"image {row['index']} leaves the ball"
            if int(_answers(name, image[None])) == row["label"]:
                return f"image {row['index']} is not broken"
    if name in odd_models.MASKED and not summary["warnings"]:
        return "masked gradients, and no word"
    return None


def _certified(name: str) -> str | None:
    summary = json.loads(Path("new/summary.json").read_text())
    rows = [json.loads(line) for line in Path("new/certificates.jsonl").read_text().splitlines()]
    images, labels = _given()
    if name in odd_models.RANDOM:
        return "an answer at random went unnoticed"
    right = _answers(name, images) == labels
    if summary["clean"]["accuracy"] != float(right.double().mean()):
        return f"clean {summary['clean']['accuracy']}, but {float(right.double().mean())}"
    proven = [row["index"] for row in rows if row["certified_by"] is not None]
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        moved = (images + 0.001 * torch.randint(-1, 2, images.shape, generator=draw)).clamp(0, 1)
        if proven and not bool((_answers(name, moved[proven]) == labels[proven]).all()):
            return "a certified image is broken"
    return None


def _audited(name: str) -> str | None:
    found: dict[str, Any] = json.loads(Path("new/audit.json").read_text())
    if name in odd_models.MASKED and found["verdict"] == "stands":
        return "masked gradients, and the verdict stands"
    return None


def _given() -> tuple[torch.Tensor, torch.Tensor]:
    with np.load("odd.npz") as content:
        return torch.from_numpy(content["x"]), torch.from_numpy(content["y"])
