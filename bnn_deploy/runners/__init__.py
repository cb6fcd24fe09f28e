"""Backends, one file each; `base` holds the protocol that the harness and the benchmark know."""
