"""An arbiter: follows disputes, weighs evidence, re-scores, votes, signs verdicts (docs/arbiter.md).

Owns everything one arbiter does. Must not know wallets' owners, sessions' links or the worker; contracts only
through their wrappers.
"""
