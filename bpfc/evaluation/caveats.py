"""What must be said beside a figure: of every evaluation, from memory, from files or by transfer, the same words."""

from collections.abc import Sequence

from bpfc.ledger import Row

WITHOUT_GRADIENTS = ("aa-square", "aa-behind-square", "square-", "spsa-", "noise-", "corners-")
"""How the names of attacks begin that ask for answers alone."""
SMALL_STEPS = ("pgd-", "apgd-", "mt-pgd-", "ifgsm-", "behind-", "aa-apgd-", "aa-behind-apgd-")
"""How the names of attacks begin that can do all that one step can."""


def caveats(rows: Sequence[Row]) -> list[str]:
    """A sentence for each thing that makes the accuracies of these rows say less than they seem to."""
    return [
        *_blind(rows),
        *_no_answer(rows),
        *_beyond_gradients(rows),
        *_beyond_small_steps(rows),
        *_beyond_the_ball(rows),
    ]


def _what_next(rows: Sequence[Row]) -> str:
    """For whoever cannot trust these rows; after AutoAttack, which ends with Square, only an audit is left."""
    return "run bpfc audit" if any("aa-square" in row["attacks"] for row in rows) else "run standard, and bpfc audit"


def left_out(skipped: Sequence[str]) -> list[str]:
    """That pictures are missing among those that the accuracies are of."""
    return [f"{len(skipped)} pictures could not be read and are left out, {skipped[0]} first"] if skipped else []


def _blind(rows: Sequence[Row]) -> list[str]:
    told = []
    for kind, shown in (("zero", "exactly zero"), ("not_finite", "NaN or infinite")):
        here = [row for row in rows if row.get("gradient") == kind]
        if here:
            standing = sum(row["broken_by"] is None for row in here)
            told.append(
                f"the gradient at the clean image is {shown} for {len(here)} of {len(rows)} images, and {standing} of "
                "these count as robust: attacks by gradients are blind there; attack without (square-5000, spsa-100) "
                "or, past a layer without a gradient, through bpfc.BPDA" + (f"; {_what_next(rows)}" if standing else "")
            )
    return told


def _no_answer(rows: Sequence[Row]) -> list[str]:
    count = sum(any(verdict.get("no_answer") for verdict in row["attacks"].values()) for row in rows)
    told = f"the model gives NaN or infinite logits on perturbed versions of {count} of {len(rows)} images"
    return [f"{told}: no answer, so they count as broken"] if count else []


def _beyond_gradients(rows: Sequence[Row]) -> list[str]:
    """AutoAttack's own flag, for all attacks without gradients: they alone break more than 0.2 points.

    Croce and Hein 2020 raise it for Square.
    """

    def alone(row: Row) -> bool:
        by_gradients = [v["broken"] for name, v in row["attacks"].items() if not name.startswith(WITHOUT_GRADIENTS)]
        by_others = [v["broken"] for name, v in row["attacks"].items() if name.startswith(WITHOUT_GRADIENTS)]
        return any(by_others) and bool(by_gradients) and not any(by_gradients)

    share = sum(map(alone, rows)) / max(1, len(rows))
    told = f"attacks without gradients broke {share:.1%} that those by gradients left: gradients may be masked"
    return [f"{told}; {_what_next(rows)}"] if share > 0.002 else []


def _beyond_small_steps(rows: Sequence[Row]) -> list[str]:
    """The audit's C1: one step breaks more than 0.5 points that many small ones, wherever they led, did not.

    Where one step comes first in a cascade, small steps never meet what it broke, and this says nothing.
    """

    def alone(row: Row) -> bool:
        by_many = _by_small_steps(row)
        by_one = [row["attacks"][name]["broken"] for name in ("fgsm", "rfgsm") if name in row["attacks"]]
        return any(by_one) and bool(by_many) and not any(by_many)

    share = sum(map(alone, rows)) / max(1, len(rows))
    told = f"a single step broke {share:.1%} that many small ones left: gradients may be masked"
    return [f"{told}; {_what_next(rows)}"] if share > 0.005 else []


def _beyond_the_ball(rows: Sequence[Row]) -> list[str]:
    """`OutsideIn` breaks more than 0.2 points that many small steps inside the ball, wherever they led, did not.

    In a transfer it is another network's walk, and this says nothing.
    """

    def alone(row: Row) -> bool:
        inside = _by_small_steps(row)
        verdicts = row["attacks"].items()
        outside = [each["broken"] for name, each in verdicts if name.startswith("outside-in-") and "@" not in name]
        return any(outside) and bool(inside) and not any(inside)

    share = sum(map(alone, rows)) / max(1, len(rows))
    told = f"a walk from outside the ball broke {share:.1%} that ascents inside it left: gradients may be masked"
    return [f"{told}; {_what_next(rows)}"] if share > 0.002 else []


def _by_small_steps(row: Row) -> list[bool]:
    """What many small steps on the network itself broke; not those of which the last iterate alone was judged, for any
    before it may have broken the image."""
    return [
        verdict["broken"]
        for name, verdict in row["attacks"].items()
        if name.startswith(SMALL_STEPS) and not name.endswith("-last") and "@" not in name
    ]
