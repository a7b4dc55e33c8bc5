"""What others read of a run: graphs that answer as the network does, folders and entries that say what was measured."""

import builtins
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bpfc.__main__ import main
from bpfc.cli.export import Export, run
from bpfc.data import DataSet, to_float
from bpfc.errors import UserError
from bpfc.exporting import export_hub, export_onnx, export_torchscript
from bpfc.judge import exact_logits
from bpfc.models import build, from_folder
from bpfc.report.page.records import read_run
from bpfc.training.run import Run
from bpfc.weights import save_tensors

ROOT = Path(__file__).parent.parent
ATTACKED = {"clean": 0.9, "aa-apgd-ce": 0.7, "aa-apgd-t": 0.65, "aa-fab-t": 0.65, "aa-square": 0.64}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with the figures of an evaluation and an audit; its network has not learnt anything."""
    source = ROOT / "results/mnist-5k-fgsm-at"
    target = tmp_path / "digits"
    target.mkdir()
    for name in ("recipe.json", "provenance.json", "log.jsonl"):
        shutil.copyfile(source / name, target / name)
    recipe = json.loads((target / "recipe.json").read_text())
    (target / "recipe.json").write_text(json.dumps(recipe | {"network": "m-lenet-quarter"}))
    torch.manual_seed(1)
    model = build("m-lenet-quarter", channels=1, classes=10, size=28)
    save_tensors(target / "model.safetensors", dict(model.state_dict()))
    shares = {name: {"accuracy": value, "interval_95": [value - 0.1, value + 0.1]} for name, value in ATTACKED.items()}
    summary = {
        "schema": 3,
        "images": 50,
        "norm": "linf",
        "eps": 0.3,
        "cascade": True,
        "clean": shares.pop("clean"),
        "attacks": shares,
        "worst_case": shares["aa-square"],
        "provenance": {"commit": "abc"},
    }
    (target / "evaluation-standard").mkdir()
    (target / "evaluation-standard/summary.json").write_text(json.dumps(summary))
    (target / "audit").mkdir()
    found = {"verdict": "stands", "sentence": "stands: 64.0% stand.", "findings": []}
    (target / "audit/audit.json").write_text(json.dumps(found))
    return target


def test_graphs_answer_as_the_network_does(folder: Path, digits: DataSet) -> None:
    import onnxruntime

    model = Run(folder).model(digits)
    images = to_float(digits.test.pixels[:7])
    (line,) = run(Export(folder, "onnx"))
    assert line.startswith(f"{folder}/export-onnx/model.onnx: logits as the network's to ")
    assert line.endswith("on 100 test images")
    session = onnxruntime.InferenceSession(folder / "export-onnx/model.onnx")
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(found, exact_logits(model, images), rtol=0, atol=1e-4)
    run(Export(folder, "torchscript"))
    with pytest.warns(DeprecationWarning, match="deprecated"):
        again = torch.jit.load(str(folder / "export-torchscript/model.torchscript.pt"))
    torch.testing.assert_close(exact_logits(again, images), exact_logits(model, images), rtol=0, atol=1e-4)


class Wayward(nn.Module):
    """Answers by the first image, which tracing fixes for good."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * (2.0 if float(images[0, 0, 0, 0]) > 0.5 else 1.0)


@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_answers_otherwise_is_not_written(tmp_path: Path) -> None:
    images = torch.rand(8, 1, 4, 4)
    images[0, 0, 0, 0], images[-1, 0, 0, 0] = 0.1, 0.9
    with pytest.raises(UserError, match=r"torchscript: the graph's logits differ from the network's by .* more than"):
        export_torchscript(Wayward().eval(), images, tmp_path / "m.pt")
    assert not (tmp_path / "m.pt").exists()


class Looping(nn.Module):
    """Takes images one by one, so that its graph is of the two that it was traced with."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([image.flatten()[:3] for image in images])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", [Wayward, Looping])
@pytest.mark.parametrize(("export", "kind"), [(export_onnx, "onnx"), (export_torchscript, "torchscript")])
def test_what_no_graph_can_hold_is_told_in_a_line(
    network: type[nn.Module], export: Callable[[nn.Module, Tensor, Path], float], kind: str, tmp_path: Path
) -> None:
    images = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 1, 4, 4)
    with pytest.raises(UserError, match=f"^--to {kind}: the ") as told:
        export(network().eval(), images, tmp_path / "m")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "m").exists()


def test_without_onnx_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"onnx is not installed; pip install 'bpfc\[export\]'"):
        export_onnx(nn.Identity(), torch.rand(2, 1, 4, 4), tmp_path / "m.onnx")


def test_curves_and_weights_are_there_for_tensorboard(folder: Path, digits: DataSet) -> None:
    """As its own format tells them: each record is its length, a checksum, an Event and a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    out = folder / "export-tensorboard"
    log = Run(folder).log
    out.mkdir()
    other = out / "events.out.tfevents.1.somebody-s"
    other.write_bytes(b"theirs")
    for _ in range(2):  # the second export takes the place of the first
        assert run(Export(folder, "tensorboard")) == [
            f"{out}: {len(log)} epochs; look with: tensorboard --logdir {out}"
        ]
    assert other.read_bytes() == b"theirs"
    other.unlink()
    (path,) = out.iterdir()
    content, curves, histograms = path.read_bytes(), {}, {}
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        content = content[12 + length + 4 :]
        for value in event.summary.value:
            if value.HasField("histo"):
                histograms[value.tag] = (event.step, value.histo.num)
            else:
                curves[value.tag, event.step] = value.simple_value
    assert curves["loss", 1] == pytest.approx(log[0]["loss"])
    assert curves["validation_ifgsm_accuracy", len(log)] == pytest.approx(log[-1]["validation_ifgsm_accuracy"])
    model = Run(folder).model(digits)
    selected = log[-1]["selected_epoch"] + 1
    expected = {name.replace(".", "/"): (selected, each.numel()) for name, each in model.named_parameters()}
    assert histograms == expected


