"""Capture rules: options in, rules out, and the runner that installs them."""
