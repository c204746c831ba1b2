"""The `cocoon` command: wiring only."""
