"""The hash is frozen: profiles of years ago add up with today's."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from everfit.profile.hashes import STEP, bucket_counts, mixed, number_hashes, text_hashes

FROZEN = {"": 0x0, "JFK": 0xCB8FCC7F690926E9}
WORD = 2**64 - 1


def plainly(text: str) -> int:
    """The definition, one text and one word at a time."""

    def mix(key: int) -> int:
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & WORD
        return key ^ (key >> 31)

    raw = text.encode()
    words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)]
    total = sum(mix((word + turn * STEP) & WORD) for turn, word in enumerate(words, 1))
    return mix((total + len(raw) * STEP) & WORD)


def test_texts_hash_as_it_is_written_down() -> None:
    texts = ["", "JFK", "12345678", "123456789", "é" * 100, "x" * 1000, "a", "\0", "\0\0"]
    found = text_hashes(pl.Series(texts))
    assert [int(each) for each in found] == [plainly(text) for text in texts]
    assert {text: int(text_hashes(pl.Series([text]))[0]) for text in FROZEN} == FROZEN
    assert text_hashes(pa.array(texts)[2:5]).tolist() == found[2:5].tolist(), "a slice hashes like its texts"
    assert len(set(found.tolist())) == len(texts)


def test_no_texts_have_no_hashes() -> None:
    assert len(text_hashes(pl.Series([], dtype=pl.String))) == 0


def test_buckets_are_even() -> None:
    names = pl.Series(np.arange(16_000)).cast(pl.String)
    counts = bucket_counts(text_hashes(names), np.ones(16_000, dtype=np.int64))
    assert counts.sum() == 16_000
    assert abs(counts - 1000).max() < 5 * 31  # five standard deviations


def test_mixing_is_one_to_one() -> None:
    assert len(np.unique(mixed(np.arange(100_000, dtype=np.uint64)))) == 100_000


def test_zero_is_zero() -> None:
    assert number_hashes(np.array([-0.0])) == number_hashes(np.array([0.0]))
