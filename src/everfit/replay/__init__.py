"""History told again: the story of a model, and its report."""
