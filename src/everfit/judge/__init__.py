"""Prove better, or say unproven."""
