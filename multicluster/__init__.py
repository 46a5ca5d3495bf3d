"""Other clusters: links, mirrored services, and the choice of the way to them."""
