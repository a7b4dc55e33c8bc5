"""What the benchmarks of attacks rest on: counting, one judgement for every library, and going on after a kill."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attacks
import bounds_start
import fast
import first_command
import flat_pixels
import pytest
import torch
import tyro
from common import clock, counted, operations, standing
from conftest import small_network
from torch import Tensor, nn

import bpfc
from bpfc.attacks import Behind, ImageRng
from bpfc.data import DataSet
from bpfc.errors import UserError
from bpfc.evaluation import Block, parse
from bpfc.files import read_json, write_json
from bpfc.methods.ibp import ball_bounds
from bpfc.models import NETWORKS
from bpfc.models.cost import multiply_adds
from bpfc.models.curve import ToneCurve, with_curve
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.weights import save_tensors

Digits = tuple[Tensor, Tensor]


@pytest.fixture
def options(trained: nn.Module, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fast.Fast:
    """Two blocks of two digits of a small network, under short attacks in place of the suites."""
    names = {"standard": "noise-1,aa-apgd-ce", "fast": "pgd-2"}
    monkeypatch.setattr(fast, "parse", lambda suite, context: parse(names[suite], context, cascade=True))
    monkeypatch.setattr(fast, "load", lambda _: digits)
    monkeypatch.setattr(fast, "adv_lib", lambda: None)
    monkeypatch.setitem(NETWORKS, "m-lenet", lambda *_: small_network())
    run = Run(tmp_path / "digits")
    run.folder.mkdir()
    run.begin(replace(RECIPES["mnist-5k-bpfc"][1], eps=0.12), "fp32", {})
    save_tensors(run.weights, trained.state_dict())
    return fast.Fast((run.folder,), images=4, block=2, out=tmp_path / "out")


def test_the_first_commands_are_timed_and_scaled(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(first_command, "medians", lambda *_, **__: {"step": 0.1})  # 640 images a second
    fine, wrong = "timeit -n 1 -r 1 pass", "timeit -n 1 -r 1 fail"
    monkeypatch.setattr(first_command, "COMMANDS", {"test": ((fine, fine), (fine,))})
    first_command.main("test")
    printed = capfd.readouterr().out
    found = re.search(r"^test: (\d+) s, in \S+, where M-LeNet trains 640 BPFC images a second$", printed, re.MULTILINE)
    assert found
    scaled = int(printed.split()[-2])
    assert abs(scaled - int(found[1]) * 640 / 110) <= 640 / 110
    for rows in (((wrong, fine), (fine,)), ((fine,), (fine, wrong))):
        monkeypatch.setattr(first_command, "COMMANDS", {"test": rows})
        with pytest.raises(SystemExit) as stopped:
            first_command.main("test")
        assert stopped.value.code == 1
        assert "test:" not in capfd.readouterr().out


def test_make_test_does_what_is_timed() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    assert "$(MAKE) --jobs 2 lint suite" in makefile
    for words in itertools.chain(*first_command.COMMANDS["test"]):
        assert re.search(rf"^\t\$\(BIN\)/(python -m )?{re.escape(words)}$", makefile, re.MULTILINE)


def without_seconds(networks: dict[str, Any]) -> dict[str, Any]:
    for network in networks.values():
        for variant in ("standard", "fast"):
            assert network[variant].pop("seconds") >= 0
    return networks


def test_what_was_killed_goes_on_and_ends_with_the_same_table(
    options: fast.Fast, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast.measure(options)
    whole = without_seconds(fast.table(options.out))
    assert whole["digits"]["images"] == 4
    assert whole["digits"]["fast"]["settings"] == "pgd-2"
    assert whole["digits"]["standard"]["backwards"] > whole["digits"]["fast"]["backwards"] > 0

    again, attacked = replace(options, out=options.out.with_name("again")), fast.attacked
    monkeypatch.setattr(fast, "attacked", killed_at(3, attacked))
    with pytest.raises(KeyboardInterrupt):
        fast.measure(again)
    assert fast.table(again.out)["digits"]["images"] == 2
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(fast, "attacked", lambda *given: asked.append((given[1], given[2].start)) or attacked(*given))
    fast.measure(again)
    assert asked == [("fast", 2)]
    assert without_seconds(fast.table(again.out)) == whole
    assert without_seconds(fast.table(again.out)) == whole


def killed_at(call: int, work: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def until(*given: Any) -> Any:
        if len(calls) == call:
            raise KeyboardInterrupt
        calls.append(given)
        return work(*given)

    return until


def test_verdicts_are_compared_image_by_image(options: fast.Fast, monkeypatch: pytest.MonkeyPatch) -> None:
    part = {"standard": "aa-apgd-ce", "fast": None}
    stand = {("standard", 0): [0, 1], ("standard", 2): [3], ("fast", 0): [1], ("fast", 2): [2, 3]}
    monkeypatch.setattr(
        fast,
        "attacked",
        lambda _, variant, places, __: {
            "commit": "c", "device": f"d{places.start}", "seconds": 1.5, "forwards": 3, "backwards": 2, "warnings": [],
            "stands": stand[variant, places.start],
            "broken_by": [part[variant], None], "gradient": {"0": "zero", "1": "zero"}, "no_answer": [],
        },
    )  # fmt: skip
    fast.measure(options)
    table = fast.table(options.out)["digits"]
    assert (table["standard"]["stand"], table["fast"]["stand"]) == (3, 3)
    assert (table["fast"]["only_standard"], table["fast"]["broken_by"]) == ([2], ["aa-apgd-ce"])
    assert table["fast"]["only_here"] == [0]
    assert (table["fast"]["seconds"], table["fast"]["forwards"]) == (3.0, 6)
    assert table["fast"]["devices"] == ["d0", "d2"]
    (told,) = table["fast"]["warnings"]
    assert "for 4 of 4 images" in told


def test_other_images_than_the_first(options: fast.Fast) -> None:
    later = replace(options, first=6, images=2, variants=("standard",), out=options.out.with_name("later"))
    fast.measure(later)
    (digits,) = fast.table(later.out).values()
    assert (digits["first"], digits["images"]) == (6, 2)
    assert list(read_json(later.out / "digits" / "blocks.json")["variants"]["standard"]["blocks"]) == ["6"]
    with pytest.raises(UserError, match="first was 6, is 0"):
        fast.measure(replace(later, first=0))


def test_blocks_of_before_there_was_a_first_are_gone_on_with(options: fast.Fast) -> None:
    one = replace(options, images=2, variants=("standard",))
    fast.measure(one)
    file = options.out / "digits" / "blocks.json"
    kept = read_json(file)
    del kept["first"]
    write_json(file, kept)
    fast.measure(replace(one, images=4))
    assert fast.table(options.out)["digits"]["images"] == 4


def test_without_runs_there_is_an_empty_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder that is not there yet, too."""
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(fast, "print_machine", lambda _: None)
    monkeypatch.setattr(fast, "adv_lib", lambda: None)
    fast.main(fast.Fast(out=tmp_path / "deep" / "out"))
    assert read_json(tmp_path / "deep" / "out" / "table.json")["networks"] == {}


