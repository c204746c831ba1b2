"""A client's open sessions: what is stored and on chain of them, and the signing of their vouchers."""
