"""Primitives every room may use: errors, live values, time, drain. Standard library only."""
