"""The verb `explore`: which runs it shows, and what it says of those it cannot."""

import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from conftest import small_network
from test_explore import DIGITS

from bpfc.cli import explore, transfer
from bpfc.data import DataSet
from bpfc.errors import UserError
from bpfc.explore.page import _Handlers, build_page
from bpfc.explore.server import listen
from bpfc.files import read_json, without_checksum, write_json
from bpfc.models import NETWORKS
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.run import RunError
from bpfc.training.start import train


@pytest.fixture(scope="module")
def demo(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What bpfc demo leaves, of trainings that are hardly any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bpfc.data.load", lambda *_: digits)
        patch.setitem(NETWORKS, "m-lenet", lambda *_: small_network())
        folder = tmp_path_factory.mktemp("explore") / "demo"
        quick = {"epochs": 1, "limit": 100, "validation": 20, "validation_attacked": 2, "ifgsm_steps": 1}
        for name in ("normal", "bpfc"):
            recipe = replace(RECIPES[f"mnist-5k-{name}"][1], **quick)  # type: ignore[arg-type]
            train(recipe, folder / name, device="cpu", precision="fp32")
        yield folder


def test_the_demos_networks_are_shown_bpfc_first(demo: Path) -> None:
    scene = explore.scene((demo,))
    assert [network.name for network in scene.networks] == ["BPFC", "normal"]
    assert (scene.data, scene.eps, scene.k, scene.classes) == ("mnist-5k", 0.3, 7, list(DIGITS))


def test_a_network_of_one_s_own_is_shown_and_transferred_where_it_is_named(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_networks.py").write_text(
        "from conftest import small_network\n\ndef net(channels, classes, size):\n    return small_network()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = Path(shutil.copytree(demo / "normal", tmp_path / "own"))
    recipe = without_checksum(read_json(own / "recipe.json"))
    write_json(own / "recipe.json", recipe | {"network": "their_networks:net"})
    named = ("their_networks:net",)
    assert len(explore.scene((own, demo / "bpfc"), trusted=named).networks) == 2
    asked = transfer.Transfer((own,), source=(demo / "normal",), model=named, limit=4, out=tmp_path / "out")
    assert transfer.run(asked)["targets"]["own"]["images"] == 4
    monkeypatch.setattr("bpfc.training.run_data.load", lambda *_, **__: pytest.fail("data was read"))
    monkeypatch.setitem(sys.modules, "bpfc.explore.page", None)  # which would be told as missing
    for verb, model, told in (
        ("explore", (), "own: its network their_networks:net is not bpfc's, .* say so with --model their_networks:net"),
        ("explore", ("other:net",), r"--model other:net: is not the network of .*own \(their_networks:net\); name one"),
        ("transfer", (), "own: its network .* say so with --model their_networks:net"),
        ("transfer", ("other:net",), r"--model other:net: .*own \(their_networks:net\) or .*normal \(m-lenet\); name"),
    ):
        with pytest.raises((ValueError, RunError), match=told):
            if verb == "explore":
                explore.main(explore.Explore((own,), model=model, port=0))
            else:
                transfer.run(replace(asked, model=model))


@pytest.mark.parametrize("levels", [1, 2, 8])
def test_the_page_begins_with_the_recipe_s_radius_however_small(demo: Path, tmp_path: Path, levels: int) -> None:
    """1/255 was rounded to 0, of which pictures are NaN, and an attack was refused."""
    small = Path(shutil.copytree(demo / "normal", tmp_path / "small"))
    recipe = without_checksum(read_json(small / "recipe.json"))
    write_json(small / "recipe.json", recipe | {"eps": levels / 255})
    scene = explore.scene((small,))
    assert scene.eps == levels / 255
    blocks = build_page(scene).blocks.values()
    (slider,) = [each for each in blocks if isinstance(each, gr.Slider) and str(each.label).startswith("ε")]
    assert slider.value == levels / 255
    nearest = round(levels / 255 / slider.step) * slider.step
    assert slider.minimum <= nearest == pytest.approx(levels / 255, rel=0.03)
    handlers = _Handlers(scene)
    chosen = handlers.test_image(0, 6)[0]
    for eps in (scene.eps, slider.minimum, slider.maximum):
        assert "Step 2 of 2" in list(handlers.attack(chosen, slider.preprocess(eps), 2))[-1][0]


def test_runs_of_one_name_are_told_apart(demo: Path, tmp_path: Path) -> None:
    again = shutil.copytree(demo / "normal", tmp_path / "again")
    scene = explore.scene((demo / "normal", Path(again)))
    assert [network.name for network in scene.networks] == ["normal, normal", "normal, again"]


def test_runs_of_several_data_sets_are_told_with_theirs(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own, which were in another order, and before a network is read."""
    other = Path(shutil.copytree(demo / "normal", tmp_path / "other"))
    recipe = without_checksum(read_json(other / "recipe.json"))
    write_json(other / "recipe.json", recipe | {"data": "fashion-mnist"})
    monkeypatch.setattr("bpfc.cli.subjects.of_run", lambda *_: pytest.fail("a network was read"))
    with pytest.raises(ValueError, match="normal is of mnist-5k, .*other is of fashion-mnist; must be of one data set"):
        explore.scene((demo / "normal", other))


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ((), "0 runs: must be from 1 to 4"),
        (("a",) * 5, "5 runs: must be from 1 to 4"),
        (("demo",), "demo: no such folder; bpfc demo makes it"),
        (("nothing",), "nothing"),
    ],
)
def test_runs_that_are_not_there_are_named(
    runs: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, UserError), match=told):
        explore.scene(tuple(map(Path, runs)))


def test_a_folder_without_a_run_is_named_before_gradio_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bpfc.explore.page", None)  # which would be told as missing
    with pytest.raises(UserError, match="holds no run"):
        explore.main(explore.Explore((tmp_path,), port=0))


def test_an_address_that_is_taken_is_named_before_any_network_is_read(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "scene", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--host 127.0.0.1 --port {port}: cannot be listened on"):
            explore.main(explore.Explore((demo,), port=port))
    for host, port in (("127.0.0.1", 70_000), ("192.0.2.1", 0), ("no such host", 0)):
        with pytest.raises(ValueError, match="cannot be listened on"):
            listen(host, port)


def test_a_page_for_others_has_a_password(demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    given: list[Any] = []
    monkeypatch.setattr("bpfc.explore.server.application", lambda *words: given.append(words[1:]))
    monkeypatch.setattr("bpfc.explore.server.serve", lambda *_: None)
    options = explore.Explore((demo,), port=0)
    explore.main(options)
    assert given[-1] == (None, ("127.0.0.1", "::1", "localhost"))
    explore.main(replace(options, host="0.0.0.0"))
    password, hosts = given[-1]
    assert len(password) >= 16
    assert hosts is None
    assert f"user bpfc, password {password}" in capsys.readouterr().out
    monkeypatch.setenv("BPFC_EXPLORE_PASSWORD", "short")
    with pytest.raises(ValueError, match="has 5 characters; must have at least 12"):
        explore.main(replace(options, host="0.0.0.0"))
    monkeypatch.setenv("BPFC_EXPLORE_PASSWORD", "a long pass phrase")
    explore.main(replace(options, host="0.0.0.0"))
    assert given[-1][0] == "a long pass phrase"
    explore.main(replace(options, host="0.0.0.0", public=True))
    assert given[-1] == (None, None)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe for arrays at `mine`, whose test images are not of every class that a network knows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NETWORKS, "small", lambda *_: small_network())
    fill("mine", 0)
    return replace(
        RECIPES["mnist-5k-normal"][1], data="mine", network="small", epochs=1, validation=4, validation_attacked=4
    )


def fill(folder: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Path(folder).mkdir()
    for part, labels in (("train", np.arange(40) % 10), ("val", np.arange(8) % 3)):
        pixels = rng.integers(0, 256, (len(labels), 28, 28, 1), np.uint8)
        np.savez(f"{folder}/{part}.npz", images=pixels, labels=labels.astype(np.int64))


def test_networks_of_one_s_own_data_are_shown(mine: Recipe) -> None:
    train(mine, Path("run"), device="cpu", precision="fp32")
    scene = explore.scene((Path("run"),))
    assert (scene.data, tuple(scene.classes)) == ("mine", DIGITS)
    Path("mine").rename("moved")
    with pytest.raises(RunError, match="mine: the data of run is not there; name where it is now with --data"):
        explore.scene((Path("run"),))
    there = explore.parse(["run", "--data", "moved"])
    assert explore.scene(there.runs, there.data_dir, there.data).images.sha256() == scene.images.sha256()
    words = "run --source run --attacks fgsm --limit 4 --device cpu --data moved"
    assert transfer.run(transfer.parse(words.split()))["images"] == 4


def test_data_of_one_s_own_is_known_by_what_it_holds_and_not_by_its_path(
    mine: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of one set, of which one was trained before it was moved, could not be shown together."""
    train(mine, Path("before"), device="cpu", precision="fp32")
    Path("mine").rename("moved")
    train(replace(mine, data="moved"), Path("after"), device="cpu", precision="fp32")
    both = explore.parse(["before", "after", "--data", "moved"])
    assert len(explore.scene(both.runs, both.data_dir, both.data).networks) == 2
    fill("mine", 1)
    train(mine, Path("other"), device="cpu", precision="fp32")
    monkeypatch.setattr("bpfc.cli.subjects.of_run", lambda *_: pytest.fail("a network was read"))
    with pytest.raises(ValueError, match="before is of mine, other is of mine; must be of one data set, with the same"):
        explore.scene((Path("before"), Path("other")))
