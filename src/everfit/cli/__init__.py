"""The command line: a few lines over the app per command.

Takes words; gives text or JSON and an exit code (0 done, 1 no, 2 wrong use); never holds a rule of its own.
"""

from everfit.cli import looking as _looking  # its commands register themselves
from everfit.cli.commands import main

del _looking

__all__ = ["main"]
