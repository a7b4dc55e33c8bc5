"""The network of a run, as something to evaluate: where training and evaluation meet."""

from pathlib import Path

from bpfc.data import load
from bpfc.evaluation.subject import Subject
from bpfc.methods import BPFC, BPFCIBP, Margin
from bpfc.training.run import Run


def from_run(folder: Path, data_dir: Path | None = None, trusted: str | None = None) -> Subject:
    """The selected network of a run, and the test images of its data set.

    Args:
        folder: that bpfc train wrote.
        data_dir: where the data files are; see bpfc.data.
        trusted: the network that may be imported, as package.module:function, if the recipe names one outside bpfc.

    Raises:
        RunError, DataError: there is no such run, or its data cannot be had.
    """
    run = Run(folder)
    recipe = run.recipe()
    data = load(recipe.data, data_dir)
    return Subject(
        run.model(data, trusted),
        data.test,
        recipe.data,
        run.digest,
        factory=trusted,
        eps=recipe.eps,
        step_size=recipe.step_size,
        k=recipe.method.k if isinstance(recipe.method, BPFC | BPFCIBP | Margin) else None,
        # The layout of the weights. Another's model may not bear it (x.view), and keeps the plain one.
        channels_last=True,
    )
