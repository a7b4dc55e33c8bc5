"""`bpfc VERB …`: the list of verbs, nothing else."""

import sys

import tyro


def main() -> None:
    """The command `bpfc`. Errors that a user can mend are one line on stderr and exit status 2."""
    from bpfc import train

    arguments = sys.argv[1:]
    if arguments[:1] == ["train"]:
        chosen = tyro.extras.overridable_config_cli(
            train.options(), prog="bpfc train", args=arguments[1:], config=(tyro.conf.AvoidSubcommands,)
        )
        train.main(chosen)


if __name__ == "__main__":
    main()
