"""Connections to workers: authenticated, encrypted, many requests over each, paid as the answers come."""
