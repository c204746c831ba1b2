"""A whole paid job on this machine: `cocoon demo`, and the local network behind `cocoon sandbox up`."""
