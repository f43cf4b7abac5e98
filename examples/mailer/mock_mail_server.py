"""A mail server for trying things out: it sends nothing, and prints what it would have sent.

    python mock_mail_server.py 8025 [MILLISECONDS]

Like those that one rents, it knows idempotency keys: of mails with the same key it sends one, and answers the others
as if it had just sent them. Each request is a line of JSON. With MILLISECONDS, each takes that long.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sent = set()
lock = threading.Lock()
delay = int(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0


class Mail(BaseHTTPRequestHandler):
    def do_POST(self):
        mail = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        time.sleep(delay)
        with lock:
            line = {"key": key, **mail, "duplicate": key in sent}
            sent.add(key)
            print(json.dumps(line), flush=True)
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Mail)
print(json.dumps({"listens": f"http://127.0.0.1:{server.server_address[1]}/mail"}), flush=True)
server.serve_forever()
