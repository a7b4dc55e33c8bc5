"""A file of a run that stands half-way is damaged, and the verb that reads it goes on."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forks import call, ended, is_told, said
from outcomes import Trial, compare, left
from scene import FINISHED, STAGES, folder_of, fresh

READERS = {
    "evaluation": ("evaluate", "attacked"),
    "transfer": ("transfer",),
    "audit": ("audit",),
    "certification": ("certify",),
}
"""Which verbs read a file, by the folder in the run that it stands in."""
ODD = [None, True, 5, -1, 0.5, 1e999, "", "x", [], {}, [[]], {"a": 1}, 10**400, "\ud800"]


def damage(chance: random.Random, _: int) -> Trial:
    """One trial with a damaged file."""
    fresh()
    files = sorted(path for path in Path("run").rglob("*") if path.is_file() and path.name != ".lock")
    files = [path for path in files if path.suffix != ".svg"]  # which nothing reads
    # An audit takes ten times as long as what else goes on.
    path = chance.choices(files, [0.2 if "audit" in path.parts else 1.0 for path in files])[0]
    how = chance.choice([name for name, (suffixes, _) in DAMAGES.items() if not suffixes or path.suffix in suffixes])
    DAMAGES[how][1](chance, path, files)
    inside = path.relative_to("run")
    verbs = READERS.get(inside.parts[0], ())
    verb = chance.choice(verbs or ("train", "train", "evaluate", "certify", "transfer"))
    told = {"row": f"file {how}", "file": str(inside), "command": f"bpfc {STAGES[verb]}"}
    status = call(STAGES[verb])
    if is_told(status):
        return told | {"end": "told", "stderr": said()}
    if not ended(status):
        return told | {"end": "traceback", "status": status, "stderr": said()[-2000:]}
    return told | compare(left(folder_of(verb)), FINISHED[verb], lost=False)


def flip(chance: random.Random, content: bytes) -> bytes:
    """With one to three bits flipped."""
    changed = bytearray(content or b"\0")
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def truncate(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randrange(max(1, len(content)))]


def overwrite(chance: random.Random, content: bytes) -> bytes:
    """With a stretch of zeros or of random bytes, as a lost sector leaves it."""
    begin = chance.randrange(max(1, len(content)))
    length = min(len(content) - begin, chance.choice([1, 4, 8, 64, 512, 4096]))
    stretch = bytes(length) if chance.random() < 0.5 else chance.randbytes(length)
    return content[:begin] + stretch + content[begin + length :]


def move(chance: random.Random, content: bytes) -> bytes:
    """With a stretch of it copied to another place, or taken out."""
    begin, length, to = (chance.randrange(max(1, len(content))) for _ in range(3))
    stretch = content[begin : begin + length] if chance.random() < 0.5 else b""
    return content[:to] + stretch + content[to + (0 if stretch else length) :]


def _replace(chance: random.Random, path: Path, files: list[Path]) -> None:
    """By another file of the run, or by something of another kind."""
    odd = [b"null", b"5", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe\x00"]
    path.write_bytes(chance.choice([*odd, *(each.read_bytes() for each in files if each != path)]))


def edit(chance: random.Random, content: Any) -> Any:
    """JSON with one value, anywhere in it, replaced by an odd one, taken out or put in twice."""
    if isinstance(content, dict) and content and chance.random() < 0.9:
        name = chance.choice(list(content))
        if chance.random() < 0.15:
            return {key: value for key, value in content.items() if key != name}
        return {key: edit(chance, value) if key == name else value for key, value in content.items()}
    if isinstance(content, list) and content and chance.random() < 0.9:
        at = chance.randrange(len(content))
        kept = chance.choice([[], [content[at]] * 2, [edit(chance, content[at])], [edit(chance, content[at])]])
        return [*content[:at], *kept, *content[at + 1 :]]
    near = [content + 1, -content, content / 2] if isinstance(content, int | float) else []
    return chance.choice([*ODD, *near, *near, *near])


def _edit_json(chance: random.Random, path: Path, _: list[Path]) -> None:
    path.write_text(json.dumps(edit(chance, json.loads(path.read_text())), indent=2))


def _edit_lines(chance: random.Random, path: Path, _: list[Path]) -> None:
    """A line edited, doubled, taken out, moved, or with another end."""
    lines = path.read_text().split("\n")[:-1]
    at, way = chance.randrange(len(lines)), chance.randrange(6)
    if way < 2:
        lines[at] = json.dumps(edit(chance, json.loads(lines[at])))
    elif way == 2:
        lines.insert(chance.randrange(len(lines)), lines[at])
    elif way == 3:
        del lines[at]
    elif way == 4:
        lines.insert(chance.randrange(len(lines)), lines.pop(at))
    path.write_text("".join(f"{line}\n" for line in lines), newline="\r\n" if way == 5 else "\n")


def edit_tensors(chance: random.Random, content: bytes) -> bytes:
    """Safetensors with its header edited, in the length that it says or in what it says of the tensors."""
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]
    if chance.random() < 0.2:
        length = chance.choice([0, length - 1, length + 1, 2**63, 2**64 - 1, len(content)])
        return length.to_bytes(8, "little") + header + rest
    header = json.dumps(edit(chance, json.loads(header))).encode(errors="surrogatepass")
    return len(header).to_bytes(8, "little") + header + rest


def _bytes(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, Path, list[Path]], None]:
    return lambda chance, path, _: path.write_bytes(change(chance, path.read_bytes())) and None


DAMAGES: dict[str, tuple[set[str], Callable[[random.Random, Path, list[Path]], None]]] = {
    "bits flipped": (set(), _bytes(flip)),
    "truncated": (set(), _bytes(truncate)),
    "overwritten": (set(), _bytes(overwrite)),
    "copied about": (set(), _bytes(move)),
    "replaced": (set(), _replace),
    "emptied": (set(), _bytes(lambda *_: b"")),
    "removed": (set(), lambda _, path, __: path.unlink()),
    "JSON edited": ({".json"}, _edit_json),
    "lines edited": ({".jsonl"}, _edit_lines),
    "tensor header edited": ({".safetensors"}, _bytes(edit_tensors)),
}
"""By name: for which suffixes (none: for all), and what it does."""
