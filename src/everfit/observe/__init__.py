"""Which rows count, and what is known about them."""
