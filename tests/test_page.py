"""The page about runs: made of their files alone, and whole in one file."""

import base64
import html
import re
import shlex
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from page_runs import LIMIT, ROOT, _quick, certify, change, made, rows_of, run
from PIL import Image

from bpfc.cli import report
from bpfc.data import DataSet
from bpfc.errors import UserError
from bpfc.files import write_json, write_jsonl
from bpfc.report.page import gallery as gallery_module
from bpfc.report.page import planes, render_page
from bpfc.report.page.gallery import gallery, images_of
from bpfc.report.page.pictures import amplified, strip
from bpfc.report.page.records import NothingToReportError, read_run
from bpfc.report.page.svg import Axis, Series, chart, ticks

# The page as a whole


def test_nothing_on_the_page_comes_from_elsewhere(made: Path) -> None:
    page = render_page([made], Path("page.html"))
    assert "://" not in page
    assert "default-src 'none'" in page
    addresses = re.findall(r'(?:src|href|action|srcset|poster|data)="([^"]*)"', page)
    assert len(addresses) > LIMIT
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import", page)


def test_the_same_files_make_the_same_bytes_but_for_the_date(made: Path) -> None:
    one, two = (re.sub(r"<time.*?</time>", "", render_page([made], Path("page.html"))) for _ in range(2))
    assert one == two
    assert not re.search(r"20\d\d-\d\d-\d\d(?!T)", one)


def test_every_figure_has_a_title_and_every_picture_a_text(made: Path) -> None:
    page = render_page([made], Path("page.html"))
    drawn = re.findall(r'<svg [^>]*role="img" aria-labelledby="(\S+) (\S+)">', page)
    assert len(drawn) >= 6
    for name in (name for pair in drawn for name in pair):
        assert page.count(f'id="{name}"') == 1
    assert re.findall(r"<img (?![^>]*alt=\"[^\"]+)", page) == []
    every = re.findall(r'\bid="([^"]+)"', page)
    assert len(every) == len(set(every))
    for link in re.findall(r'href="#([^"]+)"', page):
        assert link in every


