"""What to train, on which rows, with what code."""
