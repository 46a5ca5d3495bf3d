"""Towards the workload beside us."""
