"""The verdict: a word, and a sentence that says what it rests on."""

from typing import Literal

from torch import Tensor

from bpfc.auditing.finding import Finding
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.settle import Settlement, lower, reported
from bpfc.ledger import wilson_interval

Verdict = Literal["stands", "falls", "masked", "open"]
EXIT: dict[Verdict, int] = {"stands": 0, "falls": 1, "masked": 1, "open": 3}
INPUTS = "C17"
"""The check of what was handed in: where it flags, proofs are of the wrong images too."""
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
    figure += "" if proven is None else f", {_certified(proven)} are proven to"
    figure += "" if claim is None else f", {claim:.1%} is claimed"
    lowered = [finding for finding in findings if finding.settled == "lower"]
    still = [finding for finding in findings if finding.settled == "open"]
    if lowered:
        before = max(reported(m, finding.id) for finding in lowered)
        ids = ", ".join(finding.id for finding in lowered)
        asked = [step for step in settlements if any(finding.id in step.flags for finding in lowered)]
        ways = [step.told for step in asked if step.before > step.after] or [step.told for step in asked]
        why = f" ({'; '.join(ways)})" if ways else ""
        # A network that falls to plain attacks as well has nothing to hide.
        if before > NOTHING:
            return "masked", f"masked: {before:.1%} stand under plain attacks, but {figure}; flagged by {ids}{why}."
    ids = ", ".join(finding.id for finding in still) if robust > NOTHING else ""
    unsettled = f"{ids} flagged and no attack settled it: this is an upper bound only"
    if claim is not None and claim > high:  # which an upper bound refutes as well
        return "falls", f"falls: {figure}{f'; {unsettled}' if ids else ''}."
    if ids and proven is not None and all(finding.id != INPUTS for finding in still) and _enough(proven, robust, claim):
        return "stands", f"stands: {figure}; {ids} flagged and no attack settled it, but what is proven is enough."
    if ids:
        return "open", f"open: {figure}, but {unsettled}."
    if still:
        open_ids = ", ".join(finding.id for finding in still)
        return "stands", f"stands: {figure}; {open_ids} flagged, but nothing is left to hide."
    if claim is None:
        return "stands", f"stands: {figure}, and no sign of masked gradients is left."
    return "stands", f"stands: {figure}."


def _certified(proven: Tensor) -> str:
    count, images = int(proven.sum()), len(proven)
    low, high = wilson_interval(count, images)
    return f"{count / images:.1%} ({low:.1%} … {high:.1%})"


def _enough(proven: Tensor, robust: float, claim: float | None) -> bool:
    """Whether the verdict would be the same if all broke that is not proven.

    A claim must not lie above the interval of what were left. Without one, the attacks' share must not fall by more
    than would settle a flag.
    """
    count, images = int(proven.sum()), len(proven)
    if count == 0:  # whose interval ends above 0
        return False
    if claim is None:
        return not lower(robust, count / images, images)
    return claim <= wilson_interval(count, images)[1]
