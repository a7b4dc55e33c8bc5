"""Training on one's own data: the recipe that follows from it, and a run that knows its data again."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bpfc.__main__ import main
from bpfc.bitplanes import k_for, quantize
from bpfc.cli import train
from bpfc.cli.subjects import from_run
from bpfc.data import DataSet, Images
from bpfc.errors import UserError
from bpfc.files import read_jsonl
from bpfc.methods import BPFC, METHODS, Margin
from bpfc.models import NETWORKS, build
from bpfc.report.page.gallery import gallery, images_of
from bpfc.report.page.records import read_run
from bpfc.training.derived import derived, told
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.settings import QUARTERS, Schedule


def some_data(dtype: torch.dtype = torch.uint8, channels: int = 1, size: int = 8) -> DataSet:
    pixels = torch.full((20, channels, size, size), torch.iinfo(dtype).max, dtype=dtype)
    images = Images(pixels, torch.arange(20) % 4)
    return DataSet("mine", images, images, 4)


@pytest.mark.parametrize(
    ("eps", "bits", "k"), [(0.3, 8, 7), (0.1, 8, 6), (8 / 255, 8, 4), (4 / 255, 8, 3), (4 / 255, 16, 11)]
)
def test_k_is_the_least_whose_error_exceeds_eps(eps: float, bits: int, k: int) -> None:
    assert k_for(eps, bits) == k
    images = torch.rand(20_000)
    error = (quantize(images, k, bits=bits) - images).abs().max()
    below = (quantize(images, k - 1, bits=bits) - images).abs().max()
    assert below < eps < error + 1e-3


@pytest.mark.parametrize("eps", [0.0, 1.5, 0.9])
def test_no_k_for_such_an_eps(eps: float) -> None:
    with pytest.raises(ValueError, match="eps="):
        k_for(eps)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_recipe_for_any_data(method: str, dtype: torch.dtype) -> None:
    recipe = derived(method, some_data(dtype), eps=0.1, network="m-lenet-quarter")
    assert recipe.method.name == method
    assert getattr(recipe.method, "eps", 0.1) == 0.1
    assert getattr(recipe.method, "step_size", 0.025) == 0.025
    assert (recipe.data, recipe.validation) == ("mine", 2)


def test_the_weight_starts_low_where_batchnorm_or_depth_needs_it() -> None:
    shallow = derived("bpfc", some_data(), eps=0.1, network="m-lenet-quarter")
    assert isinstance(shallow.method, BPFC)
    assert (shallow.method.k, shallow.method.weight) == (6, 25.0)
    assert shallow.weight_schedule == Schedule("ramp", (0.0, 0.5))
    assert "λ: 0, 15, 25, 25 after 0, 3, 6 and 9 tenths of the run (neither" in "\n".join(told(shallow, some_data()))
    deep = derived("bpfc", some_data(), eps=8 / 255)
    assert isinstance(deep.method, BPFC)
    assert (deep.network, deep.method.weight) == ("resnet-18", 1.0)
    assert deep.weight_schedule == Schedule(milestones=QUARTERS, factor=9.0)  # the paper's on CIFAR-10
    assert "λ: 1, 9, 81, 729" in "\n".join(told(deep, some_data()))


@pytest.mark.parametrize("method", ["ibp", "bpfc-ibp", "margin"])
def test_what_must_grow_starts_at_nothing_as_in_our_own_recipes(method: str) -> None:
    """At full ε from the start, the first loss of a ResNet-18 with bounds is of order 1e14."""
    data, own = some_data(), RECIPES[f"mnist-{method}"][1]
    recipe = derived(method, data, eps=0.1)
    assert recipe.weight_schedule == own.weight_schedule
    grown = [
        getattr(recipe.method_at(share * recipe.epochs), "strength" if method == "margin" else "grown")
        for share in (0, 0.6)
    ]
    assert grown == [0, 1]
    assert any(": 0, " in line and "times full size after" in line for line in told(recipe, data))
    if method == "margin":
        assert (recipe.network, recipe.optimizer) == ("resnet-18", "sgd")
        return
    settings = [(each.network, each.optimizer, each.lr, each.weight_decay) for each in (recipe, own)]
    assert settings[0] == settings[1]
    assert recipe.averaging == 0.5  # of 20 images: the recipe's 0.999 would keep the fresh weights to the end
    warned = derived(method, data, eps=0.1, network="resnet-18-half")
    assert any("warning: bounds of dense" in line for line in told(warned, data))
    model = build(warned.network, channels=1, classes=4, size=8)
    images, labels = data.train.pixels.float() / 255, data.train.labels
    assert warned.method_at(0)(model, images, labels).loss < 10


def test_the_bits_are_those_of_the_images() -> None:
    deep = derived("bpfc", some_data(torch.uint16), eps=0.1, network="m-lenet-quarter").method
    assert isinstance(deep, BPFC)
    assert (deep.bits, deep.k) == (16, 14)
    ten = derived("bpfc", some_data(torch.uint16), eps=0.1, network="m-lenet-quarter", bits=10).method
    assert isinstance(ten, BPFC)
    assert (ten.bits, ten.k) == (10, 8)
    with pytest.raises(ValueError, match="--bits 8: must be"):
        derived("bpfc", some_data(torch.uint16), eps=0.1, bits=8)


def test_fewer_bits_in_the_low_ones_of_sixteen_are_noticed() -> None:
    """As scanners leave them: ε 0.1 would be more than their whole range."""
    images = Images(torch.full((20, 1, 8, 8), 4095, dtype=torch.uint16), torch.arange(20) % 4)
    data = DataSet("mine", images, images, 4)
    with pytest.raises(ValueError, match="--bits 12: values up to 4095 lie in the low bits.* multiply them by 16"):
        derived("bpfc", data, eps=0.1, network="m-lenet-quarter", bits=12)
    warning = "warning: the values end at 4095 of 65535"
    assert warning in "\n".join(told(derived("bpfc", data, eps=0.1, network="m-lenet-quarter"), data))
    whole = some_data(torch.uint16)
    assert "warning" not in "\n".join(told(derived("bpfc", whole, eps=0.1, network="m-lenet-quarter"), whole))


def tiny(channels: int, classes: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes))


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Light and dark squares; of 16 bits, in a folder for each class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NETWORKS, "tiny", tiny)
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "squares" / name).mkdir(parents=True)
        for number in range(40):
            shades = rng.integers(30_000 * label, 30_000 * (label + 1), (8, 8)).astype(np.uint16)
            Image.fromarray(shades).save(tmp_path / "squares" / name / f"{number:02d}.png")
    return tmp_path / "squares"


def call(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bpfc", *words.split()])
    main()


TRAIN = "train bpfc --data squares --eps 0.1 --network tiny --epochs 2 --device cpu --precision fp32"


def test_a_run_knows_its_data_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, TRAIN)
    shown = capfd.readouterr().out
    assert "72 images to train on, 7 of them held out to watch; 8 to test on; 2 classes, 1×8×8, uint16" in shown
    assert "k 14 of 16 bit planes" in shown
    assert "2 epochs, batches of 32" in shown
    run = Run(Path("runs/squares-bpfc"))
    described = json.loads((run.folder / "data.json").read_text())
    assert described["class_names"] == ["dark", "light"]
    assert (described["train"], described["test"]) == (72, 8)

    attack = "evaluate runs/squares-bpfc --attacks fgsm --device cpu --precision fp32"
    call(monkeypatch, attack)
    rows = read_jsonl(run.folder / "evaluation" / "ledger.jsonl")
    assert len(rows) == 8  # those that were held out for good
    assert (
        json.loads((run.folder / "evaluation" / "evaluation.json").read_text())["data_sha256"]
        == (described["test_sha256"])
    )

    call(
        monkeypatch, attack.replace("fgsm", "fgsm,adaptive-3") + " --out knowing"
    )  # k is 14 of 16, and the attacker's 6 of 8
    assert from_run(run.folder).k == 6
    assert "adaptive-3" in json.loads(Path("knowing/summary.json").read_text())["attacks"]

    refused = lambda words: refusal(monkeypatch, capfd, words)  # noqa: E731
    pictures.rename(tmp_path / "elsewhere")
    assert "name where it is now with --data" in refused(attack)
    call(monkeypatch, f"{attack} --data elsewhere")
    call(monkeypatch, f"{TRAIN.replace('squares', 'elsewhere')} --resume --out runs/squares-bpfc")
    assert "data was 'squares', is 'mnist-5k'" in refused(
        "train mnist-5k-bpfc --resume --out runs/squares-bpfc --device cpu --precision fp32"
    )
    (tmp_path / "elsewhere").rename(pictures)

    (pictures / "light" / "00.png").write_bytes((pictures / "dark" / "00.png").read_bytes())
    told = refused(f"{TRAIN} --resume")
    kept = (run.folder / "data.json").read_bytes()
    (run.folder / "data.json").unlink()  # the training went on, with other data
    assert "checkpoint-0002: a state without its data.json" in refused(f"{TRAIN} --resume")
    (run.folder / "data.json").write_bytes(kept)
    assert "started with other data (train_sha256 was" in told or "started with other data (test_sha256 was" in told
    for number in range(40):  # whatever is held out
        (pictures / "light" / f"{number:02d}.png").write_bytes((pictures / "dark" / "00.png").read_bytes())
    assert "its test images are not those of" in refused(attack)


def test_the_page_shows_the_images_that_were_attacked_by_the_names_of_their_classes(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the held-out images, as the run reads them."""
    call(monkeypatch, f"{TRAIN} --size 6 --epochs 10 --out run")
    call(monkeypatch, "evaluate run --attacks fgsm --eps 0.4 --save-images --device cpu --precision fp32")
    record = read_run(Path("run"))
    images = images_of(record, None)
    assert images is not None
    assert images.sha256() == json.loads(Path("run/data.json").read_text())["test_sha256"]
    rows = read_jsonl(Path("run/evaluation/ledger.jsonl"))
    found = gallery([record], {record.data: images})
    assert [card.label for card in found.cards] == [("dark", "light")[row["label"]] for row in rows]
    broken = [card for card in found.cards if card.outcome == "broken"]
    assert broken
    for card in broken:  # of two classes, it is read as the other
        assert ("read as light" in card.told) == (card.label == "dark")
    call(monkeypatch, "report run --out page.html")
    assert "dark" in Path("page.html").read_text()
    pictures.rename("elsewhere")
    assert gallery([record], {record.data: images_of(record, None)}).advice == [
        "the images of squares are not to be had here: put them back as they were"
    ]


