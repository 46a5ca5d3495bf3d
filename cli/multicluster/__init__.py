"""``pillion multicluster``: link clusters, see what comes of it, export Services."""
