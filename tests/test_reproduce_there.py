"""Which runs and evaluations count as there, so that neither is made again: by their content, not by their names."""

import json
import shutil
from pathlib import Path

import pytest
from table_runs import _tiny, figures, run

from bpfc.files import read_json, without_checksum, write_json


def test_runs_that_are_there_are_taken_and_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    """Known by their recipe, not by their folder's name; but for the number of validation images."""
    run(capsys, methods=("bpfc",), out=Path("first"))
    mine = Path(shutil.move("first/mnist-5k-bpfc-quick-seed0", "results/mine"))
    recipe = without_checksum(json.loads((mine / "recipe.json").read_text()))
    (mine / "recipe.json").write_text(json.dumps(recipe | {"validation_attacked": 7}))
    printed = run(capsys, methods=("bpfc",), out=Path("second"))
    assert "1/1" not in printed
    assert "Epochs were chosen on 7 validation images" in " ".join(printed.split())
    shutil.rmtree(mine / "evaluation-pgd-3-first-12")
    printed = run(capsys, methods=("bpfc",), out=Path("second"))
    assert "1/1 reuse    results/mine; attack 12 images with pgd-3" in printed
    copied = Path("second/mnist-5k-bpfc-quick-seed0")
    assert (copied / "model.safetensors").read_bytes() == (mine / "model.safetensors").read_bytes()
    assert (copied / "evaluation-pgd-3-first-12/summary.json").is_file()
    (mine / "recipe.json").write_text(json.dumps(recipe | {"epochs": 3}))
    assert "train" in run(capsys, methods=("bpfc",), out=Path("third"), dry_run=True)


def test_figures_of_other_images_or_attacks_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, methods=("normal",))
    assert figures()[0][7] != "not run"
    path = Path("runs/mnist-5k-normal-quick-seed0/evaluation-pgd-3-first-12/summary.json")
    content = read_json(path)
    path.write_text(json.dumps(content | {"images": 11}))
    assert figures()[0][2] == "not run"
    path.write_text(json.dumps(content | {"cascade": True}))
    assert figures()[0][7] == "not run"
    path.write_text(json.dumps(content | {"eps": 0.2}))
    assert figures()[0][2] == "not run"


def test_a_run_without_its_weights_is_there_by_what_its_summaries_say(capsys: pytest.CaptureFixture[str]) -> None:
    """As networks whose weights are too large to commit stand in results/: recipe, log, summaries with the digest."""
    run(capsys, methods=("bpfc",), out=Path("first"))
    kept = Path("results/kept")
    shutil.copytree("first/mnist-5k-bpfc-quick-seed0/evaluation-pgd-3-first-12", kept / "evaluation")
    for name in ("recipe.json", "log.jsonl"):
        shutil.copy(Path("first/mnist-5k-bpfc-quick-seed0") / name, kept)
    assert "there    mnist-5k-bpfc, seed 0: results/kept" in run(capsys, methods=("bpfc",), dry_run=True)
    assert "0 pieces of work" in run(capsys, methods=("bpfc",), dry_run=True)
    shutil.move(kept / "evaluation", "away")
    again = run(capsys, methods=("bpfc",), dry_run=True)
    assert "train    mnist-5k-bpfc-quick-seed0, 2 epochs (results/kept has no weights); attack 12 images" in again
    shutil.move("away", kept / "evaluation")
    other = read_json(kept / "evaluation" / "summary.json") | {"weights_sha256": "0" * 64}
    (kept / "other").mkdir()
    write_json(kept / "other" / "summary.json", other)
    with pytest.raises(ValueError, match="results/kept: its evaluations are of 2 networks"):
        run(capsys, methods=("bpfc",), dry_run=True)


def test_evaluations_of_other_weights_than_the_run_s_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, methods=("normal",))
    path = Path("runs/mnist-5k-normal-quick-seed0/evaluation-pgd-3-first-12/summary.json")
    write_json(path, read_json(path) | {"weights_sha256": "0" * 64})
    assert figures()[0][2] == "not run"


@pytest.mark.parametrize("table", ["table2", "table3"])
def test_fewer_images_after_more_are_attacked_beside_them(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They met the folder of the more: images was 12, is 5, and no option of the verb named another."""
    for limit in (12, 5, 12):
        run(capsys, table, methods=("normal",), limit=limit)
    assert "0 pieces of work" in run(capsys, table, methods=("normal",), limit=5, dry_run=True)
    found = [
        read_json(path) for path in Path("runs").glob("*/summary.json" if table == "table3" else "*/*/summary.json")
    ]
    assert sorted(each["images"] for each in found) == [5, 12]


def test_an_evaluation_under_a_name_without_its_images_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """As earlier versions wrote it."""
    run(capsys, methods=("normal",))
    folder = Path("runs/mnist-5k-normal-quick-seed0")
    (folder / "evaluation-pgd-3-first-12").rename(folder / "evaluation-pgd-3")
    assert "0 pieces of work" in run(capsys, methods=("normal",), dry_run=True)


def test_a_run_without_weights_counts_with_what_images_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    """10,000 of one stood beside 1,000 of another in results/, and any --limit trained one of them again."""
    for limit in (5, 12):
        run(capsys, methods=("normal",), limit=limit)
    folder = Path("runs/mnist-5k-normal-quick-seed0")
    summary = read_json(folder / "evaluation-pgd-3-first-12/summary.json")
    with_weights = run(capsys, methods=("normal",), limit=7, dry_run=True)
    assert "attack 7 images" in with_weights
    assert "(5" not in with_weights
    assert "(12" not in with_weights
    (folder / "model.safetensors").unlink()
    printed = " ".join(run(capsys, methods=("normal",), limit=7, dry_run=True, markdown=True).split())
    assert "0 pieces of work" in printed
    clean, robust = (f"{100 * each['accuracy']:.1f}" for each in (summary["clean"], summary["attacks"]["pgd-3"]))
    assert f"{clean} (12 images)" in printed
    assert f"{robust} (12 images)" in printed
    assert "figures of another number of images count, which stands by them." in printed
    exact = run(capsys, methods=("normal",), limit=5, dry_run=True)
    assert "images)" not in exact
    assert "another number" not in exact


def test_a_run_of_the_table_s_own_images_goes_before_one_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, methods=("normal",), limit=5)
    shutil.move("runs", "results")
    Path("results/mnist-5k-normal-quick-seed0/model.safetensors").unlink()
    run(capsys, methods=("normal",), reuse=(), limit=12)
    assert "images)" not in run(capsys, methods=("normal",), limit=12, dry_run=True)


def test_the_folder_that_nobody_named_is_missed_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No folder results here" in run(capsys, methods=("normal",), dry_run=True)
    Path("results").mkdir()
    assert "No folder" not in run(capsys, methods=("normal",), dry_run=True)
