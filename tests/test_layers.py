"""A room imports from the layers below its own; those of one layer, such as training and evaluation, stay apart."""

import ast
from collections.abc import Iterator
from pathlib import Path

import bpfc

PACKAGE = Path(bpfc.__file__).parent
LAYERS = (
    ("bitplanes", "errors", "files", "memory", "modes", "provenance"),
    ("options", "weights"),
    ("machine", "resumed", "team"),
    ("shared",),
    ("data", "wrappers"),
    ("models",),
    ("bounds",),
    ("attacks",),
    ("methods",),
    ("answers", "judge", "ledger"),
    ("checks",),
    ("certification",),
    ("evaluation", "training"),
    ("auditing", "report"),
    ("explore", "exporting"),
    ("cli", "__init__", "__main__"),
)
"""From the bottom up; a name is a module or a folder of bpfc. What is not there yet has its place."""
APART = {("report", room) for room in ("attacks", "auditing")}
"""A report never attacks."""
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}


def imports(path: Path) -> Iterator[str]:
    """The rooms of bpfc that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "bpfc" else [f"bpfc.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: a relative import")
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("bpfc."))


def wrong(path: Path) -> list[str]:
    """The rooms that a file imports from and must not."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    found = [other for other in imports(path) if other != room]
    return [other for other in found if HEIGHT[other] >= HEIGHT[room] or (room, other) in APART]


def test_no_room_imports_from_its_own_layer_or_above() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    assert {str(path.relative_to(PACKAGE)): found for path in files if (found := wrong(path))} == {}


def test_only_a_training_loads_its_engine() -> None:
    """lightning_fabric takes seconds, so that no file imports it before a training begins."""
    at_once = {}
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        at_once[path.name] = [line for line in lines if line.startswith(("import lightning", "from lightning"))]
    assert {name: lines for name, lines in at_once.items() if lines} == {}
    assert "    from lightning_fabric import" in (PACKAGE / "training" / "engine.py").read_text(encoding="utf-8")


def test_no_file_is_longer_than_a_room() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert [(path.name, lines) for path, lines in lengths.items() if lines > 300] == []


def test_architecture_names_every_room() -> None:
    told = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [f"`{path.name}/`" if path.is_dir() else f"`{path.name}`" for path in PACKAGE.glob("[!_.]*")]
    assert [room for room in rooms if room not in told and room != "`py.typed`"] == []


def test_the_rule_sees_every_form_of_import(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("import bpfc.cli.train\nfrom bpfc import ledger\ndef f():\n    from bpfc.data.sets import load\n")
    assert list(imports(path)) == ["cli", "ledger", "data"]
