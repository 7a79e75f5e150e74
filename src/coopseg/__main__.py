"""`python -m coopseg` is the command `coopseg`."""

from coopseg.cli.main import run

run()
