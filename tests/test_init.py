import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bpfc

ROOT = Path(__file__).parent.parent


def test_version_is_the_projects_and_has_its_changes_told() -> None:
    """If it is not: the package was installed before its version changed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert bpfc.__version__ == project["version"]
    assert f"\n## {bpfc.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_name_offered_is_there() -> None:
    assert all(hasattr(bpfc, name) for name in bpfc.__all__)


def test_rooms_are_there_without_an_import_of_their_own() -> None:
    """In a fresh process: here another test may have loaded them."""
    told = "import bpfc; assert bpfc.bitplanes.k_for(0.1) == 6; bpfc.models.from_folder; bpfc.judge; bpfc.methods"
    subprocess.run([sys.executable, "-c", told], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bpfc.nothing
