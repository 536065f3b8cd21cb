"""The mergeable portrait of a window."""
