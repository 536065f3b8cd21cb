"""The demonstration: a year of flights kept fit by Everfit, and by its rivals."""
