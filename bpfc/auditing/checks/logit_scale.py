"""C7: the scale of the logits. It changes no answer; it changes what cross-entropy's gradient can see in float32."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.stand_ins import rescaled

LIMIT = 0.03


def measure(m: Measurements) -> Measured:
    at_one = m.share(m.standing(m.pgd_short))
    shares = {}
    for scale in m.budget.scales:
        through = rescaled(m.plain, scale).eval()
        name = f"pgd-{m.short} on logits x {scale:g}"
        shares[scale] = m.share(m.standing(m.pgd(name, m.short, step_size=0.25, through=through)))
    gain = at_one - min(shares.values())
    each = ", ".join(f"{share:.1%} at {scale:g}" for scale, share in shares.items())
    told = f"{at_one:.1%} stand under PGD-{m.short} as it is, {each} times the logits"
    return Measured(gain > LIMIT + 1e-9, told, gain)


CHECK = Check(
    id="C7",
    title="scale of the logits",
    threshold="another scale takes the figure of PGD on the cross-entropy down by more than 3 points",
    source="Carlini and Wagner 2016 (defensive distillation); the threshold is ours",
    needs="gradients",
    cost="short PGD at each scale",
    meaning="The logits are so large that the softmax is 0 or 1 in float32, and the loss has no gradient left.",
    next="margin and targeted attacks on rescaled logits",
    measure=measure,
)
