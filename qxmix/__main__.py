"""``python -m qxmix``."""

from qxmix.cli.main import main

main(prog_name="qxmix")
