"""Verb `explore`: networks of runs on a small local page that is alive."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bpfc.options import DataFolder, read_words

if TYPE_CHECKING:
    from bpfc.explore.page import Scene

MOST = 4
"""Networks side by side."""
SHORTEST = 12
"""Characters of a password."""
VARIABLE = "BPFC_EXPLORE_PASSWORD"


@dataclass(frozen=True)
class Explore:
    """Open a local page on which one attacks networks by hand, step by step."""

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN …")]]
    """Folders that bpfc train wrote, of one data set; or the one folder of bpfc demo."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but a loopback one asks visitors for a password."""
    port: int = 7860
    """0 takes a free one."""
    public: bool = False
    """Ask nobody for a password: for a page that is meant for everybody, such as a Space."""
    model: tuple[str, ...] = ()
    """The runs' networks that are not bpfc's and whose code you trust."""
    data: str | None = None
    """Where the runs' own data lies now."""
    data_dir: DataFolder = None


def parse(arguments: list[str]) -> Explore:
    return read_words(Explore, "bpfc explore", arguments)


def main(options: Explore) -> None:
    """The verb: serve the page until it is interrupted.

    Raises:
        ValueError, RunError, DataError, OSError: a run can't be shown, the address can't be had, or Gradio is missing.
    """
    from bpfc.cli.subjects import vouched
    from bpfc.training.run import Run

    vouched([Run(folder) for folder in _folders(options.runs)], options.model)  # importing Gradio takes seconds
    # Gradio reads these when it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        from bpfc.explore.page import build_page
        from bpfc.explore.server import LOOPBACK, USER, application, listen, serve
    except ModuleNotFoundError as error:
        raise OSError(f"the page needs {error.name}: pip install 'bpfc[explore]'") from error

    local = options.host in LOOPBACK
    password = None if local or options.public else _password()
    with listen(options.host, options.port) as listening:
        page = build_page(scene(options.runs, options.data_dir, options.data, options.model))
        host, port = listening.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C ends it)", flush=True)
        if password is not None:
            print(f"user {USER}, password {password}", flush=True)
        serve(application(page, password, LOOPBACK if local else None), listening)


def scene(
    runs: tuple[Path, ...], data_dir: Path | None = None, moved: str | None = None, trusted: tuple[str, ...] = ()
) -> "Scene":
    """The networks of runs beside each other, with the test images of their data set, `moved` or where it was.

    Raises:
        ValueError, RunError, DataError: there are none or too many, they are of several data sets, or one can't be had.
    """
    from bpfc.cli.subjects import of_run, vouched
    from bpfc.data import to_float
    from bpfc.explore.page import Network, Scene
    from bpfc.judge import exact_logits
    from bpfc.report.figures import DATA, Results
    from bpfc.report.page.gallery import class_name
    from bpfc.training.run import Run
    from bpfc.training.run_data import class_names, data_of, test_sha256

    folders = _folders(runs)
    trained = [Run(folder) for folder in folders]
    data = [run.recipe().data for run in trained]
    known = [test_sha256(run) or of for run, of in zip(trained, data, strict=True)]  # else by its name
    if len(set(known)) > 1:
        told = ", ".join(f"{folder} is of {of}" for folder, of in zip(folders, data, strict=True))
        raise ValueError(f"{told}; must be of one data set, with the same test images")
    networks = vouched(trained, trusted)
    shown = data_of(trained[0], data_dir, moved)
    subjects = [of_run(run, shown, network) for run, network in zip(trained, networks, strict=True)]
    names = [Results(folder.resolve().parent).label(folder.resolve().name) for folder in folders]
    names = [
        f"{name}, {folder.name}" if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)
    ]
    first, own = subjects[0], class_names(trained[0])
    count = exact_logits(first.model, to_float(first.images[:1].pixels)).shape[1]
    return Scene(
        networks=[Network(name, subject.model) for name, subject in zip(names, subjects, strict=True)],
        images=first.images,
        data=DATA.get(first.data, Path(first.data).name),
        classes=[class_name(first.data, label, own) for label in range(count)],
        eps=first.eps or 0.1,
        k=next((subject.k for subject in subjects if subject.k and subject.k < 8), 6),  # 8 planes are shown
    )


def _folders(runs: tuple[Path, ...]) -> list[Path]:
    """The runs, those in the folder of a demo among them."""
    from bpfc.training.run import Run

    found = []
    for folder in runs:
        inside = [run.folder for name in ("bpfc", "normal") if (run := Run(folder / name)).exists]
        if not folder.exists() and folder == Path("demo"):
            raise ValueError("demo: no such folder; bpfc demo makes it, in three minutes")
        found += inside if inside and not Run(folder).exists else [folder]
    if not 1 <= len(found) <= MOST:
        raise ValueError(f"{len(found)} runs: must be from 1 to {MOST}; name folders that bpfc train wrote")
    return found


def _password() -> str:
    """What is asked for: of the environment, where a word on the command line would be seen by all, or a fresh one.

    Raises:
        ValueError: it is too short.
    """
    given = os.environ.get(VARIABLE)
    if given is not None and len(given) < SHORTEST:
        raise ValueError(f"{VARIABLE}: has {len(given)} characters; must have at least {SHORTEST}, or be left out")
    return given or secrets.token_urlsafe(12)
