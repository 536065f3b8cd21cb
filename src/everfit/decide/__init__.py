"""Is it worth it."""