def test_the_page_reads_pictures_of_a_model_that_was_handed_in_as_they_were_taken(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(pictures.parent))
    Path("theirs.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))\n"
    )
    call(
        monkeypatch,
        "evaluate --model theirs:net --data squares --size 6 --eps 0.4 --attacks fgsm --limit 8 --save-images "
        "--out theirs --device cpu --precision fp32",
    )
    record = read_run(Path("theirs"))
    assert record.evaluations[0].summary["reading"] == {"size": 6}
    images = images_of(record, None)
    assert images is not None
    assert images.shape[1:] == (1, 6, 6)
    assert len(gallery([record], {record.data: images}).cards) == 8
    (pictures / "light" / "00.png").unlink()
    assert images_of(record, None) is None


def refusal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, words)
    assert stopped.value.code == 2
    return capfd.readouterr().err


def test_decoded_a_batch_at_a_time_it_is_the_same_training(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, f"{TRAIN} --out held")
    monkeypatch.setattr("bpfc.data.sets.IN_MEMORY", 0)
    (pictures / "light" / "99.png").write_bytes(b"nothing")
    call(monkeypatch, f"{TRAIN} --out lazy --workers 3 --skip-unreadable --limit 65")
    assert "skipped: squares/light/99.png cannot be read\nskipped: 1 pictures in all" in capfd.readouterr().out
    assert Run(Path("held")).digest == Run(Path("lazy")).digest
    call(monkeypatch, "evaluate lazy --attacks fgsm --device cpu --precision fp32")
    assert "skipped: squares/light/99.png cannot be read\nskipped: 1 pictures in all" in capfd.readouterr().out
    warnings = json.loads(Path("lazy/evaluation/summary.json").read_text())["warnings"]
    assert "1 pictures could not be read and are left out, squares/light/99.png first" in warnings


