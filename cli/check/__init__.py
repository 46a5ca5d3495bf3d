"""``pillion check``: what a mesh on this machine needs, what is there, and what helps."""
