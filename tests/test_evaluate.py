import re
import shutil
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from conftest import small_network
from processes import python
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

import bpfc
from bpfc.cli.evaluate import Evaluate, print_table, run
from bpfc.data import DataSet, to_float
from bpfc.files import read_json, read_jsonl, write_json, write_jsonl
from bpfc.models import NETWORKS
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run

ATTACKS = "fgsm,pgd-8x2,pgd-4-last"


@pytest.fixture
def digits_run(trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small trained network as a run that `bpfc train` might have left."""
    monkeypatch.setitem(NETWORKS, "small", lambda channels, classes, size: small_network())
    folder = tmp_path / "run"
    folder.mkdir()
    Run(folder).begin(replace(RECIPES["mnist-5k-bpfc"][1], network="small", eps=0.1), "fp32", {})
    save_file(
        {name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, folder / "model.safetensors"
    )
    return folder


def options(run: Path, **changes: object) -> Evaluate:
    plain = Evaluate(run, attacks=ATTACKS, limit=70, batch_size=16, device="cpu", precision="fp32")
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_summary_says_what_was_measured(digits_run: Path, digits: DataSet, trained: nn.Module) -> None:
    summary = run(options(digits_run))
    assert summary == read_json(digits_run / "evaluation" / "summary.json")
    rows = read_jsonl(digits_run / "evaluation" / "ledger.jsonl")
    images, labels = to_float(digits.test.pixels[:70]), digits.test.labels[:70]
    direct = bpfc.evaluate(trained, images, labels, attacks=ATTACKS, eps=0.1, step_size=0.01)
    assert rows == direct.rows
    assert summary["worst_case"] == direct.summary["worst_case"]
    assert summary["worst_case"]["interval_95"][0] < direct.robust < summary["worst_case"]["interval_95"][1]
    assert (summary["schema"], summary["images"], summary["eps"], summary["norm"]) == (3, 70, 0.1, "linf")
    assert summary["attack_settings"]["pgd-8x2"] == "PGD(eps=0.1, step_size=0.01, steps=8, loss='ce', norm='linf')"
    assert summary["provenance"]["versions"]["torch"] == torch.__version__
    with Console(width=100).capture() as _:
        console = Console(record=True, width=100)
        print_table(summary, console)
    assert f"{direct.robust:.1%}" in console.export_text()


def test_each_block_tells_progress_to_a_log_file(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run(options(digits_run, attacks="fgsm", limit=40))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" images")[0] for line in lines] == ["16/40", "32/40", "40/40"]
    assert all(re.search(r"robust so far \d+\.\d%; \d:\d\d:\d\d left", line) for line in lines)
    assert lines[-1].endswith(f"robust so far {summary['worst_case']['accuracy']:.1%}; 0:00:00 left")


def test_eps_and_step_may_be_given(digits_run: Path) -> None:
    stronger = run(options(digits_run, eps=0.2, step_size=0.04, out=digits_run / "e"))
    assert stronger["attack_settings"]["pgd-8x2"] == "PGD(eps=0.2, step_size=0.04, steps=8, loss='ce', norm='linf')"
    assert stronger["worst_case"]["accuracy"] < run(options(digits_run))["worst_case"]["accuracy"]


KILLED = """
from pathlib import Path
from conftest import small_network
from bpfc.cli.evaluate import Evaluate, run
from bpfc.models import NETWORKS
NETWORKS["small"] = lambda channels, classes, size: small_network()
run(Evaluate(Path({run!r}), attacks={attacks!r}, limit=70, batch_size=1, device="cpu", precision="fp32"))
"""


def test_killed_and_resumed_ends_with_the_same_rows(digits_run: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    summary = run(options(digits_run, out=whole))
    ledger = digits_run / "evaluation" / "ledger.jsonl"
    (tmp_path / "killed.py").write_text(KILLED.format(run=str(digits_run), attacks=ATTACKS))
    process = python(str(tmp_path / "killed.py"))
    while len(read_jsonl(ledger)) < 3 and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    rows = read_jsonl(ledger)
    assert 3 <= len(rows) < 70
    with ledger.open("a") as file:
        file.write('{"index": 70, "lab')  # and a row cut short
    resumed = run(options(digits_run))
    assert ledger.read_text() == (whole / "ledger.jsonl").read_text()
    assert resumed["images_resumed"] == len(rows)
    for name in ("clean", "attacks", "worst_case"):
        assert resumed[name] == summary[name]


def test_another_evaluation_is_not_mixed_in(digits_run: Path) -> None:
    run(options(digits_run, limit=10))
    with pytest.raises(ValueError, match=r"images was 10, is 5.*choose another --out"):
        run(options(digits_run, limit=5))
    with pytest.raises(ValueError, match="eps was 0.1, is 0.2"):
        run(options(digits_run, limit=10, eps=0.2))


def test_an_attack_that_finds_nothing_left_has_no_distances(digits_run: Path) -> None:
    summary = run(options(digits_run, attacks="pgd-20,deepfool", eps=1.0, step_size=0.25, cascade=True, limit=10))
    assert summary["attacks"]["deepfool"]["attacked"] == 0
    assert summary["attacks"]["deepfool"]["success"] is None
    with Console(width=100).capture() as _:
        print_table(summary, Console(record=True, width=100))
    with pytest.raises(ValueError, match="step_size=0"):
        run(options(digits_run, step_size=0.0))


def test_how_far_away_images_were_found(digits_run: Path) -> None:
    """A median that is infinite was told as None."""
    summary = run(options(digits_run, limit=1))
    few = {"success": 0.25, "attacked": 4, "median_l2": None, "mean_l2": 1.5}
    many = {"success": 1.0, "attacked": 4, "median_linf": 0.2, "mean_linf": 0.3}
    none = {"success": 0.0, "attacked": 4, "median_l2": None, "mean_l2": None}
    shown = zip(("cw-5", "deepfool", "cw-1"), (few, many, none), strict=True)
    summary["attacks"] |= {name: summary["attacks"]["fgsm"] | share for name, share in shown}
    console = Console(record=True, width=120, file=StringIO())
    print_table(summary, console)
    told = console.export_text()
    assert "cw-5: found an image for 25.0% of 4; ℓ2 distance: median infinite, mean of those found 1.5\n" in told
    assert "deepfool: found an image for 100.0% of 4; ℓ∞ distance: median 0.2, mean of those found 0.3\n" in told
    assert "cw-1: found an image for 0.0% of 4\n" in told


def test_a_recipe_s_eps_is_none_in_l2(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number would be a tiny radius there, under which anything stands."""
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="such as 0.5; a recipe's is one in ℓ∞"):
        patch.setattr("bpfc.training.run_data.load", lambda *_: pytest.fail("data was read"))
        run(options(digits_run, attacks="pgd-2", norm="l2"))
    summary = run(options(digits_run, attacks="pgd-2", norm="l2", eps=0.5, limit=2))
    assert "step_size=0.125" in summary["attack_settings"]["pgd-2"]


