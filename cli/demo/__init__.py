"""Clusters on one machine, to show the mesh at work."""
