"""``pillion policy``: decisions over a mesh directory, made by the code that makes them live."""
