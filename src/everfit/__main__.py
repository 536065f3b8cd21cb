"""`python -m everfit` is `everfit`."""

from everfit.cli import main

main()
