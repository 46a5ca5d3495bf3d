"""The data plane: the only package that moves user bytes."""
