"""How unlike is now."""
