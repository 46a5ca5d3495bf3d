"""Kubernetes objects as values: one file a kind, parsed and validated at the door."""
