"""`icsnn`, `python -m icsnn_deploy`, and `torchrun -m icsnn_deploy`: the icsnn command."""

import signal


def main() -> None:
    """Load the commands and run one; Ctrl-C ends the process without a traceback meanwhile."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from icsnn_deploy.cli import main as run

    run()


if __name__ == "__main__":
    main()
