"""Verifiable inference: what was promised, what was committed to, and whether it holds."""
