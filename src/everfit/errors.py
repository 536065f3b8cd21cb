"""Everything that can go wrong, as one tree.

Takes nothing; gives the hierarchy below; never decides what to do about an error.

    EverfitError
    ├── SpecError         the spec file is wrong: file, line, key and the nearest valid key are named
    ├── UsageError        a command was used in the wrong way or the wrong place
    │   └── AlreadyRunning   another `everfit up` holds this folder
    ├── Refused           rows or a file were refused; they are kept aside with the reason
    ├── DataBlocked       the rows are not fit to train on; the column is named
    ├── TrainingFailed    the trainer raised, hung, ran out of memory or wrote nonsense
    ├── ModelUnusable     a model file cannot be loaded or cannot predict
    ├── IllegalMove       the lifecycle table has no such move from this state
    ├── Conflict          somebody else wrote this step first; nothing was written
    │   └── LeaseLost     the lease ended meanwhile; a zombie must not write
    ├── Unavailable       something outside is away (database, registry, disk); trying again may help
    │   └── DiskFull      no space left; what was acknowledged is safe, new rows are refused
    └── LedgerTampered    the hash chain of the ledger does not hold
"""

from __future__ import annotations


class EverfitError(Exception):
    """The root: every error that Everfit raises on purpose. Its text tells the user's next move."""


class SpecError(EverfitError):
    """You meet it when `everfit.yaml` is wrong; the text is `file:line: key: what, and the nearest valid key`."""


class UsageError(EverfitError):
    """You meet it when a command or call is used in the wrong way or place."""


class AlreadyRunning(UsageError):
    """You meet it when a second `everfit up` starts in a folder that one already holds."""


class Refused(EverfitError):
    """You meet it when rows or a file cannot be taken; nothing of them was acknowledged."""


class DataBlocked(EverfitError):
    """You meet it when the rows a recipe names are not fit to train on."""


class TrainingFailed(EverfitError):
    """You meet it when the training child ended badly; the text names its log file."""


class ModelUnusable(EverfitError):
    """You meet it when a model file cannot be loaded, is not the file that was judged, or cannot predict."""


class IllegalMove(EverfitError):
    """You meet it when a fact would move a candidate along a path that the lifecycle table does not have."""


class Conflict(EverfitError):
    """You meet it when another worker wrote the same step first. Nothing was written."""


class LeaseLost(Conflict):
    """You meet it when a worker comes back after its lease ended. Nothing was written."""


class Unavailable(EverfitError):
    """You meet it when a database, registry, lake or channel does not answer. Trying again may help."""


class DiskFull(Unavailable):
    """You meet it when no space is left. What was acknowledged is safe; new rows are refused until there is."""


class LedgerTampered(EverfitError):
    """You meet it when an entry of the ledger is not the one that its successors were chained to."""
