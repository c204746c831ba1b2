"""pytest plugin: fixtures for a fresh, isolated sandbox chain."""
