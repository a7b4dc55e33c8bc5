import io
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import small_network
from lightning_fabric import Fabric
from processes import python
from safetensors.torch import load_file
from torch import nn

from bpfc.cli import train as verb
from bpfc.data import DataSet, load
from bpfc.files import read_jsonl
from bpfc.judge import exact_logits
from bpfc.methods import BPFC, BPFCIBP, IBP, AnyMethod, Margin, Normal
from bpfc.models import NETWORKS, build
from bpfc.training import engine, progress
from bpfc.training.engine import averaged_model
from bpfc.training.health import TrainingError
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run, RunError
from bpfc.training.settings import Schedule
from bpfc.training.start import train
from bpfc.training.state import State

SHORT = replace(
    RECIPES["mnist-5k-bpfc"][1],
    network="m-lenet-quarter",
    epochs=3,
    limit=150,
    batch_size=50,
    validation_attacked=20,
    ifgsm_steps=3,
    lr=0.02,
)


def run(recipe: Recipe, out: Path, *, resume: bool = False) -> Path:
    return train(recipe, out, device="cpu", precision="fp32", resume=resume).folder


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(SHORT, tmp_path_factory.mktemp("runs") / "unbroken")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a network that takes a fraction of the time."""
    monkeypatch.setitem(NETWORKS, "small", lambda *_: small_network())
    return "small"


def same_weights(a: Path, b: Path) -> bool:
    for name in ("model.safetensors", "checkpoint-0003/weights.safetensors", "checkpoint-0003/selected.safetensors"):
        first, second = load_file(a / name), load_file(b / name)
        if not all(torch.equal(first[key], second[key]) for key in first):
            return False
    return True


def without_clock(run: Path) -> list[dict[str, object]]:
    clock = ("images_per_second", "train_seconds", "validation_seconds", "peak_memory_mib")
    return [{key: value for key, value in row.items() if key not in clock} for row in read_jsonl(run / "log.jsonl")]


def row_of(seconds: float, validation: float = 0.0) -> dict[str, float]:
    row = {"train_seconds": seconds, "validation_seconds": validation, "epoch": 0, "gradient_alignment": 1.0}
    row |= {f"{name}_accuracy": 0.5 for name in ("train", "validation", "validation_ifgsm")}
    return row | {f"watched_{name}_accuracy": 0.5 for name in ("fgsm", "pgd")}


def test_time_left_beyond_a_day_counts_the_days(capsys: pytest.CaptureFixture[str]) -> None:
    progress.report([row_of(129_600.4)], replace(RECIPES["mnist-bpfc"][1], epochs=2), 28, collapsed=None)
    assert capsys.readouterr().out.endswith("; 1 day, 12:00:00 left\n")


def test_time_left_knows_that_later_images_are_larger(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = replace(RECIPES["cifar-10-bpfc-fast"][1], epochs=10)  # 4 of them at 24x24, 6 at 32x32: 16/9 the pixels
    progress.report([row_of(90, 7), row_of(90, 9)], recipe, 32, collapsed=None)
    assert capsys.readouterr().out.endswith("; 0:20:04 left\n")  # 2 * 90 + 6 * 160 + 8 * 8
    unlike = [row_of(1, 1)] * 2  # which are too long ago
    progress.report([*unlike, row_of(90), row_of(90), *[row_of(160)] * 3], recipe, 32, collapsed=None)
    assert capsys.readouterr().out.endswith("; 0:08:00 left\n")  # 3 * 160


def test_where_somebody_watches_a_bar_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("rich._console", None)  # what other tests have drawn on
    monkeypatch.setenv("TERM", "xterm")
    shown, dropped = Terminal(), io.StringIO()
    for out in (shown, dropped):
        monkeypatch.setattr("sys.stdout", out)
        with progress.bar(SimpleNamespace(is_global_zero=True), total=4, done=2) as advance:  # type: ignore[arg-type]
            advance()
    assert re.search(r"training .*step 3/4.*-:--:--", shown.getvalue())  # one step tells no speed yet
    assert dropped.getvalue() == ""


@pytest.mark.parametrize(
    ("method", "moved"),
    [
        (IBP(eps=0.2, weight=0.8), {"weight": 0.8, "eps": 0.2}),
        (BPFCIBP(eps=0.2, share=0.8), {"share": 0.8, "eps": 0.2}),
        (Margin(eps=0.2, strength=3.0), {"strength": 3.0}),
    ],
)
def test_the_log_says_what_is_in_force(
    method: AnyMethod, moved: dict[str, float], small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not what will be, once a ramp has risen."""
    ramp = Schedule("ramp", (0.0, 0.8))
    recipe = replace(SHORT, network=small, method=method, epochs=2, limit=64, weight_schedule=ramp, select="last")
    first, second = Run(run(recipe, tmp_path / "run")).log
    told = capsys.readouterr().out
    for name, full in moved.items():
        assert (first[name], second[name]) == (0, pytest.approx(0.625 * full))
        assert f" {name} {0.625 * full:.4g} " in told
    if "weight" not in moved:
        assert first["weight"] == second["weight"] == 10  # λ, which stays


