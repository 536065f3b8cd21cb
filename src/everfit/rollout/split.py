"""Who is answered by which model: sticky by key, the same everywhere and for ever.

Takes a key, a salt and the challengers' shares; gives a place in [0, 1) and the name of a variant; never moves a key
back and forth while shares are raised.

A key's place is its BLAKE2b hash, salted by the release. Within a release the same customer is always answered by the
same model, and a raised share only adds customers to the challenger's. Between releases places are independent: no
customer is the first to try every new model, and two releases under way at once do not meet in the same customers.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from everfit.errors import UsageError

CHAMPION = "champion"
MOST = 2  # challengers: one grows from each end, so neither ever takes a key from the other


def share_of(key: str, salt: str) -> float:
    """Place a key in [0, 1): the same for the same key and salt, on every machine and in every version of Python.

    53 bits, so that every value is a float exactly and 1 is never reached.

    >>> round(share_of("customer-17", "release-3"), 6)
    0.80906
    """
    digest = blake2b(key.encode(), digest_size=8, key=blake2b(salt.encode(), digest_size=32).digest()).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def variant_of(key: str, salt: str, shares: Sequence[tuple[str, float]], rest: str = CHAMPION) -> str:
    """The model that answers this key: a challenger where its share reaches the key, else `rest`.

    The first challenger has the places [0, share), the second [1 - share, 1). So raising a share moves keys only from
    `rest` to that challenger, lowering it moves the same keys back, and a roll-back moves nobody else.

    Args:
        key: What sticks: a customer, a session; a request's id where there is none (then nothing sticks).
        salt: The release; a constant instead makes the same keys the first to try every model.
        shares: Challengers with their shares in [0, 1].
        rest: Who answers everything else.

    Raises:
        UsageError: more than two challengers, a share outside [0, 1], or shares of more than 1 in all.

    >>> variant_of("customer-17", "release-3", [("challenger", 0.0)]), variant_of("17", "r", [("challenger", 1.0)])
    ('champion', 'challenger')
    """
    if len(shares) > MOST:
        raise UsageError(f"{len(shares)} challengers at once; try at most {MOST}, or keys would move between them")
    if any(not 0 <= share <= 1 for _, share in shares) or sum(share for _, share in shares) > 1 + 1e-9:
        told = ", ".join(f"{name} {share:g}" for name, share in shares)
        raise UsageError(f"shares must lie in [0, 1] and make at most 1 together; these are {told}")
    place = share_of(key, salt)
    if shares and place < shares[0][1]:
        return shares[0][0]
    if len(shares) == MOST and 1 - place <= shares[1][1]:
        return shares[1][0]
    return rest


def key_of(key: str | None, request: str) -> str:
    """What to split by: the caller's key, else the request's own id.

    >>> key_of(None, "r-1"), key_of("", "r-1"), key_of("customer-17", "r-1")
    ('request:r-1', 'request:r-1', 'key:customer-17')
    """
    return f"key:{key}" if key else f"request:{request}"
