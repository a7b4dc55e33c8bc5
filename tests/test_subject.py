"""A model and images of somebody's, through the real command line."""

import copy
import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_network
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import bpfc
from bpfc.__main__ import main
from bpfc.data import DataSet
from bpfc.evaluation.subject import from_factory
from bpfc.files import read_jsonl
from bpfc.models import Normalise, build, load_weights, named, state_sha256
from bpfc.weights import save_tensors

Digits = tuple[Tensor, Tensor]

MODULE = """
import torch
from conftest import small_network
from torch import nn


def expects_normalised():
    class Shifted(nn.Sequential):
        def forward(self, images):
            return super().forward(images * 0.5 + 0.5)

    return Shifted(*small_network())


class Noisy(nn.Sequential):
    def __init__(self):
        super().__init__(*small_network())

    def forward(self, images):
        return super().forward(images + 0.05 * torch.randn_like(images))


def unsure():
    return nn.Sequential(*small_network(), nn.Softmax(dim=1))


def loads_its_own():
    model = small_network()
    model.load_state_dict(torch.load("w.pt", weights_only=True))
    return model


def own(channels, classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))


class Viewing(nn.Linear):
    def __init__(self):
        super().__init__(48, 3)

    def forward(self, images):
        return super().forward(images.view(len(images), -1))


not_a_function = 3
"""


