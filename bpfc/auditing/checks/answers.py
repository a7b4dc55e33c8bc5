"""C14: the answers. Eval mode, logits rather than probabilities, and the same answer to the same image."""

import torch

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements


def measure(m: Measurements) -> Measured:
    signs = {
        "was handed in in train mode, and audited in eval mode": m.train_mode,
        "gives probabilities": m.probabilities,
        "answers differently to the same images twice; its mean answer is judged": m.varies,
    }
    told = [text for text, there in signs.items() if there]
    silent = sum((m.probes[name].no_answer for name in m.cascade), torch.zeros_like(m.right)).bool()
    near = f"; NaN or infinite logits near {m.share(silent):.1%} of the images count as broken" if silent.any() else ""
    said = " and ".join(told) or "answers alike twice, with logits, in eval mode"
    return Measured(bool(told), f"the model {said}{near}")


CHECK = Check(
    id="C14",
    title="answers",
    threshold="train mode, probabilities, or another answer to the same image",
    source="Athalye et al. 2018 (randomness); Croce and Hein 2020 (AutoAttack's flags)",
    needs="the model",
    cost="two forwards of a few images",
    meaning="Gradients vanish in the softmax, or are those of one draw among many.",
    next="attacks on the logits behind the softmax; the mean of a growing number of answers",
    measure=measure,
)
