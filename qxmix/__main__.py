"""``python -m qxmix``."""

from qxmix.cli.main import main

if __name__ == "__main__":  # processes that are spawned import this module again
    main(prog_name="qxmix")