def test_what_files_say_is_text_and_never_html(run: Path) -> None:
    change(run / "evaluation" / "summary.json", warnings=["<script>alert(1)</script>"])
    page = render_page([run], Path("page.html"))
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_the_verb_writes_the_page_and_says_so(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "page.html"
    report.main(report.parse([str(made), "--out", str(out)]))
    assert "page.html: 0." in capsys.readouterr().out
    page = out.read_text()
    assert page.startswith("<!doctype html>")
    assert f"bpfc report {made} --out {out}" in page
    with pytest.raises(ValueError, match="is a folder; name the file"):
        report.main(report.parse([str(made), "--out", str(tmp_path)]))
    with pytest.raises(ValueError, match="no run: name at least one"):
        report.main(report.Report(()))


def test_folders_that_make_no_page_are_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToReportError, match=f"{tmp_path}: holds neither a run nor an evaluation, cert"):
        render_page([tmp_path], Path("page.html"))
    with pytest.raises(NothingToReportError, match="nonexist: does not exist; name a folder that"):
        render_page([tmp_path / "nonexist"], Path("page.html"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NothingToReportError, match="file: is no folder; name a folder that"):
        render_page([tmp_path / "file"], Path("page.html"))
    with pytest.raises(ValueError, match="digits: is named twice"):
        render_page([made, made / ".." / "digits"], Path("page.html"))


def test_runs_of_one_name_are_told_apart(made: Path, run: Path) -> None:
    other = run.rename(run.with_name("again"))
    page = render_page([made, other], Path("page.html"))
    assert "BPFC, digits" in page
    assert "BPFC, again" in page
    assert "2 networks under attack" in page
    assert "any network here" in page
    assert "<summary>BPFC, again: 2 commands</summary>" in page
    shutil.rmtree(other / "evaluation")
    assert ": 1 command</summary>" in render_page([other], Path("page.html"))


def test_the_committed_page_says_what_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what needs the images. If it differs: make page."""
    page = (ROOT / "docs" / "fashion-mnist.html").read_text()
    assert len(page.encode()) < 10**6
    assert '<section id="planes">' in page  # it was made where the images are
    command = re.search(r"<code>(bpfc report .*?)</code>", page)
    assert command
    asked = report.parse(shlex.split(command[1])[2:])
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("bpfc.report.page.render.images_of", lambda *_: None)
    again = render_page(asked.runs, asked.out)
    for part in ("attacks", "over", "audit", "training", "unknown", "provenance"):
        found = [re.search(rf'<section id="{part}">.*?</section>', text, re.DOTALL) for text in (page, again)]
        assert found[0]
        assert found[1]
        assert found[0][0] == found[1][0], part


# Pictures


def picture(address: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))


def test_the_gallery_shows_each_image_and_what_the_network_takes_it_for(made: Path) -> None:
    record = read_run(made)
    found = gallery([record], {record.data: images_of(record, None)})
    assert [card.index for card in found.cards] == list(range(LIMIT))
    broken = [card for card in found.cards if card.outcome == "broken"]
    assert broken
    for card in broken:
        assert picture(card.address).size == (3 * 28 + 2 * 2, 28)
        guess = re.search(r"read as (\d)", card.told)
        assert guess
        assert guess[1] != card.label
    assert all(picture(card.address).size == (28, 28) for card in found.cards if card.outcome != "broken")
    assert set(found.values("outcome")) <= {"broken", "stands", "misclassified"}


def test_images_are_looked_for_where_data_dir_says_and_the_command_says_so_too(
    made: Path, tmp_path: Path, digits: DataSet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without BPFC_DATA the predictions were looked up elsewhere, by a download, and left out."""
    asked = []
    monkeypatch.setattr(gallery_module, "load", lambda _, where=None: asked.append(where) or digits)
    elsewhere, out = tmp_path / "my data", tmp_path / "page.html"
    report.main(report.parse([str(made), "--out", str(out), "--data-dir", str(elsewhere)]))
    assert asked == [elsewhere] * 2  # the images, and the network's answers to them
    page = out.read_text()
    assert ", read as " in page
    command = re.search(r"<code>(bpfc report .*?)</code>", page)
    assert command
    again = report.parse(shlex.split(html.unescape(command[1]))[2:])
    assert (again.runs, again.out, again.data_dir) == ((made,), out, elsewhere)
    assert "data-dir" not in render_page([made], out)  # a page that is meant for others names no folder of this machine


def test_without_weights_or_pictures_the_gallery_says_so(run: Path) -> None:
    (run / "model.safetensors").unlink()
    record = read_run(run)
    images = images_of(record, None)
    cards = gallery([record], {record.data: images}).cards
    assert not any("read as" in card.told for card in cards if card.outcome == "broken")
    assert "are not to be had here" in gallery([record], {record.data: None}).advice[0]
    shutil.rmtree(run / "evaluation" / "adversarial")
    record = read_run(run)
    found = gallery([record], {record.data: images})
    assert found.cards == []
    assert f"{run} holds no weights: put model.safetensors back, or train it again, and then: bpfc" in found.advice[0]
    (run / "model.safetensors").touch()
    assert gallery([record], {record.data: images}).advice[0].startswith(f"bpfc evaluate {run} ")


def test_images_that_were_saved_without_a_row_are_no_pictures(run: Path) -> None:
    """As where a kill came between the two; it was a traceback."""
    standing = [row for row in rows_of(run) if row["broken_by"] is None]
    assert standing
    assert list((run / "evaluation" / "adversarial").glob("*.npy"))
    (run / "evaluation" / "summary.json").unlink()
    write_jsonl(run / "evaluation" / "ledger.jsonl", standing)
    record = read_run(run)
    cards = gallery([record], {record.data: images_of(record, None)}).cards
    assert [card.outcome for card in cards] == ["stands"] * len(standing)
    nothing = replace(record, evaluations=[replace(record.evaluations[0], rows=[])])
    assert "--save-images" in gallery([nothing], {record.data: None}).advice[0]


def test_a_gallery_stays_small_and_says_what_it_leaves_out(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_module, "BYTES", 3000)
    record = read_run(made)
    found = gallery([record], {record.data: images_of(record, None)})
    assert 0 < len(found.cards) < LIMIT
    assert found.left_out == LIMIT - len(found.cards)
    assert f"{found.left_out} more images have no room here" in render_page([made], Path("page.html"))


def test_a_damaged_picture_is_named(run: Path) -> None:
    path = sorted((run / "evaluation" / "adversarial").glob("*.npy"))[0]
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"{path.name}: not an image as bpfc evaluate saves it"):
        render_page([run], Path("page.html"))


