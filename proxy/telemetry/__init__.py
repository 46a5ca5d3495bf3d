"""Metric slots and families: every room writes, the admin server reads."""
