"""``python -m qxmix``, and the ``qxmix`` command."""

import signal


def run() -> None:
    """Run the command that the arguments name.

    Until it is found, and after it, Ctrl-C ends the process without a word, where Python would print a traceback: half
    of what a short command takes is imports.
    """
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, as behind `&`
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from qxmix.cli.main import main  # noqa: PLC0415 - see above

    try:
        main(prog_name="qxmix")
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":  # processes that are spawned import this module again
    run()
