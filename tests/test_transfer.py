import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import small_network
from safetensors.torch import save_file
from torch import Tensor, nn

from bpfc.attacks import FGSM, PGD, ImageRng
from bpfc.cli.beside import attacked
from bpfc.cli.subjects import from_run
from bpfc.cli.transfer import Transfer, run
from bpfc.data import DataSet, load
from bpfc.evaluation import Block, Context, ThreatModel, parse
from bpfc.evaluation.transfer import run_transfer_block
from bpfc.files import read_json, read_jsonl, write_json
from bpfc.models import NETWORKS
from bpfc.options import AS_THEY_ARE
from bpfc.report.page import render_page
from bpfc.report.page.apart import apart
from bpfc.report.page.glossary import glossary
from bpfc.report.page.records import read_run
from bpfc.report.page.tables import attack_tables
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run, RunError
from bpfc.training.run_data import describe, remember


@pytest.fixture
def runs(trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two networks of the same digits: the trained one, and the same with its weights shaken."""
    monkeypatch.setitem(NETWORKS, "small", lambda channels, classes, size: small_network())
    torch.manual_seed(1)
    shaken = {name: value + 0.03 * torch.randn_like(value) for name, value in trained.state_dict().items()}
    folders = {}
    for name, weights in (("robust", trained.state_dict()), ("shaken", shaken)):
        folders[name] = tmp_path / "runs" / name
        folders[name].mkdir(parents=True)
        recipe = replace(RECIPES["mnist-5k-bpfc"][1], network="small", eps=0.15)
        Run(folders[name]).begin(recipe, "fp32", {})
        save_file({key: value.contiguous() for key, value in weights.items()}, folders[name] / "model.safetensors")
    return folders


def options(runs: dict[str, Path], out: Path, **changes: object) -> Transfer:
    both = (runs["robust"], runs["shaken"])
    plain = Transfer(both, source=both, attacks="fgsm,pgd-5x2", limit=90, batch_size=32, device="cpu", precision="fp32")
    return replace(plain, out=out, **changes)  # type: ignore[arg-type]


def test_matrix_is_source_images_judged_on_the_target(
    runs: dict[str, Path], tmp_path: Path, trained: nn.Module, test_digits: tuple[Tensor, Tensor]
) -> None:
    summary = run(options(runs, tmp_path / "out"))
    images, labels = test_digits[0][:90], test_digits[1][:90]
    shaken = small_network().eval()
    from safetensors.torch import load_file

    shaken.load_state_dict(load_file(runs["shaken"] / "model.safetensors"))
    networks = {"robust": trained, "shaken": shaken}
    for source_name, source in networks.items():
        fgsm = FGSM(0.15)(source, images, labels, ImageRng(0, range(90)))
        pgd = [PGD(0.15, 0.01, 5)(source, images, labels, ImageRng(0, range(90), restart)) for restart in (0, 1)]
        for target_name, target in networks.items():
            right = target(images).argmax(1) == labels
            stands_fgsm = right & (target(fgsm).argmax(1) == labels)
            stands_pgd = right & (target(pgd[0]).argmax(1) == labels) & (target(pgd[1]).argmax(1) == labels)
            found = summary["targets"][target_name]
            assert found["clean"]["accuracy"] == int(right.sum()) / 90
            assert found["attacks"][f"fgsm@{source_name}"]["accuracy"] == int(stands_fgsm.sum()) / 90
            assert found["attacks"][f"pgd-5x2@{source_name}"]["accuracy"] == int(stands_pgd.sum()) / 90
    own, other = (summary["targets"]["robust"]["attacks"][f"fgsm@{name}"]["accuracy"] for name in networks)
    assert own < other  # white box is stronger than black box
    assert summary == read_json(tmp_path / "out" / "summary.json")


def test_a_target_s_folder_is_read_with_its_attacks_by_their_sources(runs: dict[str, Path], tmp_path: Path) -> None:
    """Under the names of the plan every attack left 0.0 % of the images."""
    summary = run(options(runs, tmp_path / "out"))
    for folder in (tmp_path / "out", tmp_path / "out" / "robust"):
        found = {item.name: item for item in read_run(folder).evaluations}
        for name, item in found.items():
            assert item.attacks == summary["targets"][name]["attacks"]
            assert item.summary["worst_case"] == summary["targets"][name]["worst_case"]
        assert "robust" in found
    records = apart(read_run(tmp_path / "out"))
    assert [record.label for record in records] == ["out, robust", "out, shaken"]
    (table,) = attack_tables(records)  # a row a target; each its own share of clean images
    for name, cells in table.rows:
        target = summary["targets"][name.removeprefix("out, ")]
        shares = [target["clean"], *target["attacks"].values()]
        assert [each.figure for each in cells[1:]] == [f"{100 * share['accuracy']:.1f}" for share in shares]
    told = dict(glossary(records))
    assert told["fgsm"].startswith("one step of ε")
    assert told["…@NETWORK"] == "the attack on that network, whose images this one gets"
    page = render_page([tmp_path / "out"], Path("page.html"))
    assert "2 networks under attack" in page
    assert "of different weights" not in page
    subject = from_run(runs["robust"])
    rows = attacked(tmp_path / "out" / "robust", subject, 0.15, 90)
    assert rows == [dict(row) for row in read_jsonl(tmp_path / "out" / "robust" / "ledger.jsonl")]


def test_resumes_where_the_ledgers_end(runs: dict[str, Path], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(options(runs, whole))
    run(options(runs, cut))
    for name, kept in (("robust", 64), ("shaken", 32)):  # killed between two ledgers
        path = cut / name / "ledger.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    assert run(options(runs, cut))["images_resumed"] == 32
    for name in ("robust", "shaken"):
        assert read_jsonl(cut / name / "ledger.jsonl") == read_jsonl(whole / name / "ledger.jsonl")


@pytest.mark.parametrize("changed", ["robust", "shaken"])
def test_target_and_source_are_known_again_by_their_first_logits(
    changed: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their code may change under the same weights."""
    apart = options(runs, tmp_path / "out", targets=(runs["robust"],), source=(runs["shaken"],), limit=4)
    run(apart)
    run(apart)
    original = Run.model
    twice = nn.Linear(10, 10, bias=False).eval()
    nn.init.eye_(twice.weight).data.mul_(2)

    def model(self: Run, *given: Any) -> nn.Module:
        found = original(self, *given)
        return nn.Sequential(found, twice).eval() if self.folder.name == changed else found

    monkeypatch.setattr(Run, "model", model)
    with pytest.raises(ValueError, match="of other settings .first_logits was"):
        run(apart)


def test_what_attacks_warn_of_is_in_the_summary(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FGSM.__call__

    def warns(self: FGSM, *given: Any) -> Tensor:
        warnings.warn("it is late", stacklevel=1)
        return original(self, *given)

    monkeypatch.setattr(FGSM, "__call__", warns)
    for _ in range(2):  # the second time nothing is left to do
        summary = run(options(runs, tmp_path / "out", limit=4))
        assert [told[0] for told in summary["warnings"].values()] == ["it is late"] * 2


def test_a_source_without_answers_is_no_attack(runs: dict[str, Path], tmp_path: Path) -> None:
    """Its images would be NaN, which break nothing."""
    weights = {name: value * torch.nan for name, value in small_network().state_dict().items()}
    save_file(weights, runs["shaken"] / "model.safetensors")
    told = "the network of shaken: the model gives NaN or infinite logits"
    for role in ("targets", "source"):
        with pytest.raises(ValueError, match=told):
            run(options(runs, tmp_path / "out", **{role: (runs["robust"],)}))
    assert not (tmp_path / "out").exists()


def test_bad_input_is_told_before_any_work(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source"):
        run(options(runs, tmp_path / "out", source=()))
    with pytest.raises(ValueError, match="two targets have the same folder name"):
        run(options(runs, tmp_path / "out", targets=(runs["robust"], runs["robust"])))
    for name in runs:  # of one path, whose images were others when the second was trained
        write_json(runs[name] / "data.json", {"test_sha256": name})
    with pytest.raises(RunError, match="shaken: trained on mnist-5k, whose test images are not those of mnist-5k when"):
        run(options(runs, tmp_path / "out"))
    for name in runs:
        (runs[name] / "data.json").unlink()
    (runs["shaken"] / "recipe.json").unlink()
    Run(runs["shaken"]).begin(replace(RECIPES["mnist-bpfc"][1], network="small"), "fp32", {})
    with pytest.raises(RunError, match="shaken: trained on mnist, whose test images are not those of mnist-5k"):
        run(options(runs, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_data_is_the_same_at_two_paths(runs: dict[str, Path], tmp_path: Path, digits: DataSet) -> None:
    """One of the runs was trained where the data has been taken away since."""
    path = tmp_path / "digits.npz"
    np.savez(path, images=digits.test.pixels.numpy(), labels=digits.test.labels.numpy())
    described = describe(load(str(path)), AS_THEY_ARE)
    for name, place in (("robust", path), ("shaken", tmp_path / "gone.npz")):
        (runs[name] / "recipe.json").unlink()
        recipe = replace(RECIPES["mnist-5k-bpfc"][1], network="small", eps=0.15, data=str(place))
        Run(runs[name]).begin(recipe, "fp32", {})
        remember(Run(runs[name]), described)
    assert set(run(options(runs, tmp_path / "out", limit=10))["targets"]) == {"robust", "shaken"}


def test_each_source_meets_all_images_and_a_minimum_norm_attack_says_how_far(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """A suite's cascade would leave a later source what an earlier one left, and a column would not be the source's."""
    both = run(options(runs, tmp_path / "both", attacks="fgsm,deepfool"))
    alone = run(options(runs, tmp_path / "alone", attacks="fgsm,deepfool", source=(runs["shaken"],)))
    for target, found in alone["targets"].items():
        for name in ("fgsm@shaken", "deepfool@shaken"):
            assert found["attacks"][name] == both["targets"][target]["attacks"][name]
    own = both["targets"]["robust"]["attacks"]["deepfool@robust"]
    assert own["success"] > 1 - own["accuracy"]  # further away than ε, too
    assert own["attacked"] > 0


def test_a_suite_is_no_cascade_here(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    block, context = Block(list(range(30)), *(each[:30] for each in test_digits)), Context(ThreatModel("linf", 0.15), 1)
    plan = parse("fgsm,pgd-5x2", context, batch_size=64)
    one, other = (
        run_transfer_block({"own": trained}, {"own": trained}, block, replace(plan, cascade=cascade))["own"]
        for cascade in (False, True)
    )
    assert one == other
    assert all(len(row["attacks"]) == 2 for row in one if row["broken_by"] != "clean")
