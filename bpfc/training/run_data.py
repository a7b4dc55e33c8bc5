"""Which data a run is of, where it is somebody's own: RUN/data.json, with digests, by which it is known again."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bpfc.data import DATA_SETS, DataSet, load
from bpfc.files import read_json, write_json
from bpfc.options import DECIDING, Reading
from bpfc.training.run import Run, RunError


def describe(data: DataSet, reading: Reading) -> dict[str, Any] | None:
    """What RUN/data.json holds; None for a data set that is known by its name.

    Raises:
        DataError: a picture cannot be read: all are looked at.
    """
    if data.name in DATA_SETS:
        return None
    return {
        **{name: asdict(reading)[name] for name in DECIDING},
        "class_names": list(data.class_names),
        "form": list(data.train.shape[1:]),
        "train": len(data.train),
        "test": len(data.test),
        "skipped": list(data.skipped),
        "train_sha256": data.train.sha256(),
        "test_sha256": data.test.sha256(),
    }


def remember(run: Run, described: dict[str, Any] | None) -> None:
    """Writes it into the run's folder; one that was begun must be of the same.

    Raises:
        RunError: the run was begun with other data, or nothing is left that says with which.
    """
    path = run.data_file
    if described is None:
        return
    if not path.exists():
        if run.has_states:
            raise run.lacks(path.name)
        write_json(path, described)
    elif changed := [name for name, now in described.items() if read_json(path).get(name) != now]:
        before = read_json(path)
        told = "; ".join(f"{name} was {before.get(name)!r}, is {described[name]!r}" for name in changed)
        raise RunError(f"{run.folder}: started with other data ({told}); put the data back or choose another --out")


def data_of(run: Run, data_dir: Path | None, moved: str | None = None, workers: int | None = None) -> DataSet:
    """The data set that a run was trained on.

    Args:
        run: its folder.
        data_dir: where the files of a data set with a name are.
        moved: where somebody's own data lies now, if not where the recipe says.
        workers: threads that decode pictures.

    Raises:
        RunError, DataError: it cannot be had, or its test images are others now.
    """
    recipe = run.recipe()
    if recipe.data in DATA_SETS:
        if moved is not None:
            raise RunError(f"--data {moved}: {run.folder} is of {recipe.data}, known by its name; leave it out")
        return load(recipe.data, data_dir)
    told = read_json(run.data_file)
    where = moved or recipe.data
    if not Path(where).exists():
        raise RunError(f"{where}: the data of {run.folder} is not there; name where it is now with --data")
    data = load(where, reading=Reading(**{name: told.get(name) for name in DECIDING}, workers=workers))
    if data.test.sha256() != test_sha256(run):
        raise RunError(
            f"{where}: its test images are not those of {run.data_file}; name the data of this run with --data"
        )
    return data


def test_sha256(run: Run) -> str | None:
    """Of the test images of a run's own data; None of a data set that is known by its name."""
    return str(read_json(run.data_file)["test_sha256"]) if run.data_file.exists() else None


def class_names(run: Run) -> tuple[str, ...]:
    """Of a run's own data; none of a data set that is known by its name."""
    return tuple(map(str, read_json(run.data_file)["class_names"])) if run.data_file.exists() else ()
