"""The verdict: a word, and a sentence that says what it rests on."""

from typing import Literal

from torch import Tensor

from bpfc.auditing.finding import Finding
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.settle import Settlement, reported
from bpfc.ledger import wilson_interval

Verdict = Literal["stands", "falls", "masked", "open"]
EXIT: dict[Verdict, int] = {"stands": 0, "falls": 1, "masked": 1, "open": 3}
IMAGES = "C17"
"""The check of the images: where it flags, proofs are of the wrong ones too."""
NOTHING = 0.005
"""A share that stands of which no flag can take anything away."""


def decide(
    m: Measurements,
    findings: list[Finding],
    settlements: list[Settlement],
    claim: float | None,
    proven: Tensor | None = None,
) -> tuple[Verdict, str]:
    """Word and sentence, from the findings after the settling attacks, and from what is proven to stand, (N,) bool."""
    left = int(m.left.sum())
    robust = left / len(m)
    low, high = wilson_interval(left, len(m))
    figure = f"{robust:.1%} ({low:.1%} … {high:.1%}) stand under the worst of {len(m.cascade)} attacks"
    figure += "" if proven is None else f", {m.share(proven):.1%} are proven to"
    figure += "" if claim is None else f", {claim:.1%} is claimed"
    lower = [finding for finding in findings if finding.settled == "lower"]
    still = [finding for finding in findings if finding.settled == "open"]
    if lower:
        before = max(reported(m, finding.id) for finding in lower)
        ids = ", ".join(finding.id for finding in lower)
        asked = [step for step in settlements if any(finding.id in step.flags for finding in lower)]
        ways = [step.told for step in asked if step.before > step.after] or [step.told for step in asked]
        why = f" ({'; '.join(ways)})" if ways else ""
        # A network that falls to plain attacks as well has nothing to hide.
        if before > NOTHING:
            return "masked", f"masked: {before:.1%} stand under plain attacks, but {figure}; flagged by {ids}{why}."
    ids = ", ".join(finding.id for finding in still) if robust > NOTHING else ""
    unsettled = f"{ids} flagged and no attack settled it: this is an upper bound only"
    if claim is not None and claim > high:  # which an upper bound refutes as well
        return "falls", f"falls: {figure}{f'; {unsettled}' if ids else ''}."
    provable = proven is not None and all(finding.id != IMAGES for finding in still)
    if ids and provable and _bear_out(proven, robust if claim is None else claim):
        what = "that" if claim is None else "the claim"
        told = f"{ids} flagged and no attack settled it, but the proofs alone bear {what} out"
        return "stands", f"stands: {figure}; {told}."
    if ids:
        return "open", f"open: {figure}, but {unsettled}."
    if claim is None:
        return "stands", f"stands: {figure}, and no sign of masked gradients is left."
    return "stands", f"stands: {figure}."


def _bear_out(proven: Tensor, share: float) -> bool:
    """Whether a share lies within the interval of what is proven, or below: whatever hides, so much stands."""
    return share <= wilson_interval(int(proven.sum()), len(proven))[1]
