"""The control API: messages on the wire to and from the models."""
