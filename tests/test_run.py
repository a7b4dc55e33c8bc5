"""What a training leaves: it follows from the newest state, and what is damaged is told, never taken."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bpfc.data import DataSet
from bpfc.files import owned, read_json, write_json
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run, RunError
from bpfc.training.run_data import class_names
from bpfc.training.start import train
from bpfc.training.state import TENSORS
from bpfc.weights import digest, load_tensors, save_tensors

SHORT = replace(
    RECIPES["mnist-5k-normal"][1],
    network="m-lenet-quarter",
    epochs=2,
    limit=100,
    batch_size=50,
    validation_attacked=10,
    ifgsm_steps=2,
)


def go_on(out: Path, recipe: Recipe = SHORT) -> Run:
    return train(recipe, out, device="cpu", precision="fp32", resume=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_on(tmp_path_factory.mktemp("runs") / "done").folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path / "run")
    return tmp_path / "run"


def test_the_selected_weights_follow_from_the_state_at_every_start(copy: Path) -> None:  # F1
    right = digest(load_file(copy / "checkpoint-0002" / "selected.safetensors"))
    for damage in ("missing", "of an earlier epoch", "cut"):
        if damage == "missing":
            (copy / "model.safetensors").unlink()
        elif damage == "cut":
            (copy / "model.safetensors").write_bytes(b"half")
        else:
            save_file({"other": torch.zeros(1)}, copy / "model.safetensors")
        go_on(copy)
        assert digest(load_tensors(copy / "model.safetensors")) == right


def test_the_log_follows_from_the_state(copy: Path) -> None:
    whole = (copy / "log.jsonl").read_text()
    for damaged in ("", whole[:100]):
        (copy / "log.jsonl").write_text(damaged)
        go_on(copy)
        assert (copy / "log.jsonl").read_text() == whole
    (copy / "log.jsonl").write_text(whole.replace('"validation_accuracy": 0.', '"validation_accuracy": 1.'))
    with pytest.raises(ValueError, match=r"log\.jsonl: line 1 is damaged"):  # pages and audits show its figures
        _ = Run(copy).log


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{
        f"{name} flipped": lambda run, name=name: flip(run / "checkpoint-0002" / f"{name}.safetensors")
        for name in TENSORS
    },
    "weights missing": lambda run: (run / "checkpoint-0002" / "weights.safetensors").unlink(),
    "weights empty": lambda run: (run / "checkpoint-0002" / "weights.safetensors").write_bytes(b""),
    "another's momentum": lambda run: save_file({}, run / "checkpoint-0002" / "momentum.safetensors"),
    **{
        f"state {text[:9]}": lambda run, text=text: (run / "checkpoint-0002" / "state.json").write_text(text)
        for text in ("", "null", "5", "[]", "{}", "[" * 10_000, '{"recipe_sha256": 0}')
    },
    "state missing": lambda run: (run / "checkpoint-0002" / "state.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_not_gone_on_from(damage: str, copy: Path) -> None:  # F13
    DAMAGES[damage](copy)
    with pytest.raises(RunError, match=r"checkpoint-0002: cannot be gone on from: .*start anew") as raised:
        go_on(copy)
    assert "\n" not in str(raised.value)


def test_a_state_does_not_go_on_under_another_recipe(copy: Path) -> None:  # F12
    recipe = copy / "recipe.json"
    (content := read_json(recipe))["seed"] = 1
    recipe.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"written under another recipe\.json"):
        go_on(copy, replace(SHORT, seed=1))
    recipe.unlink()
    with pytest.raises(RunError, match=r"checkpoint-0002: a state without its recipe\.json"):
        go_on(copy)


def test_weights_that_the_state_has_not_selected_are_refused(copy: Path, digits: DataSet) -> None:  # F1, F13
    """Of an earlier epoch, after a kill, or of another run: both files are whole."""
    sound = Run(copy).model(digits)
    others = {name: value + 1 for name, value in sound.state_dict().items()}
    save_tensors(copy / "model.safetensors", others)
    with pytest.raises(RunError, match=r"not the weights that .*checkpoint-0002 has selected; .* --resume"):
        Run(copy).model(digits)
    go_on(copy)
    Run(copy).model(digits)
    save_tensors(copy / "model.safetensors", others)
    shutil.rmtree(copy / "checkpoint-0002")
    Run(copy).model(digits)  # as a copy without states


def test_an_unknown_setting_is_named(copy: Path) -> None:
    recipe = copy / "recipe.json"
    recipe.write_text(json.dumps(read_json(recipe) | {"epoch": 3}))
    with pytest.raises(RunError, match=r"recipe\.json: not a recipe .*unknown setting 'epoch'"):
        Run(copy).recipe()


def test_half_of_an_older_state_goes_at_the_next_start(copy: Path) -> None:
    """As a kill leaves it that comes amid its removal."""
    (copy / "checkpoint-0001").mkdir()
    (copy / "checkpoint-0001" / "weights.safetensors").write_bytes(b"")
    (copy / "checkpoint-0001-keep").mkdir()
    go_on(copy)
    assert not (copy / "checkpoint-0001").exists()
    assert (copy / "checkpoint-0001-keep").exists()


def test_where_the_log_tells_all_epochs_nothing_is_left_to_do(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill before the log is whole leaves a run that is not taken for a finished one; so the log comes last."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (copy / "checkpoint-0001").mkdir()
    (copy / "model.safetensors").unlink()
    monkeypatch.setattr("bpfc.training.run.write_jsonl", killed)
    with pytest.raises(KeyboardInterrupt):
        go_on(copy)
    assert not (copy / "checkpoint-0001").exists()
    assert (copy / "model.safetensors").exists()


@pytest.mark.parametrize("content", ["", "null", "5", "[]", "{}", "[" * 10_000, '{"method": null}', '{"method": []}'])
def test_a_damaged_recipe_is_named(content: str, copy: Path) -> None:
    (copy / "recipe.json").write_text(content)
    with pytest.raises(RunError, match=r"recipe\.json: (not|holds)") as raised:
        Run(copy).recipe()
    assert "\n" not in str(raised.value)


def test_earlier_versions_recipes_are_read(copy: Path) -> None:
    content = read_json(copy / "recipe.json")
    content["attack_step"] = content.pop("step_size")
    content["method"] = {"name": "pgd-at", "eps": 0.1, "step": 0.01, "steps": 40}
    for new in ("clip_norm", "select", "weights"):
        del content[new]
    (copy / "recipe.json").write_text(json.dumps(content))
    recipe = Run(copy).recipe()
    assert recipe.step_size == SHORT.step_size
    assert recipe.method.step_size == 0.01  # type: ignore[union-attr]
    assert recipe.clip_norm is None


def test_a_folder_of_the_user_s_own_is_left_alone(copy: Path) -> None:
    (copy / "checkpoint-0001-keep").mkdir()
    (copy / "checkpoint-0001").mkdir()
    shutil.rmtree(copy / "checkpoint-0002")
    shutil.rmtree(copy / "checkpoint-0001")
    go_on(copy)
    assert (copy / "checkpoint-0001-keep").is_dir()
    assert (copy / "checkpoint-0002").is_dir()


def test_one_process_trains_in_a_folder(copy: Path) -> None:
    with owned(copy), pytest.raises(OSError, match="another process is at work there"):
        go_on(copy)
    go_on(copy)


def test_everybody_may_read_what_a_run_leaves(done: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o444 for path in done.rglob("*") if path.name != ".lock"}
    assert set(modes.values()) == {0o444}


def test_weights_of_another_network_are_refused(done: Path, tmp_path: Path, digits: DataSet) -> None:
    shutil.copytree(done, tmp_path / "run")
    recipe = read_json(tmp_path / "run" / "recipe.json")
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({**recipe, "network": "resnet-18"}))
    with pytest.raises(RunError, match=r"model.safetensors: not the weights of resnet-18 on mnist-5k"):
        Run(tmp_path / "run").model(digits)
    (tmp_path / "run" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(RunError, match="not the weights"):
        Run(tmp_path / "run").model(digits)
    (tmp_path / "run" / "model.safetensors").unlink()
    command = re.escape(read_json(tmp_path / "run" / "provenance.json", list)[0]["command"])
    with pytest.raises(RunError, match=f"no weights; where .* train it again with {command}$"):
        Run(tmp_path / "run").model(digits)
    (tmp_path / "run" / "provenance.json").unlink()
    with pytest.raises(RunError, match=r"train it again with the settings in .*recipe.json$"):
        Run(tmp_path / "run").model(digits)
    (tmp_path / "run" / "recipe.json").write_text('{"method": {"name": "magic"}}')
    with pytest.raises(RunError, match="not a recipe of this version"):
        Run(tmp_path / "run").model(digits)
    (tmp_path / "run" / "recipe.json").write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        Run(tmp_path / "run").model(digits)


def test_a_copy_of_a_run_knows_its_own_data(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    assert not run.exists
    run.begin(RECIPES["mnist-5k-bpfc"][1], "fp32", {})
    write_json(run.data_file, {"class_names": ["one", "two"], "test_sha256": "abc"})
    run.copy(tmp_path / "copy")
    copied = Run(tmp_path / "copy")
    assert (copied.exists, class_names(copied), copied.recipe()) == (True, ("one", "two"), run.recipe())
    run.copy(run.folder)  # as an export into the run itself
    assert class_names(run) == ("one", "two")