def test_blocks_of_another_version_are_refused(options: fast.Fast) -> None:
    fast.measure(replace(options, images=2))
    file = options.out / "digits" / "blocks.json"
    kept = read_json(file)
    del kept["variants"]["standard"]["blocks"]["0"]["broken_by"]
    write_json(file, kept)
    for work in (lambda: fast.measure(options), lambda: fast.table(options.out)):
        with pytest.raises(UserError, match="blocks.json: begun by a version that.*choose another --out"):
            work()


def test_rows_come_back_from_a_file_as_far_as_caveats_read_them() -> None:
    names = ["pgd-2", "fgsm", "square-9"]

    def row(broken_by: str | None, *asked: str, **more: Any) -> Any:
        attacks = {name: {"broken": name == broken_by, **more} for name in asked}
        return {"broken_by": broken_by, "attacks": attacks}

    rows = [
        row("clean"),
        {**row(None, *names), "gradient": "zero"},
        row("square-9", *names),
        row("pgd-2", "pgd-2"),
        row("fgsm", *names[:2], no_answer=True),
    ]
    back = fast.rows_of(json.loads(json.dumps(fast.brief(rows))), names)
    assert len(fast.caveats(rows)) == 4
    assert fast.caveats(back) == fast.caveats(rows)
    assert [list(each["attacks"]) for each in back] == [list(each["attacks"]) for each in rows]