def test_pictures_keep_pixels_and_large_ones_shrink() -> None:
    image = torch.arange(16.0).view(1, 4, 4) / 255
    assert list(picture(strip([image])).tobytes()) == list(range(16))
    assert picture(strip([torch.zeros(3, 200, 100)])).size == (32, 64)
    assert amplified(torch.tensor([-0.1, 0.0, 0.1]), 0.1).tolist() == pytest.approx([0, 0.5, 1])


def test_the_quantiser_s_figure_says_what_the_paper_s_table_does() -> None:
    images = torch.arange(256).view(1, 1, 16, 16) / 255
    told = planes.kept(images, 6)
    assert "0, 32, 96, 160, 224, 255" in told
    (row,) = planes.rows(images, ["grey"], 6)
    assert picture(row.address).size == (10 * 16 + 9 * 2, 16)
    assert "0 to 5 are dropped" in row.alt


def test_axes() -> None:
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(1, 6) == [1, 2, 3, 4, 5, 6]
    axis = Axis("ε", 0.001, 1, (), log=True)
    assert axis.share(0.001) == 0
    assert axis.share(0.1) == pytest.approx(2 / 3)
    assert axis.share(7) == 1


DAMAGE = {"empty": "", "null": "null", "number": "5", "list": "[]", "object": "{}", "deep": "[" * 100_000, "odd": "[5]"}
FILES = (
    *("recipe.json", "provenance.json", "log.jsonl", "evaluation/evaluation.json", "evaluation/ledger.jsonl"),
    *("evaluation/summary.json", "certification/summary.json", "certification/certificates.jsonl", "audit/audit.json"),
)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named(file: str, run: Path) -> None:
    certify(run, lambda row: False)
    (run / "audit").mkdir()
    write_json(run / "audit" / "audit.json", {"verdict": "stands", "sentence": "", "findings": []})
    path = run / file
    sound = path.read_bytes()
    for damage, content in DAMAGE.items():
        path.write_text(content + "\n")
        holds_nothing = {"log.jsonl": ("empty",), "provenance.json": ("list",), "evaluation/summary.json": ("object",)}
        if damage in holds_nothing.get(file, ()) or (file.endswith("ledger.jsonl") and damage == "empty"):
            continue  # as before an epoch, a start or an end
        if file.endswith(".jsonl") and damage == "empty":
            path.write_text("\n")
        with pytest.raises((UserError, ValueError), match=Path(file).name) as raised:
            render_page([run], run / "page.html")
        assert "\n" not in str(raised.value)
    if path.suffix == ".json":
        flipped = bytearray(sound)
        flipped[sound.index(b":") + 3] ^= 1
        path.write_bytes(flipped)
        with pytest.raises((UserError, ValueError), match=Path(file).name):
            render_page([run], run / "page.html")


def test_a_figure_of_a_constant_is_drawn() -> None:
    for log in (False, True):
        y = Axis("margin", 0.0, 0.0, ticks(0.0, 0.0), log)
        assert "<path" in chart("slug", "title", Axis("steps", 0, 1, [0, 1]), y, [Series("one", [(0, 0), (1, 0)], 0)])
