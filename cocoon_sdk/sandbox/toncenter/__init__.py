"""The toncenter v2 HTTP API over a sandbox node, for clients that know no other network interface."""

from cocoon_sdk.sandbox.toncenter.server import ToncenterServer

__all__ = ["ToncenterServer"]
