"""By small reversible steps, and back."""
