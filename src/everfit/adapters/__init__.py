"""One library, one file, one port."""