def test_a_run_is_not_evaluated_as_another_model(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's network was attacked, and the ledger said that it was the other."""
    few = options(digits_run, attacks="fgsm", limit=2)
    run(replace(few, model="small"))
    assert read_json(digits_run / "evaluation" / "evaluation.json")["model"] is None
    monkeypatch.setattr("bpfc.training.run_data.load", lambda *_: pytest.fail("data was read"))
    with pytest.raises(ValueError, match=r"--model net.pt: is not the network of .*run \(small\); name one that is"):
        run(replace(few, model="net.pt"))


def test_more_images_go_on_from_fewer(digits_run: Path, tmp_path: Path) -> None:
    run(options(digits_run, limit=20))
    more = run(options(digits_run, limit=50))
    assert (more["images_resumed"], more["images"]) == (20, 50)
    whole = run(options(digits_run, limit=50, out=tmp_path / "whole"))
    assert (digits_run / "evaluation" / "ledger.jsonl").read_text() == (tmp_path / "whole" / "ledger.jsonl").read_text()
    assert more["worst_case"] == whole["worst_case"]
    with pytest.raises(ValueError, match=r"images was 50, is 20.*choose another --out"):
        run(options(digits_run, limit=20))


def test_bad_input_is_told_before_any_work(digits_run: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="holds no run"):
        run(options(tmp_path))
    with pytest.raises(ValueError, match="attack 'magic'"):
        run(options(digits_run, attacks="magic"))
    with pytest.raises(ValueError, match=r"eps=8.*8/255"):
        run(options(digits_run, eps=8.0))
    for name in ("limit", "batch_size"):
        with pytest.raises(ValueError, match=f"{name}=0"):
            run(options(digits_run, **{name: 0}))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written to"):
        run(options(digits_run, out=tmp_path / "file" / "e"))
    assert not (digits_run / "evaluation" / "ledger.jsonl").exists()


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_run_can_be_moved(digits_run: Path, tmp_path: Path) -> None:
    run(options(digits_run, limit=10))
    shutil.move(digits_run, tmp_path / "moved")
    assert run(options(tmp_path / "moved", limit=10))["images_resumed"] == 10


def test_images_of_an_evaluation_that_saved_none(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with exit status 0, and no image."""

    def images(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "adversarial").iterdir()}

    run(saving := options(digits_run, limit=30, save_images=True, out=digits_run / "saved"))
    whole = images(digits_run / "saved")
    assert len(whole) > 5
    run(options(digits_run, limit=20))
    rows = (digits_run / "evaluation" / "ledger.jsonl").read_bytes()
    run(options(digits_run, limit=30, save_images=True))  # and goes on, saving
    assert images(digits_run / "evaluation") == whole
    assert (digits_run / "evaluation" / "ledger.jsonl").read_bytes().startswith(rows)

    monkeypatch.setattr("bpfc.evaluation.engine.run_block", None)
    run(saving)  # what is there is enough


def test_an_image_that_is_not_its_row_s_is_not_saved(digits_run: Path) -> None:
    run(options(digits_run, attacks="fgsm", limit=20))
    path = digits_run / "evaluation" / "ledger.jsonl"
    rows = read_jsonl(path)
    row = next(row for row in rows if row["broken_by"] == "fgsm")
    row["attacks"]["fgsm"]["l2"] /= 2
    write_jsonl(path, rows)
    with pytest.raises(ValueError, match=rf"--save-images: .* 1 images end otherwise .* first is {row['index']};"):
        run(options(digits_run, attacks="fgsm", limit=20, save_images=True))
    saved = {int(file.stem) for file in (digits_run / "evaluation" / "adversarial").iterdir()}
    assert saved == {row["index"] for row in rows if row["broken_by"] == "fgsm"} - {row["index"]}
