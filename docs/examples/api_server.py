"""Accept Fama's tokens, with the Python client.

Run: python3 api_server.py NODE_URL PORT GENESIS_FILE RESOURCE MIN_KARMA ISSUER...
"""

import http.server
import json
import sys
from pathlib import Path

from fama_client import Refused, ResourceServer

NODE_URL, PORT, GENESIS = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_text(encoding="utf-8")
# What clients ask tokens for: the service's DID, or an https address at a domain that operators vouch for.
RESOURCE, MIN_KARMA, ISSUERS = sys.argv[4], int(sys.argv[5]), sys.argv[6:]
URL = RESOURCE if RESOURCE.startswith("https://") else f"http://127.0.0.1:{PORT}"
BODY_MAX = 65_536  # bytes

# Takes newer versions of the manifest from the node, and hears from its stream what is withdrawn.
api = ResourceServer(NODE_URL, genesis=GENESIS, issuers=ISSUERS, resource=RESOURCE, url=URL, scopes=["read", "pay"])


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 10  # seconds without a byte

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == api.metadata_path:
            self.answer(200, api.metadata())
        elif path == "/answers":
            self.checked("read")
        else:
            self.answer(404, {"code": "not_found", "error": "GET /answers or POST /pay"})

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_MAX:
            self.answer(413, {"code": "body_too_large", "error": f"at most {BODY_MAX} bytes"})
        elif self.path != "/pay":
            self.answer(404, {"code": "not_found", "error": "GET /answers or POST /pay"})
        else:
            self.rfile.read(int(length))
            self.checked("pay", MIN_KARMA)

    def checked(self, scope: str, min_karma: int | None = None) -> None:
        try:
            token = api.check(self.command, self.path, self.headers.items(), scope=scope, min_karma=min_karma)
        except Refused as refused:
            self.answer(refused.status or 503, {"code": refused.code, "error": refused.message}, refused.headers)
        else:
            self.answer(200, {"agent": token.client_id, "process": token.process, "scope": scope})

    def answer(self, status: int, body: dict[str, object], headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


with api, http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as server:
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    server.serve_forever()
