"""A pod in, a patch out."""
