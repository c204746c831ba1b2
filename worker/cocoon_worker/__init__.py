"""A Cocoon worker: watches its stake, serves jobs with an engine, settles on chain. Public SDK only."""
