"""README and docs say what holds: figures are those of results/, snippets run, links lead somewhere."""

import importlib
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import nn

import bpfc
from bpfc.__main__ import main
from bpfc.errors import UserError
from bpfc.models import NETWORKS
from bpfc.report.figures import Results
from bpfc.report.markdown import WIDTH, outside
from bpfc.report.tables import PICTURES, drawn, render
from bpfc.training.demo_recipes import DEMO_RECIPES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROSE = [
    *PAGES,
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "results/README.md", "examples/README.md")),
]

of_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
of_prose = pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))


# Figures


@of_pages
def test_tables_are_those_of_results(page: Path) -> None:
    """If one differs: make tables."""
    text = page.read_text()
    assert text == render(text, Results(ROOT / "results"))


def test_pictures_are_those_of_results() -> None:
    """If one differs: make tables."""
    made = {path: content for page in PAGES for path, content in drawn(page, Results(ROOT / "results")).items()}
    assert {path.name for path in made} == set(PICTURES)
    assert [path for path, content in made.items() if path.read_text() != content] == []


def typed_figures(text: str) -> list[str]:
    """Numbers that look measured in what somebody typed: percentages, points, times, and decimals from 1 up.

    Code, links and generated tables don't count, nor do versions, ε and learning rates, which are decimals below 1.
    """
    text = re.sub(r"```.*?```|^ {4}.*?$|`[^`\n]*`|\]\([^)]*\)", "", outside(text), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"95 % intervals?|Python \d\.\d+", "", text)
    measured = r"(?<![\d.])(?:\d+(?:\.\d+)? ?(?:%|points\b|times as\b)|[1-9]\d*\.\d+(?!\d|\.\d))"
    return re.findall(measured, text)


@of_prose
def test_no_figure_is_typed(page: Path) -> None:
    """What was measured belongs into a table made of results/."""
    assert typed_figures(page.read_text()) == []


def test_typed_figures_are_found() -> None:
    typed = "BPFC stands at 67.4, or 67.4 %, 100% clean, 5 points above, 5.0 times as fast.\n"
    assert typed_figures(typed) == ["67.4", "67.4 %", "100%", "5 points", "5.0 times as"]
    fine = "ε 0.1, torch 2.13.0, Python 3.11 and a 95 % interval, `67.4`, [x](a-1.5.md), 8/255, 50 epochs.\n"
    code = "\n    bpfc 67.4\n\n```python\nx = 67.4\n```\n"
    block = "<!-- table: x -->\n| 67.4 |\n<!-- end -->\n"
    assert typed_figures(fine + code + block) == []


@of_prose
def test_lines_fit(page: Path) -> None:
    assert [line for line in page.read_text().splitlines() if len(line) > WIDTH] == []


# Links and paths


@of_prose
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if anchor:
            assert anchor in [heading_anchor(line) for line in path.read_text().splitlines() if line.startswith("#")]
    for name in re.findall(r"`((?:bpfc|tests|benchmarks|results)/[^`]*)`", text):
        if not re.search(r"[A-Z]{3,}", name):  # RUN and the like stand for a name
            assert list(ROOT.glob(name.rstrip("/"))), name


def heading_anchor(line: str) -> str:
    """What GitHub calls a heading: its words in lower case, joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")


# Snippets


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@of_pages
def test_python_runs(page: Path) -> None:
    """With small stand-ins for what belongs to the reader: a model, images and their labels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    names = {
        "bpfc": bpfc,
        "nn": nn,
        "torch": torch,
        "model": model,
        "images": images,
        "labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    for block in blocks(page, "python"):
        with redirect_stdout(io.StringIO()):
            exec(block, names)


@of_pages
def test_json_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in a page's indented or fenced shell lines."""
    text = re.sub(r"\\\n *", " ", page.read_text())
    shell = "\n".join(blocks(page, "sh"))
    for line in [*re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE), *shell.splitlines()]:
        line = line.removeprefix(".venv/bin/")
        if line.split()[0] in ("bpfc", "make", "torchrun", "git", "python"):
            for command in re.split(r" && ", line):
                yield shlex.split(command, comments=True)


COMMANDS = [
    pytest.param(words, id=" ".join(words)[:60])
    for page in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
    for words in commands(page)
]


def call_bpfc(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`bpfc WORDS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["bpfc", *words])
    main()


def parse(words: list[str]) -> object:
    """The options that the real command line makes of `bpfc WORDS`, without doing what they ask for."""
    return importlib.import_module(f"bpfc.cli.{words[0]}").parse(words[1:])


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_exist(words: list[str]) -> None:
    program, *rest = words
    if program == "torchrun":
        program, rest = "bpfc", rest[rest.index("bpfc") + 1 :]
    if program == "bpfc":
        parse(rest)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "git" and rest[0] == "clone":
        assert rest[1:3] == ["--depth", "1"]
    elif program == "python":
        files = [word for word in rest if word.endswith(".py")]
        assert all((ROOT / file).is_file() for file in files)


def test_parsing_notices_an_option_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="--no-such-option"):
        parse(["evaluate", "RUN", "--no-such-option"])


ON_CPU = " --device cpu --precision fp32"
SHORT = {
    "train": "--epochs 1 --limit 8 --batch-size 4 --validation 20 --validation-attacked 4 --ifgsm-steps 2" + ON_CPU,
    "evaluate": "--limit 2" + ON_CPU,
    "transfer": "--limit 2" + ON_CPU,
    "explore": "--port 0",
    "demo": "--epochs 1 --limit 8",
}
"""What makes a verb quick on the small data folder."""


def tiny_network(channels: int, classes: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes))


def test_readme_commands_run_in_their_order(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Those that need nothing of the reader's own; but for the networks of results/, on a tiny one."""
    monkeypatch.chdir(tmp_path)
    Path("results").symlink_to(ROOT / "results")
    monkeypatch.setattr("bpfc.explore.server.serve", lambda *_: None)  # it would not end by itself
    ran = []
    for program, *words in commands(ROOT / "README.md"):
        if (program, *words) == ("make", "demo"):
            program, words = "bpfc", ["demo", "--out", "demo"]  # as the Makefile has it
        if program == "bpfc" and "--model" not in words:
            with monkeypatch.context() as patch:
                if not any(word.startswith("results/") for word in words):
                    for name in ("m-lenet", DEMO_RECIPES["bpfc"].network):
                        patch.setitem(NETWORKS, name, tiny_network)
                call_bpfc([*words, *SHORT[words[0]].split()], patch)
            ran.append(words[0])
    assert ran.count("train") >= 2
    assert set(ran) == set(SHORT)
    assert "worst case" in capsys.readouterr().out
