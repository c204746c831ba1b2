"""The contract suite: compiled code, addresses of a network, and one wrapper per contract."""