@pytest.fixture
def place(trained: nn.Module, test_digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of somebody's: a module, weights in three forms, images in two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("theirs", None)
    (tmp_path / "theirs.py").write_text(MODULE)
    weights = {name: value.contiguous() for name, value in trained.state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "nested.pt")
    images, labels = test_digits[0][:30], test_digits[1][:30]
    np.savez(tmp_path / "some.npz", x=images.numpy(), y=labels.numpy())
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        folder = tmp_path / "pictures" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{i:03d}.png")
    return tmp_path


def evaluate(monkeypatch: pytest.MonkeyPatch, words: str, out: str = "out") -> dict[str, object]:
    arguments = ["bpfc", "evaluate", *words.split(), "--out", out, "--device", "cpu", "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    return json.loads((Path(out) / "summary.json").read_text())


PLAIN = "--model conftest:small_network --weights w.safetensors --data some.npz --eps 0.1"


def test_a_table_that_is_there_grows_with_the_evaluation(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(monkeypatch, f"{PLAIN} --attacks fgsm --csv --limit 5")
    evaluate(monkeypatch, f"{PLAIN} --attacks fgsm")
    assert len((place / "out" / "ledger.csv").read_text().splitlines()) == 31


def test_any_model_and_images(
    place: Path, trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = evaluate(monkeypatch, f"{PLAIN} --attacks fgsm,pgd-5 --csv --save-images --batch-size 7")
    images, labels = test_digits[0][:30], test_digits[1][:30]
    direct = bpfc.evaluate(trained, images, labels, attacks="fgsm,pgd-5", eps=0.1)
    assert summary["worst_case"] == direct.summary["worst_case"]
    rows = read_jsonl(place / "out" / "ledger.jsonl")
    assert rows == direct.rows
    broken = {row["index"]: row for row in rows if row["broken_by"] not in (None, "clean")}
    saved = {int(path.stem): torch.from_numpy(np.load(path)) for path in (place / "out" / "adversarial").iterdir()}
    assert set(saved) == set(broken)
    for index, image in saved.items():
        distance = (image - images[index]).abs().max().item()
        assert distance == pytest.approx(broken[index]["attacks"][broken[index]["broken_by"]]["linf"], abs=1e-6)
        assert trained(image[None]).argmax().item() != labels[index]
    lines = (place / "out" / "ledger.csv").read_text().splitlines()
    assert len(lines) == 31
    assert lines[0].startswith("index,label,prediction,broken_by,fgsm.broken,fgsm.restart")
    np.savez("some.npz", x=1 - images.numpy(), y=labels.numpy())
    with pytest.raises(SystemExit):  # other images under the same name
        evaluate(monkeypatch, f"{PLAIN} --attacks fgsm,pgd-5 --csv --save-images --batch-size 7")
    by_folder = evaluate(monkeypatch, f"{PLAIN} --attacks fgsm --data pictures", "out2")
    assert by_folder["clean"] == summary["clean"]  # all ten digits are among the 30
    assert by_folder["attacks"]["fgsm"] == summary["attacks"]["fgsm"]  # type: ignore[index]


def test_a_model_that_views_its_images(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    np.savez("rgb.npz", images=rng.integers(0, 256, (9, 4, 4, 3), np.uint8), labels=rng.integers(0, 3, 9))
    words = "--model theirs:Viewing --data rgb.npz --eps 0.1 --attacks noise-2,fgsm,pgd-3,mt-pgd-2,spsa-1,deepfool"
    assert evaluate(monkeypatch, words)["images"] == 9


@pytest.mark.parametrize("weights", ["w.pt", "nested.pt"])
def test_state_dicts(weights: str, place: Path, trained: nn.Module) -> None:
    model = small_network()
    load_weights(model, place / weights)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
@pytest.mark.parametrize("attribute", ["layer", "module", "_orig_mod"])
def test_wrappers_names_are_told_from_the_model_s_own(prefix: str, attribute: str, tmp_path: Path) -> None:
    """The state of a model with a `module` of its own lost that, and a prefix before another stayed."""

    def made() -> nn.Sequential:
        return nn.Sequential(OrderedDict([(attribute, nn.Linear(2, 3))]))

    model, fresh = made(), made()
    torch.save({f"{prefix}{name}": value for name, value in model.state_dict().items()}, tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh[0].weight, model[0].weight)


@pytest.mark.parametrize("content", [3, torch.tensor(1.0), [1, 2], {1: torch.zeros(2)}, {"state_dict": 3}])
def test_a_file_without_names_holds_no_weights(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w.pt: (holds no weights by name; save them|not the weights)"):
        load_weights(small_network(), tmp_path / "w.pt")


def test_weights_are_read_without_running_code(place: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("run!",))

    torch.save({"weight": Evil()}, place / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt: cannot be read as weights"):
        load_weights(small_network(), place / "evil.pt")


def test_weights_that_carry_their_digest_must_have_it(place: Path, trained: nn.Module) -> None:  # F13
    save_tensors(place / "ours.safetensors", dict(trained.state_dict()))
    load_weights(small_network(), place / "ours.safetensors")
    content = bytearray((place / "ours.safetensors").read_bytes())
    content[-5] ^= 1
    (place / "ours.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"ours.safetensors: damaged: its content has not the digest"):
        load_weights(small_network(), place / "ours.safetensors")


def test_a_model_of_normalised_images(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # 17
    plain = evaluate(monkeypatch, f"{PLAIN} --attacks pgd-5", "a")
    words = PLAIN.replace("conftest:small_network", "theirs:expects_normalised")
    shifted = evaluate(monkeypatch, f"{words} --mean 0.5 --std 0.5 --attacks pgd-5", "b")
    assert shifted["clean"] == plain["clean"]
    assert shifted["worst_case"] == plain["worst_case"]
    inner = nn.Identity()
    images = torch.rand(2, 3, 4, 4)
    out = nn.Sequential(Normalise((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), inner)(images)
    torch.testing.assert_close(out[:, 2], (images[:, 2] - 0.3) / 0.6)


def test_what_decides_a_row_is_in_the_header(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other --mean and --std gave the old rows back, and so did a factory whose own weights had been trained again."""
    evaluate(monkeypatch, f"{PLAIN} --attacks fgsm --mean 0.5 --std 0.5")
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, f"{PLAIN} --attacks fgsm --mean 0.4 --std 0.5")
    assert "mean was [0.5], is [0.4]" in capsys.readouterr().err
    loads = f"{PLAIN.replace('conftest:small_network --weights w.safetensors', 'theirs:loads_its_own')} --attacks fgsm"
    evaluate(monkeypatch, loads, "own")
    weights = torch.load("w.pt", weights_only=True)
    torch.save({name: 1.5 * value for name, value in weights.items()}, "w.pt")
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, loads, "own")
    assert "weights_sha256 was" in capsys.readouterr().err
    shifts = f"{PLAIN.replace('conftest:small_network', 'theirs:expects_normalised')} --attacks fgsm"
    evaluate(monkeypatch, shifts, "code")
    evaluate(monkeypatch, shifts, "code")
    (place / "theirs.py").write_text(MODULE.replace("* 0.5 + 0.5", "* 0.45 + 0.5"))  # and the same weights
    sys.modules.pop("theirs")
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, shifts, "code")
    assert "first_logits was [" in capsys.readouterr().err


def test_a_state_is_known_by_names_dtypes_shapes_and_values() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    known = state_sha256(model)
    assert known == state_sha256(copy.deepcopy(model))

    def changed(change: Callable[[nn.Sequential], object]) -> str:
        other = copy.deepcopy(model)
        change(other)
        return state_sha256(other)

    digests = {
        known,
        changed(lambda m: m[0].weight.data.view(-1)[3:4].add_(1e-6)),
        changed(lambda m: m[0].weight.data.copy_(m[0].weight.data.flip(0))),
        changed(lambda m: m.bfloat16()),
        changed(lambda m: m[1].running_mean.add_(1)),
        changed(lambda m: m[1].num_batches_tracked.add_(1)),
        changed(lambda m: m.append(Normalise((0.1,), (1.0,)))),  # buffers that no state dict holds
        changed(lambda m: m.append(Normalise((0.2,), (1.0,)))),
        state_sha256(nn.Sequential(OrderedDict(a=model[0], b=model[1]))),
    }
    assert len(digests) == 9


def test_a_subject_s_images_are_as_they_are_stored(place: Path, digits: DataSet) -> None:
    by_name = from_factory("conftest:small_network", None, "mnist-5k")
    assert torch.equal(by_name.images.pixels, digits.test.pixels)
    assert by_name.data_sha256 is None
    pictures = from_factory("conftest:small_network", None, "pictures").on(torch.device("cpu"), limit=20)
    assert (pictures.images.pixels.dtype, len(pictures.images)) == (torch.uint8, 20)
    arrays = from_factory("conftest:small_network", None, "some.npz")
    assert arrays.images.pixels.dtype == torch.float32
    assert len({by_name.images.sha256(), pictures.images.sha256(), arrays.images.sha256()}) == 3


def test_a_random_model_with_eot(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    words = PLAIN.replace("conftest:small_network", "theirs:Noisy")
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, f"{words} --attacks fgsm")
    assert "--eot 20" in capsys.readouterr().err
    summary = evaluate(monkeypatch, f"{words} --attacks fgsm --eot 3")
    assert 0 < summary["worst_case"]["accuracy"] < 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--model theirs:nothing --data some.npz --eps 0.1", "theirs:nothing"),
        ("--model nowhere:f --data some.npz --eps 0.1", "No module named 'nowhere'"),
        ("--model theirs:not_a_function --data some.npz --eps 0.1", "is a int"),
        ("--model theirs:unsure --data some.npz --eps 0.1", "gives probabilities"),
        ("--model conftest:small_network --data some.npz", "--eps: say the radius"),
        ("--model conftest:small_network --data nothing", "--eps: say the radius"),  # before data is read
        ("--model conftest:small_network --eps 0.1", "--model and --data"),
        ("--model conftest:small_network --weights some.npz --data some.npz --eps 0.1", "cannot be read as weights"),
        ("--model theirs:unsure --weights theirs.py --data some.npz --eps 0.1", "cannot be read as weights"),
        ("--model conftest:small_network --data nothing --eps 0.1", "nothing: must be a folder"),
        ("--model conftest:small_network --data some.npz --eps 0.1 --mean 0.5", "--mean and --std"),
        ("--model conftest:small_network --data some.npz --eps 0.1 --mean 1 2 --std 1 2", "2 values for images of 1"),
        ("--model conftest:small_network --data some.npz --eps 0.1 --norm l2 --attacks fgsm", "for ℓ∞"),
    ],
)
def test_what_is_wrong_is_told(
    words: str, told: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate(monkeypatch, words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_a_network_of_ones_own_trains_and_is_not_imported_unasked(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = "--epochs 1 --limit 8 --validation-attacked 4 --ifgsm-steps 2 --device cpu --precision fp32 --out run"
    monkeypatch.setattr(sys, "argv", ["bpfc", "train", "mnist-5k-bpfc", "--network", "theirs:own", *short.split()])
    main()
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, "run --attacks fgsm --limit 5")
    assert "if you trust that code, say so with --model theirs:own" in capsys.readouterr().err
    assert evaluate(monkeypatch, "run --attacks fgsm --limit 5 --model theirs:own")["images"] == 5
    with pytest.raises(ValueError, match="gives a int"):
        monkeypatch.setattr(named("theirs:own").__globals__["nn"], "Sequential", lambda *_: 3)
        build("theirs:own", channels=1, classes=2, size=4)