def test_what_a_run_leaves(unbroken: Path, digits: DataSet) -> None:
    names = sorted(path.name for path in unbroken.iterdir() if path.name != ".lock")
    assert names == ["checkpoint-0003", "log.jsonl", "model.safetensors", "provenance.json", "recipe.json"]
    rows = read_jsonl(unbroken / "log.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["loss"] == pytest.approx(row["cross_entropy"] + row["weight"] * row["regulariser"], rel=1e-4)
        assert row["images_per_second"] > 0
        assert row["peak_memory_mib"] > 10
        assert 0 <= row["validation_ifgsm_accuracy"] <= row["validation_accuracy"] <= 1
    assert rows[2]["loss"] < rows[0]["loss"]
    (provenance,) = json.loads((unbroken / "provenance.json").read_text())
    assert provenance["versions"]["torch"] == torch.__version__
    assert exact_logits(Run(unbroken).model(digits), torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_selection_is_by_validation_among_the_eligible(unbroken: Path) -> None:  # 16
    rows = read_jsonl(unbroken / "log.jsonl")
    eligible = [row for row in rows if row["epoch"] >= 1]  # from 0.4 of 3 epochs
    best = max(eligible, key=lambda row: row["validation_ifgsm_accuracy"])
    state = Run(unbroken).load()
    assert state is not None
    assert state.selected_epoch == rows[-1]["selected_epoch"] == best["epoch"]
    assert state.selected_score == best["validation_ifgsm_accuracy"]
    if best["epoch"] == 2:
        assert all(torch.equal(state.weights[name], state.selected[name]) for name in state.weights)


@pytest.mark.parametrize("when", ["in an epoch", "before the state is renamed", "before the selected weights"])
def test_stopped_and_resumed_equals_unbroken_to_the_bit(
    when: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "run", 0
    module, name, at = {
        "in an epoch": (engine.TrainingStep, "forward", 5),
        "before the state is renamed": (Run, "save", 2),
        "before the selected weights": (Run, "follow", 2),
    }[when]
    original = getattr(module, name)

    def stop(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, stop)
        run(SHORT, out)
    assert calls == at
    run(SHORT, out, resume=True)
    assert len(json.loads((out / "provenance.json").read_text())) == 2  # one for each start
    assert same_weights(out, unbroken)
    assert without_clock(out) == without_clock(unbroken)


def command(out: Path, *more: str) -> list[str]:
    words = "train mnist-5k-bpfc --network m-lenet-quarter --epochs 3 --limit 150 --batch-size 50 --ifgsm-steps 3"
    options = "--validation-attacked 20 --lr 0.02 --device cpu --precision fp32"
    return [*words.split(), *options.split(), "--out", str(out), *more]


def test_killed_and_resumed_equals_unbroken_to_the_bit(unbroken: Path, tmp_path: Path) -> None:
    """SIGKILL as soon as the first state is there, in another process, through the real command line."""
    out = tmp_path / "run"
    process = python("bpfc", *command(out))
    while not list(out.glob("checkpoint-0001")) and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not (out / "checkpoint-0003").exists()
    process = python("bpfc", *command(out, "--resume"))
    process.join()
    assert process.exitcode == 0
    assert same_weights(out, unbroken)


def stop_after_one_epoch(recipe: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Run.save

    def save_once(self: Run, state: State) -> None:
        if state.epochs_done == 2:
            raise KeyboardInterrupt
        save(self, state)

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(Run, "save", save_once)
        run(recipe, out)


def test_adam_and_the_averaged_weights_go_on_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(SHORT, epochs=3, optimizer="adam", lr=1e-3, averaging=0.9, select="last")
    run(recipe, tmp_path / "whole")
    stop_after_one_epoch(recipe, tmp_path / "broken", monkeypatch)
    run(recipe, tmp_path / "broken", resume=True)
    assert same_weights(tmp_path / "broken", tmp_path / "whole")


def test_the_averaged_copy_is_made_where_the_engine_has_put_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy from before stays behind on the CPU, and a GPU's images meet it there."""
    order, setup = [], Fabric.setup

    def put(self: Fabric, *given: Any, **options: Any) -> Any:
        order.append("put")
        return setup(self, *given, **options)

    def copied(recipe: Recipe, model: nn.Module) -> Any:
        order.append("copied")
        return averaged_model(recipe, model)

    monkeypatch.setattr(Fabric, "setup", put)
    monkeypatch.setattr(engine, "averaged_model", copied)
    run(replace(SHORT, epochs=1, averaging=0.9, select="last"), tmp_path / "run")
    assert order == ["put", "copied"]


def test_the_averaged_weights_are_what_is_kept(tmp_path: Path) -> None:
    """And they are as the plain twin has them: m ← a m + (1 − a) w, from the first w on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    averaged = averaged_model(replace(SHORT, averaging=0.9), model)
    assert averaged is not None
    names, twin = ("0.weight", "1.running_mean", "1.running_var"), {}
    for _ in range(5):
        with torch.no_grad():
            model[0].weight += torch.randn(2, 3)
            model(torch.randn(8, 3))
        averaged.update_parameters(model)
        for name in names:
            now = model.state_dict()[name].clone()
            twin[name] = 0.9 * twin[name] + 0.1 * now if name in twin else now
            torch.testing.assert_close(averaged.module.state_dict()[name], twin[name])
    assert averaged.module.state_dict()["1.num_batches_tracked"].dtype == torch.int64
    run(replace(SHORT, epochs=1, averaging=0.9, select="last"), tmp_path)
    state = Run(tmp_path).load()
    assert state is not None
    for name, value in load_file(tmp_path / "model.safetensors").items():
        torch.testing.assert_close(value, state.averaged[f"module.{name}"], rtol=0, atol=0)
    assert not torch.equal(state.averaged["module.0.weight"], state.weights["0.weight"])


def test_bfloat16_learns_too(tmp_path: Path, small: str) -> None:
    out = train(
        replace(SHORT, network=small, epochs=2, limit=600), tmp_path / "run", device="cpu", precision="bf16"
    ).folder
    rows = read_jsonl(out / "log.jsonl")
    assert rows[1]["loss"] < rows[0]["loss"]
    assert load_file(out / "model.safetensors")["0.weight"].dtype == torch.float32


def test_a_loss_that_is_not_finite_stops_and_names_the_last_state(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match=r"the loss is no longer finite \(epoch 1, step.*no state was saved"):
        run(replace(SHORT, lr=1e9, epochs=2), tmp_path / "from-scratch")
    with pytest.raises(TrainingError, match="--clip-norm 1, a lower --lr, a lower --method.weight, into"):
        wild = replace(SHORT, lr=1e9, clip_norm=None)
        verb.main(verb.Train(recipe=wild, out=tmp_path / "verb", device="cpu", precision="fp32"))

    out, original = tmp_path / "later", engine.train_epoch

    def second_fails(*arguments: Any) -> dict[str, float]:
        if arguments[6] == 1:
            raise TrainingError(arguments[7])
        return original(*arguments)

    monkeypatch.setattr(engine, "train_epoch", second_fails)
    with pytest.raises(TrainingError, match="the last state is that after epoch 1 in"):
        run(SHORT, out)
    state = Run(out).load()
    assert state is not None
    assert state.epochs_done == 1


def test_weights_are_looked_at_after_the_last_step(tmp_path: Path) -> None:
    """The last step's loss is finite, what it does to the weights is not."""
    one_step = replace(
        SHORT, lr=1e38, weight_decay=1e3, epochs=1, limit=50, batch_size=50, select="last", method=Normal()
    )
    with pytest.raises(TrainingError, match=r"the weights are no longer finite \(epoch 1, after its last step\)"):
        run(one_step, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_collapse_to_constant_logits_stops_the_training(tmp_path: Path, small: str) -> None:
    """λ so large that the constant function wins: no more than chance after the first of three epochs."""
    method = BPFC(k=7, weight=100.0, distance="l1")
    constant = replace(SHORT, network=small, limit=2000, batch_size=10, method=method, clip_norm=1.0)
    with pytest.raises(TrainingError, match=r"does not learn: \d+\.\d% after 1 of 3 epochs is no more than chance"):
        run(constant, tmp_path / "run")
    assert not Run(tmp_path / "run").weights.exists()


def test_a_run_of_few_steps_that_ends_at_chance_is_warned(
    tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not stopped on the way: its steps are too few to say that it does not learn."""
    still = replace(SHORT, network=small, lr=1e-9, method=Normal())
    run(still, tmp_path / "run")
    told = capsys.readouterr().out.splitlines()
    (at,) = (at for at, line in enumerate(told) if "does not learn" in line)
    assert re.match(r"warning: the network does not learn: \d+\.\d% after 3 of 3 epochs is no more", told[at])
    assert told[at - 1].startswith("epoch 3/3")


def test_the_gradient_is_clipped_to_the_norm_of_the_recipe(tmp_path: Path) -> None:
    """One step of plain SGD moves the weights by at most lr · clip_norm, and without clipping by more."""
    one = replace(SHORT, epochs=1, limit=50, lr=1.0, momentum=0.0, weight_decay=0.0, select="last", method=Normal())
    lengths = {}
    for clip in (None, 0.01):
        recipe = replace(one, clip_norm=clip)
        out = run(recipe, tmp_path / f"clip-{clip}")
        torch.manual_seed(recipe.seed)
        before = build(recipe.network, channels=1, classes=10, size=28).state_dict()
        after = load_file(out / "model.safetensors")
        lengths[clip] = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm().item()
    assert lengths[0.01] == pytest.approx(0.01, rel=1e-3)
    assert lengths[None] > 0.05


def test_the_last_epoch_is_kept_where_no_attack_may_choose(tmp_path: Path) -> None:
    out = run(replace(SHORT, select="last", weights="bfloat16"), tmp_path / "run")
    assert [row["selected_epoch"] for row in Run(out).log] == [0, 1, 2]
    kept, whole = load_file(out / "model.safetensors"), load_file(out / "checkpoint-0003" / "weights.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    assert all(torch.equal(kept[name], whole[name].to(torch.bfloat16)) for name in whole)
    loaded = Run(out).model(load("mnist-5k")).state_dict()
    assert all(torch.equal(loaded[name], kept[name].float()) for name in kept)


def test_a_run_is_not_overwritten_nor_mixed(unbroken: Path) -> None:
    with pytest.raises(RunError, match=r"holds a run already.*--resume"):
        run(SHORT, unbroken)
    with pytest.raises(RunError, match=r"lr was 0.02, is 0.03.*choose another --out"):
        run(replace(SHORT, lr=0.03), unbroken, resume=True)
    with pytest.raises(RunError, match="method was"):
        run(replace(SHORT, method=BPFC(k=6)), unbroken, resume=True)
    before = without_clock(unbroken)
    run(SHORT, unbroken, resume=True)  # nothing is left to do
    assert without_clock(unbroken) == before


def test_bad_input_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file.*cannot be written to.*choose another --out"):
        run(SHORT, tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="validation=5000"):
        run(replace(SHORT, validation=5000), tmp_path / "a")
    with pytest.raises(ValueError, match=r"network 'lenet'.*m-lenet"):
        run(replace(SHORT, network="lenet"), tmp_path / "b")
    for name in ("epochs", "batch_size", "limit"):
        with pytest.raises(ValueError, match=f"{name}=0"):
            replace(SHORT, **{name: 0})
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            train(SHORT, tmp_path / "c", device="cuda")
