"""The client of a Cocoon network: one escrow, its jobs, the workers that serve them; async and sync."""

from cocoon_sdk.client.app import AsyncCocoon

__all__ = ["AsyncCocoon"]
