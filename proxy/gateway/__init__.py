"""From another cluster to this one's endpoints."""