def test_the_method_s_own_settings_may_be_given(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They parsed, and were then refused of the recipe that stood in until the data was seen."""
    call(monkeypatch, f"{TRAIN} --method.k 12 --method.weight 3 --out mine")
    assert "k 12 of 16 bit planes" in capfd.readouterr().out
    method = Run(Path("mine")).recipe().method
    assert isinstance(method, BPFC)
    assert (method.k, method.weight, method.bits) == (12, 3, 16)
    call(monkeypatch, f"{TRAIN.replace('bpfc', 'fgsm-at')} --method.eps 0.05 --out apart")
    assert "fgsm-at trains at ε 0.05 (--method.eps); validation and later attacks are at 0.1" in capfd.readouterr().out
    assert "k=16: must be" in refusal(monkeypatch, capfd, f"{TRAIN} --method.k 16 --out none")


def test_words_are_refused_before_the_data_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--no-such"):
        train.parse(["bpfc", "--data", "nowhere", "--eps", "0.1", "--no-such", "3"])
    with pytest.raises(UserError, match="--eps"):
        train.parse(["bpfc", "--data", "nowhere"])
    options = train.parse(
        ["margin", "--data", "some/pictures.npz", "--eps", "4/255", "--method.k", "2", "--size", "32"]
    )
    assert isinstance(options, train.TrainOwn)
    given = options.options(derived("margin", some_data(), eps=0.1, network="m-lenet-quarter"))
    assert given.out == Path("runs/pictures-margin")
    assert isinstance(given.recipe.method, Margin)
    assert (given.recipe.method.k, given.reading.size) == (2, 32)


def test_a_run_is_named_by_its_data_and_lies_outside_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder itself it was "-margin", and made of the data set none: runs counted as a class."""
    place = tmp_path / "pictures"
    place.mkdir()
    monkeypatch.chdir(place)
    words = ["margin", "--data", ".", "--eps", "4/255"]
    with pytest.raises(UserError, match="^--out runs/pictures-margin: lies in the folder of the data, .*another --out"):
        train.parse(words)
    with pytest.raises(UserError, match="^--out a/b: lies in the folder"):
        train.parse(["mnist-5k-bpfc", "--data", str(place), "--out", "a/b"])
    for elsewhere in ("../run", ".runs/a"):
        assert isinstance(train.parse([*words, "--out", elsewhere]), train.TrainOwn)
    for part in ("train", "val"):
        (place / part).mkdir()
    assert isinstance(train.parse(words), train.TrainOwn)  # reads these two alone
    monkeypatch.chdir(tmp_path)
    assert isinstance(train.parse(["margin", "--data", "pictures", "--eps", "4/255"]), train.TrainOwn)
    (tmp_path / "mnist-5k").mkdir()  # is no data: the name is a set's
    train.parse(["mnist-5k-bpfc", "--out", "mnist-5k/run"])
