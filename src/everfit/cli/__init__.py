"""The command line: a few lines over the app per command.

Takes words; gives text or JSON and an exit code (0 done, 1 no, 2 wrong use); never holds a rule of its own.
"""

from everfit.cli import backtest as _backtest  # its commands register themselves
from everfit.cli import bench as _bench
from everfit.cli import lone as _lone
from everfit.cli import looking as _looking
from everfit.cli import releasing as _releasing
from everfit.cli import serving as _serving
from everfit.cli.commands import main

del _backtest, _bench, _lone, _looking, _releasing, _serving

__all__ = ["main"]
