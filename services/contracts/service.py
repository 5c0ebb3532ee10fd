"""A service in Python, with the standard library alone: it counts what each seller has sold.

It is an example to copy from (README.md, "Write a service in an hour"). What it does is what every subscriber does: it accepts
calls of its own sidecar alone, answers for each event of a delivery, changes a document only on the condition that nobody else has
changed it, and bears events that come twice or late.

    GET /sales/SELLER    {"sold": 2, "revenue": 9000}    on PORT
"""

import base64
import hmac
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIDECAR = "http://127.0.0.1:" + os.environ["DAPR_HTTP_PORT"]
KNOWN_SCHEMA = 1  # the highest number of order.completed and order.cancelled that this service can read
handlers = ThreadPoolExecutor(8)


class Conflict(Exception):
    """Somebody else has changed the document."""


def sidecar(method, path, body=None):
    """Calls the sidecar. Returns the body of the answer and its ETag."""
    request = urllib.request.Request(SIDECAR + path, method=method)
    request.add_header("dapr-api-token", os.environ.get("DAPR_API_TOKEN", ""))
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read(), answer.headers.get("ETag")
    except urllib.error.HTTPError as answer:
        if answer.code == 409:
            raise Conflict from None
        raise


def read(seller):
    """Returns a seller's document and its ETag. The document has the last event of each order, by the order's id."""
    body, etag = sidecar("GET", "/v1.0/state/state/sales-" + seller)
    return (json.loads(body), etag) if body else ({"schema": 1, "orders": {}}, None)


def write(seller, document, etag):
    """Writes the document, unless it has changed since it was read."""
    item = {"key": "sales-" + seller, "value": document, "options": {"concurrency": "first-write"}}
    if etag:
        item["etag"] = etag
    sidecar("POST", "/v1.0/state/state", [item])


def apply(event):
    """Counts an order that was completed, and no longer one that was refunded."""
    order = event["data"]
    if "sellerId" not in order:
        return
    while True:
        document, etag = read(order["sellerId"])
        if document["orders"].get(order["id"], {"version": 0})["version"] >= order["version"]:
            return  # a repeat, or an event that comes late
        document["orders"][order["id"]] = {"version": order["version"], "status": order["status"], "price": order["ticket"]["price"]}
        try:
            return write(order["sellerId"], document, etag)
        except Conflict:
            pass  # read again, and decide again


def handle(entry):
    """Handles one event of a delivery, and returns its status."""
    try:
        event = json.loads(base64.b64decode(entry["event"]))
        if event["type"] not in ("order.completed", "order.cancelled"):
            return "SUCCESS"
        if int(event["dataschema"].replace(":", "/").rsplit("/", 1)[1]) > KNOWN_SCHEMA:
            raise ValueError("the schema's number is too high")
    except (ValueError, KeyError) as error:
        return dead_letter(entry, error)
    try:
        apply(event)
        return "SUCCESS"
    except OSError as error:  # the sidecar or the store is away: the event is delivered again
        print("away:", error, flush=True)
        return "RETRY"


def dead_letter(entry, reason):
    """Gives up an event that no retry can mend. A whole dead letter has more members: schemas/event.dead.1.json."""
    print("dead letter:", reason, flush=True)
    try:
        sidecar("POST", "/v1.0/publish/pubsub/dead.sales?metadata.rawPayload=true", base64.b64decode(entry["event"]).decode())
        return "SUCCESS"
    except OSError:
        return "RETRY"


class Callbacks(BaseHTTPRequestHandler):
    """What the sidecar calls, on APP_PORT. Any process that can call this can forge events, so it demands the token."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        respond(self, 200 if self.path == "/healthz" else 404, [])

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not hmac.compare_digest(self.headers.get("dapr-api-token", ""), os.environ["APP_API_TOKEN"]):
            return respond(self, 401, {})
        entries = json.loads(body)["entries"]
        statuses = handlers.map(handle, entries)
        respond(self, 200, {"statuses": [{"entryId": e["entryId"], "status": s} for e, s in zip(entries, statuses)]})

    def log_message(self, *_):
        pass


class Public(BaseHTTPRequestHandler):
    """The public API, on PORT."""

    def do_GET(self):
        if self.path in ("/healthz", "/readyz"):
            return respond(self, 200, {"status": "ok"})
        if not self.path.startswith("/sales/"):
            return respond(self, 404, {})
        sold = [order for order in read(self.path[7:])[0]["orders"].values() if order["status"] == "complete"]
        respond(self, 200, {"sold": len(sold), "revenue": sum(order["price"] for order in sold)})


def respond(request, status, body):
    text = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    request.wfile.write(text)


servers = [
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Callbacks),
    ThreadingHTTPServer(("", int(os.environ["PORT"])), Public),
]
signal.signal(signal.SIGTERM, lambda *_: [threading.Thread(target=server.shutdown).start() for server in servers])
threads = [threading.Thread(target=server.serve_forever) for server in servers]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