def test_a_hugging_face_folder_is_a_network_and_a_run(
    folder: Path, tmp_path: Path, digits: DataSet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = tmp_path / "hub"
    assert run(Export(folder, "hub", out=hub)) == [f"{hub}: ready for huggingface-cli upload"]
    images = to_float(digits.test.pixels[:5])
    expected = exact_logits(Run(folder).model(digits), images)
    torch.testing.assert_close(exact_logits(from_folder(str(hub)), images), expected)
    card = (hub / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: bpfc\npipeline_tag: image-classification\n")
    for told in (
        "| clean | 90.0 (80.0 … 100.0) |",
        "| aa-square | 64.0 (54.0 … 74.0) |",
        "| worst case | 64.0",
        "`bpfc audit` (audit): stands: 64.0% stand.",
        "| evaluated | commit abc |",
        "commit " + json.loads((folder / "provenance.json").read_text())[0]["commit"],
    ):
        assert told in card
    monkeypatch.setattr(sys, "argv", ["bpfc", "evaluate", str(hub), "--attacks", "fgsm", "--limit", "3"])
    main()
    assert "worst case" in capsys.readouterr().out
    shutil.rmtree(folder / "audit")
    shutil.rmtree(folder / "evaluation-standard")
    spaced = folder.rename(tmp_path / "my digits")
    lines = run(Export(spaced, "hub", out=tmp_path / "hub"))
    assert lines[1:] == [
        f"The card has no evaluation: bpfc evaluate '{spaced}' --attacks standard",
        f"The card has no audit: bpfc audit '{spaced}'",
    ]
    assert "Not evaluated." in (hub / "README.md").read_text()


@pytest.mark.parametrize("name", ["README.md", "config.json", "recipe.json"])
def test_a_folder_of_somebody_s_is_not_written_over(name: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "theirs"
    out.mkdir()
    (out / name).write_text("{}")
    with pytest.raises(UserError, match=f"theirs: holds {name}, which no export wrote; choose another --out"):
        run(Export(folder, "hub", out=out))
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "{}"
    assert run(Export(folder, "hub", out=folder)) == [f"{folder}: ready for huggingface-cli upload"]


def test_another_model_than_the_run_s_is_not_passed_over(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"--model net.pt: is not the network of .*digits \(m-lenet-quarter\)"):
        run(Export(folder, "torchscript", model="net.pt"))


def test_the_folder_says_whose_code_it_needs(folder: Path, tmp_path: Path) -> None:
    run(Export(folder, "hub", out=tmp_path / "hub"))
    assert 'model = from_folder(Path("digits"))' in (tmp_path / "hub/README.md").read_text()
    config = json.loads((tmp_path / "hub/config.json").read_text())
    (tmp_path / "hub/config.json").write_text(json.dumps(config | {"network": "somebodys:network"}))
    with pytest.raises(ValueError, match="somebodys:network is code outside bpfc"):
        from_folder(tmp_path / "hub")
    recipe = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps(recipe | {"network": "somebodys:network"}))
    export_hub(read_run(folder), {"channels": 1, "classes": 10, "size": 28}, (), tmp_path / "theirs")
    told = 'from_folder(Path("digits"), trusted="somebodys:network")'
    assert told in (tmp_path / "theirs/README.md").read_text()
    del config["size"]
    (tmp_path / "hub/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not say size"):
        from_folder(tmp_path / "hub")


KEYS = (
    "link name authors additional_data number_forward_passes dataset venue architecture eps clean_acc reported "
    "autoattack_acc external unreliable footnote"
)


def test_a_robustbench_entry_has_its_keys(folder: Path) -> None:
    lines = run(Export(folder, "robustbench", name="Towards", authors="A. B."))
    assert lines[1] == "Left empty: --link, --venue"
    entry = json.loads((folder / "export-robustbench/digits.json").read_text())
    assert list(entry) == KEYS.split()
    assert (entry["clean_acc"], entry["autoattack_acc"], entry["eps"]) == ("90.00", "64.00", "0.3")
    weights = torch.load(folder / "export-robustbench/digits.pt", weights_only=True)
    assert "0.weight" in weights
    shutil.rmtree(folder / "evaluation-standard")
    with pytest.raises(UserError, match="has no evaluation by AutoAttack"):
        run(Export(folder, "robustbench"))


def test_a_robustbench_entry_is_of_its_threat_model(folder: Path) -> None:
    """In ℓ∞, at the recipe's ε, under the worst of AutoAttack's parts whatever ran last."""
    path = folder / "evaluation-standard/summary.json"
    summary = json.loads(path.read_text())

    def entry(**changed: object) -> str:
        path.write_text(json.dumps(summary | changed))
        run(Export(folder, "robustbench"))
        found: str = json.loads((folder / "export-robustbench/digits.json").read_text())["autoattack_acc"]
        return found

    shares = summary["attacks"]
    last_first = shares | {"aa-square": shares["aa-apgd-ce"], "aa-apgd-ce": shares["aa-square"]}
    assert entry(attacks=last_first) == "64.00"
    alone = {"cascade": False, "worst_case": summary["clean"] | {"accuracy": 0.61}}
    assert entry(**alone) == "61.00"  # of the summary alone, which knows no image
    more = {"attacks": shares | {"fgsm": shares["aa-square"]}}
    for other in ({"norm": "l2"}, {"eps": 0.1}, alone | more):
        with pytest.raises(UserError, match=r"no evaluation by AutoAttack in ℓ∞ at ε 0\.3"):
            entry(**other)
