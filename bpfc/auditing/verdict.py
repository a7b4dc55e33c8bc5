"""The verdict: a word, and a sentence that says what it rests on."""

from typing import Literal

from bpfc.auditing.finding import Finding
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.settle import Settlement, reported
from bpfc.ledger import wilson_interval

Verdict = Literal["stands", "falls", "masked", "open"]
EXIT: dict[Verdict, int] = {"stands": 0, "falls": 1, "masked": 1, "open": 3}
NOTHING = 0.005
"""A share that stands of which no flag can take anything away."""


def decide(
    m: Measurements, findings: list[Finding], settlements: list[Settlement], claim: float | None
) -> tuple[Verdict, str]:
    """Word and sentence, from the findings after the settling attacks."""
    left = int(m.left.sum())
    robust = left / len(m)
    low, high = wilson_interval(left, len(m))
    figure = f"{robust:.1%} ({low:.1%} … {high:.1%}) stand under the worst of {len(m.cascade)} attacks"
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
    if ids:
        return "open", f"open: {figure}, but {unsettled}."
    if claim is None:
        return "stands", f"stands: {figure}, and no sign of masked gradients is left."
    return "stands", f"stands: {figure}."
