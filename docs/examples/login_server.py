"""Sign in with Fama, with the Python client: python3 login_server.py NODE_URL PORT MIN_KARMA"""

import http.server
import json
import sys
import threading

from fama_client import Client, FamaError, Login

NODE_URL, PORT, MIN_KARMA = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
AUDIENCE = "login to shop.example"  # what agents sign: a login for another service is worth nothing here
BODY_MAX = 65_536  # bytes

# Keeps profiles for 10 s, and for 300 s while the node's stream says what changes; remembers used signatures.
fama = Client(NODE_URL)
threading.Thread(target=fama.follow, args=(threading.Event(),), daemon=True).start()


def login(body: object) -> dict[str, object]:
    names = ("dumbname", "timestamp", "signature")
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in names):
        raise FamaError("missing_field", "want dumbname, timestamp and signature", status=400)
    if "@" not in body["dumbname"]:
        raise FamaError("bad_name", "want a whole handle, which means the same at every node", status=400)
    signed = Login(body["dumbname"], body["timestamp"], AUDIENCE, body["signature"])
    who = fama.verify(signed, min_karma=MIN_KARMA)
    return {"handle": who.handle, "karma": who.karma}


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 10  # seconds without a byte

    def do_POST(self) -> None:
        try:
            if self.path != "/login":
                raise FamaError("not_found", "POST /login", status=404)
            length = self.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > BODY_MAX:
                raise FamaError("body_too_large", f"at most {BODY_MAX} bytes", status=413)
            try:
                body = json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                raise FamaError("bad_json", "want a JSON object", status=400) from None
            self.answer(200, login(body))
        except FamaError as error:
            # An agent that the node doesn't know can't log in; without an answer of the node, nobody can tell.
            status = 401 if error.code == "unknown_agent" else error.status or 503
            self.answer(status, {"code": error.code, "error": error.message})

    def answer(self, status: int, body: dict[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


with http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as server:
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    server.serve_forever()