def test_what_cannot_be_had_is_said_before_any_attack(options: fast.Fast, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, told in {
        replace(options, images=0): "images=0: must be 1 or more",
        replace(options, block=0): "block=0: must be 1 or more",
        replace(options, images=3): "--images 3: must be a multiple of --block 2",
        replace(options, first=1): "--first 1: must be a multiple of --block 2",
        replace(options, first=-2): "--first -2: must be a multiple of --block 2",
        replace(options, images=10_000): "--first 0 --images 10000: mnist-5k has 500 test images",
        replace(options, first=500): "--first 500 --images 4: mnist-5k has 500 test images",
        replace(options, runs=options.runs * 2): "digits is named twice",
        replace(options, runs=(options.out / "none",)): "holds no run",
    }.items():
        with pytest.raises((UserError, ValueError), match=told):
            fast.measure(wrong)
    assert "adv-lib is not installed" in capsys.readouterr().out
    fast.measure(replace(options, variants=("fast",), images=2))
    save_tensors(options.runs[0] / "model.safetensors", small_network().state_dict())
    with pytest.raises(
        UserError, match=r"blocks.json: begun with other settings \(weights_sha256 was .*choose another"
    ):
        fast.measure(options)


def test_blocks_of_other_settings_are_never_gone_on_from(options: fast.Fast, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacks' names are the same, and what they mean is not."""
    only = replace(options, variants=("fast",), images=2)
    fast.measure(only)
    fast.measure(only)
    same = fast.parse
    monkeypatch.setattr(fast, "parse", lambda suite, context: same(suite, replace(context, step_size=0.003)))
    with pytest.raises(UserError, match=r"\(fast, attack_settings was .*pgd-2.*step_size=0.03.*is .*=0.003.*another"):
        fast.measure(only)
    monkeypatch.setattr(fast, "parse", lambda suite, context: replace(same(suite, context), seed=1))
    with pytest.raises(UserError, match=r"\(fast, seed was 0, is 1\); choose another --out"):
        fast.measure(only)
    monkeypatch.setattr(fast, "parse", same)
    file = options.out / "digits" / "blocks.json"
    kept = read_json(file)
    del kept["variants"]["fast"]["plan"]  # as files were before
    write_json(file, kept)
    assert fast.table(options.out) == {}  # no AutoAttack: but it can be read
    with pytest.raises(UserError, match=r"fast, attack_settings was None"):
        fast.measure(only)


def test_adv_lib_is_judged_as_all_are(trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = (part[:6] for part in test_digits)
    other = images.flip(0)  # digits of other classes, far outside the ball
    library = SimpleNamespace(
        apgd=lambda model, x, y, *_, **__: other[: len(x)],
        apgd_targeted=lambda model, x, y, *_, **__: x,
    )
    monkeypatch.setattr(fast, "adv_lib", lambda: library)
    right = trained(images).argmax(dim=1) == labels
    block = Block(list(range(6)), images, labels)
    assert torch.equal(fast.by_adv_lib(trained, block, 0.1), right)
    assert fast.by_adv_lib(trained, block, 1.0).sum() < right.sum()


def test_what_is_illegal_breaks_nothing(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = (part[:20] for part in test_digits)
    right = trained(images).argmax(dim=1) == labels
    assert right.any()
    assert torch.equal(standing(trained, images, labels, images, 0.1), right)
    assert torch.equal(standing(trained, images, labels, images - 100 * images, 200), right)  # outside the box
    assert torch.equal(standing(trained, images, labels, torch.full_like(images, torch.nan), 0.1), right)
    assert not standing(trained, images, labels, torch.zeros_like(images), 1).all()


def test_what_goes_through_is_counted_behind_a_curve_too(trained: nn.Module, test_digits: Digits) -> None:
    images, labels = (part[:4] for part in test_digits)
    model = with_curve(trained, 0.3, 0.7).eval()
    with counted(model) as passes:
        model(images)
        Behind(0.1, steps_each=2, targets=1)(model, images, labels, ImageRng(0, range(4)))
    # Itself; which class is likeliest; three objectives of two steps.
    assert (passes.forwards, passes.backwards) == (4 + 4 + 24, 24)
    model(images)
    assert passes.forwards == 32


def test_what_goes_through_is_counted_behind_a_curve_and_several_modules(
    trained: nn.Module, test_digits: Digits
) -> None:
    images, labels = (part[:4] for part in test_digits)
    model = nn.Sequential(ToneCurve(0.3, 0.7), nn.Identity(), *trained.children()).eval()
    assert len(model) >= 4
    with counted(model) as passes:
        model(images)
        Behind(0.1, steps_each=2, targets=1)(model, images, labels, ImageRng(0, range(4)))
    assert (passes.forwards, passes.backwards) == (4 + 4 + 24, 24)


def test_operations_are_those_of_the_layers(trained: nn.Module, test_digits: Digits) -> None:
    forwards, backwards = operations(trained, test_digits[0][:3])
    assert forwards == 2 * multiply_adds(small_network(), 1, 28)
    assert backwards == forwards  # every layer's, by its input alone


def test_libraries_stand_beside_ours_or_are_said_to_be_missing(
    trained: nn.Module, test_digits: Digits, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = (part[:12] for part in test_digits)
    monkeypatch.setattr(attacks, "peak_operations", lambda _: 1e9)
    monkeypatch.setattr(attacks, "resolve", lambda *_: "bf16")
    bench = attacks.Bench(trained, images, labels, 0.12, 0.03)
    variants = attacks.pgd(bench, 5, 2)
    bench.within({name: variants[name] for name in ("ours", "ours, bfloat16", "foolbox")})
    trained.zero_grad(set_to_none=True)  # theirs leaves gradients behind
    monkeypatch.setattr(attacks, "adv_lib", lambda: None)
    bench.within({"adv-lib": variants["adv-lib"]})
    lines = capsys.readouterr().out.splitlines()
    expected = bpfc.evaluate(trained, images, labels, attacks="pgd-5x2", eps=0.12, step_size=0.03).robust
    assert 0 < expected < 1
    assert [line.split()[0] for line in lines] == ["ours", "ours,", "foolbox", "adv-lib"]
    assert lines[0].endswith(f"robust {expected:.1%}")
    assert all("% of peak, robust " in line for line in lines[:3])
    assert lines[3].endswith("not installed (No module named 'adv_lib')")


def test_the_benchmark_of_attacks_takes_its_command_line_and_names_its_device(
    digits: DataSet, trained: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tyro.cli(attacks.Options, args=["runs/mine", "4", "3", "2", "--device", "cpu"])
    assert given == attacks.Options(Path("runs/mine"), 4, 3, 2, "cpu")
    assert tyro.cli(attacks.Options, args=[]).steps == 1000
    run = SimpleNamespace(recipe=lambda: RECIPES["mnist-5k-bpfc"][1], model=lambda _: trained)
    monkeypatch.setattr(attacks, "Run", lambda _: run)
    monkeypatch.setattr(attacks, "print_machine", lambda _: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(attacks, "load", lambda _: digits)
    monkeypatch.setattr(attacks, "peak_operations", lambda _: 1e9)
    for part in ("pgd", "apgd", "deepfool", "carlini_wagner"):
        make = getattr(attacks, part)
        monkeypatch.setattr(attacks, part, lambda *told, make=make: {"ours": make(*told)["ours"]})
    monkeypatch.setattr(attacks, "APGD_STEPS", 3)
    monkeypatch.setattr(attacks, "CW_STEPS", 3)
    attacks.main(given)
    with pytest.raises(ValueError, match="images=0: must be 1 or more"):
        attacks.main(replace(given, images=0))
    lines = capsys.readouterr().out.splitlines()
    assert "peak: 1 · 10⁹ operations a second on one core" in lines
    assert sum(line.startswith("  ours ") for line in lines) == 4


def test_the_clock_of_a_gpu_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    device = torch.device("cuda", 0)
    assert clock(device) <= clock(device)
    assert waited == [device, device]
    assert clock(torch.device("cpu")) <= clock(torch.device("cpu"))
    assert len(waited) == 2


def test_idle_neurons_are_counted_at_a_point_and_in_its_ball() -> None:
    """Of three: one is on at the image, one only elsewhere in its ball, one nowhere."""
    layer = nn.Linear(1, 3)
    model = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        layer.weight.copy_(torch.ones(3, 1))
        layer.bias.copy_(torch.tensor([0.0, -0.6, -2.0]))
    image = torch.full((1, 1, 1, 1), 0.5)
    assert bounds_start.idle(model, image, 0) == ["2/3"]
    assert bounds_start.idle(model, image, 0.2) == ["1/3"]


@pytest.mark.parametrize("name", bounds_start.STARTS)
def test_every_start_of_interval_training_is_a_network(name: str) -> None:
    model = getattr(bounds_start, name)(1, 10, 28).eval()
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert ball_bounds(model, torch.rand(2, 1, 28, 28), 0.1)[1][-1].upper.shape == (2, 10)


def test_flat_pixels_are_those_that_no_attack_can_move() -> None:
    """Black ones to a − ε and white ones from b + ε on; an interval that touches the slope is none."""
    images = torch.tensor([0.0, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0], dtype=torch.float64).view(1, 1, 1, 7)
    assert flat_pixels.flat(images, 0.125, 0.25, 0.75) == pytest.approx(4 / 7)
    assert flat_pixels.flat(images, 0.25, 0.25, 0.75) == pytest.approx(2 / 7)
    assert flat_pixels.flat(images, 0.3, 0.25, 0.75) == 0
