"""tonpy's C++ lite client against a server that lies: prints the error with which it refuses."""

from __future__ import annotations

import json
import sys

from tonpy.types.address import Address
from tonpy.types.liteclient import LiteClient


def main() -> None:
    task = json.load(sys.stdin)
    server = task["config"]["liteservers"][0]
    client = LiteClient(host="127.0.0.1", port=server["port"], pubkey_base64=server["id"]["key"], timeout=5)
    client.wait_connected(5)
    head = client.get_masterchain_info_ext().last
    try:
        client.get_account_state(Address(task["account"]), head)
        error = ""
    except RuntimeError as refused:
        error = str(refused)
    client.client.stop()
    print(json.dumps({"error": error}))


main()
