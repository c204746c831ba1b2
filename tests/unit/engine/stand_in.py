"""A program that takes vLLM's place in a process: same arguments, same HTTP paths, dies as told.

What it does is read from the environment: STAND_IN=serve (default), crash (exit 3 at once), sulk (never
ready), or once (serves once, crashes at every later start; STAND_IN_MARK names a file that remembers).
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> int:
    arguments = dict(word.removeprefix("--").split("=", 1) for word in sys.argv if "=" in word)
    mode = os.environ.get("STAND_IN", "serve")
    mark = Path(os.environ.get("STAND_IN_MARK", "/nonexistent"))
    print("(APIServer pid=1) INFO Resolved architecture: StandIn", flush=True)
    if mode == "crash" or (mode == "once" and mark.exists()):
        print("ValueError: no such model", flush=True)
        return 3
    if mode == "sulk":
        time.sleep(600)
    if mode == "once":
        mark.touch()
    key = f"Bearer {os.environ['VLLM_API_KEY']}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self._reply(200, {})
            elif self.path == "/metrics":
                self._send(
                    200,
                    b'vllm:num_requests_running{engine="0"} 2.0\n'
                    b'vllm:num_requests_waiting{engine="0"} 1.0\n'
                    b'vllm:num_requests_waiting_by_reason{engine="0"} 9.0\n',
                )
            elif self.headers.get("Authorization") != key:
                self._reply(401, {})
            else:
                self._reply(200, {"data": [{"id": arguments["served-model-name"]}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            names = sorted(name for name in os.environ if name.startswith("COCOON_"))
            choice = {"index": 0, "text": json.dumps(names), "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            self._reply(200, {"choices": [choice], "usage": usage})

        def _reply(self, status: int, body: object) -> None:
            self._send(status, json.dumps(body).encode())

        def _send(self, status: int, raw: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    ThreadingHTTPServer((arguments["host"], int(arguments["port"])), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
