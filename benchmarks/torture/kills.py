"""Verbs that are killed, or meet a full disk, and are then given again."""

import random
import signal
from pathlib import Path

from forks import call, ended, is_told, said
from outcomes import Trial, compare, left
from scene import VERBS, WHOLE, fresh

WEIGHTS = {
    "train": 6,
    "evaluate": 6,
    "transfer": 5,
    "certify": 4,
    "audit": 1,
    "reproduce": 2,
    "reproduce black box": 2,
}
"""How often each verb has its turn; an audit takes ten times as long as the others, a reproduction three times."""


def kill(chance: random.Random, _: int) -> Trial:
    """One trial with kills."""
    verb = _drawn(chance)
    again, whole, killed = _again(verb), WHOLE[verb], []
    attempts = chance.randint(1, 5)
    fresh()
    for _ in range(attempts):
        if chance.random() < 0.5:
            moment = round(chance.uniform(0, whole.seconds), 3)
            status, drawn = call(again, seconds=moment), f"after {moment} s"
        else:
            operation = chance.randint(1, whole.operations)
            status, drawn = call(again, operation=operation), f"before operation {operation}"
        if status == -signal.SIGKILL:  # else it came to its end before the moment that was drawn
            killed.append(drawn)
    told = {"row": f"{verb} killed", "killed": killed, "attempts": attempts, "operations": whole.operations}
    return told | _outcome(verb)


def full(chance: random.Random, _: int) -> Trial:
    """One trial in which no file may grow beyond a size."""
    verb = _drawn(chance)
    fresh()
    size = round(10 ** chance.uniform(0, 6.3))
    status = call(_again(verb), size=size)
    told = {"row": f"{verb} on a full disk", "size": size}
    if not is_told(status) and not ended(status):
        return told | {"end": "traceback", "status": status, "stderr": said()[-2000:], "command": _again(verb)}
    return told | {"refused": status == 2, **_outcome(verb)}


def _drawn(chance: random.Random) -> str:
    return chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def _again(verb: str) -> str:
    return VERBS[verb] + " --resume" * (verb == "train")


def _outcome(verb: str) -> Trial:
    """Gives the verb again, to its end, and compares."""
    status = call(_again(verb))
    told = {"command": f"bpfc {_again(verb)}"}
    if not ended(status):
        return told | {"end": "lost" if is_told(status) else "traceback", "stderr": said()[-2000:]}
    return told | compare(left(Path("new")), WHOLE[verb].left, lost=True)
