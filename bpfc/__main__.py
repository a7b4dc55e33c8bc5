"""`bpfc VERB …`: the list of verbs, nothing else."""

import importlib
import os
import shlex
import sys
import traceback
from difflib import get_close_matches
from io import TextIOWrapper

from bpfc.errors import UserError
from bpfc.memory import keep_memory

VERBS = {
    "train": "train a network by a recipe",
    "recipes": "list the recipes, or show the settings of one",
    "evaluate": "attack the network of a run, or a model of yours, one ledger row per image",
    "certify": "prove what no attack can break, of the network of a run, or a model of yours",
    "audit": "find out whether a robustness is real: stands, falls, masked or open, as the exit status",
    "attacks": "list the attacks and suites by name",
    "transfer": "attack networks with images made on others (black box)",
    "export": "write the network of a run as ONNX, TorchScript, a Hugging Face folder or a RobustBench entry",
    "report": "make one HTML page about runs, of the files that they left",
    "explore": "open a local page: move k, ε and steps, and watch an attack on networks side by side",
    "reproduce": "train and attack what a table of the paper lacks here; print it, ours beside theirs",
    "networks": "list the networks, with parameters and multiply-adds",
    "demo": "train a normal and a BPFC network on real digits, attack both, draw the figure",
}
"""A verb's module is bpfc.cli.VERB: `parse` makes options of its words, `main` does them and may give back an exit
status."""

USAGE = f"""usage: bpfc VERB …

{chr(10).join(f"  {verb:10} {text}" for verb, text in VERBS.items())}

bpfc VERB --help tells a verb's options; bpfc --version the version."""


def main() -> None:
    """The command `bpfc`. An error that the user can mend is one line on stderr, with exit status 2.

    Any other error has that status too, below its traceback.
    """
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a terminal or pipe that has no ε shows a question mark
    verb, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if verb in ("-h", "--help"):
        print(USAGE)
        return
    if verb == "--version":
        from importlib.metadata import version

        print(f"bpfc {version('bpfc')}")
        return
    try:
        if verb not in VERBS:
            near = get_close_matches(verb, [*VERBS, "--help", "--version"], n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"no verb {verb!r}; {meant}bpfc --help lists them")
        # Imported only now, so that help does not wait for other verbs; torch is imported by what computes.
        module = importlib.import_module(f"bpfc.cli.{verb}")
        keep_memory()
        status = module.main(module.parse(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        again = [verb, *arguments] + ["--resume"] * (verb == "train" and "--resume" not in arguments)
        print(f"\nStopped. Go on with: bpfc {shlex.join(again)}", file=sys.stderr)
        sys.exit(130)
    except (UserError, OSError, ValueError) as error:
        if _nobody_reads():
            sys.exit(141)  # as other commands end when `| head` has enough: 128 and SIGPIPE's number
        print(f"bpfc: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Exception:  # nobody foresaw it. Python's own status, 1, is one of an audit's verdicts.
        traceback.print_exc()
        sys.exit(2)
    if status:
        sys.exit(status)


def _nobody_reads() -> bool:
    """Whether the output goes into a pipe that is closed; what is left of it is dropped."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


if __name__ == "__main__":
    main()
