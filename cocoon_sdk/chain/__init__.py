"""The only seam between Cocoon and a network, and its adapters."""
