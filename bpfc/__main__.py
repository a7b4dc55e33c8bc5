"""`bpfc VERB …`: the list of verbs, nothing else."""

import shlex
import sys

VERBS = """usage: bpfc VERB …

  train RECIPE    train a network by a recipe (bpfc train --help lists them)
  evaluate RUN    attack the network of a run, or a model of yours, one ledger row per image
  certify RUN     prove what no attack can break, of the network of a run, or a model of yours
  transfer RUN …  attack networks with images made on others (black box)
  networks        list the networks, with parameters and multiply-adds
  demo            train a normal and a BPFC network on real digits, attack both, draw the figure

bpfc VERB --help tells a verb's options."""


def main() -> None:
    """The command `bpfc`. An error that the user can mend is one line on stderr, with exit status 2."""
    verb, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if verb in ("-h", "--help"):
        print(VERBS)
        return
    if verb not in ("train", "evaluate", "certify", "transfer", "networks", "demo"):
        sys.exit(f"bpfc: error: no verb {verb!r}\n\n{VERBS}")
    # Imported only now, so that the list of verbs does not wait for torch.
    import tyro

    from bpfc.checkpoint import RunError
    from bpfc.data import DataError
    from bpfc.machine import keep_memory
    from bpfc.verbs import demo, networks, train
    from bpfc.verbs.certify import Certify
    from bpfc.verbs.certify import main as run_certify
    from bpfc.verbs.evaluate import Evaluate
    from bpfc.verbs.evaluate import main as run_evaluate
    from bpfc.verbs.transfer import Transfer
    from bpfc.verbs.transfer import main as run_transfer

    keep_memory()
    plain = (tyro.conf.AvoidSubcommands,)
    try:
        if verb == "train":
            options = train.options()
            train.run(tyro.extras.overridable_config_cli(options, prog="bpfc train", args=arguments, config=plain))
        elif verb == "evaluate":
            run_evaluate(tyro.cli(Evaluate, prog="bpfc evaluate", args=arguments, config=plain))
        elif verb == "certify":
            run_certify(tyro.cli(Certify, prog="bpfc certify", args=arguments, config=plain))
        elif verb == "transfer":
            run_transfer(tyro.cli(Transfer, prog="bpfc transfer", args=arguments, config=plain))
        elif verb == "networks":
            networks.main(tyro.cli(networks.Networks, prog="bpfc networks", args=arguments))
        else:
            demo.main(tyro.cli(demo.Demo, prog="bpfc demo", args=arguments, config=plain))
    except KeyboardInterrupt:
        again = [verb, *arguments] + ["--resume"] * (verb == "train" and "--resume" not in arguments)
        print(f"\nStopped. Go on with: bpfc {shlex.join(again)}", file=sys.stderr)
        sys.exit(130)
    except (DataError, RunError, FloatingPointError, OSError, ValueError) as error:
        print(f"bpfc: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
