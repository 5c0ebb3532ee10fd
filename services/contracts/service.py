"""A service in Python, with the standard library alone: it counts what each seller has sold.

It is an example to copy from (README.md, "Write a service in an hour"). What it does is what every subscriber does: it accepts
calls of its own sidecar alone, answers for each event of a delivery, changes a document only on the condition that nobody else has
changed it, bears events that come twice or late, and makes dead letters of those that no retry can mend.

    GET /sales/SELLER    {"sold": 2, "revenue": 9000}    on PORT
"""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIDECAR = "http://127.0.0.1:" + os.environ["DAPR_HTTP_PORT"]
KNOWN_SCHEMA = 1  # the highest number of order.completed and order.cancelled that this service can read
MAX_DELIVERIES = int(os.environ.get("MAX_DELIVERIES", "10"))
handlers = ThreadPoolExecutor(8)
failures = {}  # by event, the times of its deliveries that failed, except while something was away


class Conflict(Exception):
    """Somebody else has changed the document."""


class Foreign(Exception):
    """The event came on a topic that is not that of its type, so that anybody may have published it."""


def sidecar(method, path, body=None, content_type="application/json"):
    """Calls the sidecar. Returns the body of the answer and its ETag."""
    request = urllib.request.Request(SIDECAR + path, method=method)
    request.add_header("dapr-api-token", os.environ.get("DAPR_API_TOKEN", ""))
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", content_type)
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


def decode(topic, raw):
    """Returns the seller and the order of an event, or None for an event that this service ignores. Any exception means that the event
    is not what its type promises."""
    event = json.loads(raw)
    kind = event["type"]
    if topic != "retry.sales" and not kind.startswith("order."):
        raise Foreign(f"type {kind} came on the topic {topic}")
    if kind not in ("order.completed", "order.cancelled"):
        return None
    number = re.search(f"(?:/api/schemas/{kind}/|urn:boxoffice:{kind}:)([0-9]+)$", event.get("dataschema") or "")
    if number and int(number[1]) > KNOWN_SCHEMA:
        raise ValueError(f"it has schema {number[1]} of {kind}, this service decodes up to {KNOWN_SCHEMA}")
    order = event["data"]
    if "sellerId" not in order:
        return None
    entry = {"version": int(order["version"]), "status": str(order["status"]), "price": int(order["ticket"]["price"])}
    return str(uuid.UUID(order["sellerId"])), str(uuid.UUID(order["id"])), entry


def apply(seller, order, entry):
    """Counts an order that was completed, and no longer one that was refunded."""
    while True:
        document, etag = read(seller)
        if document["orders"].get(order, {"version": 0})["version"] >= entry["version"]:
            return  # a repeat, or an event that comes late
        document["orders"][order] = entry
        try:
            return write(seller, document, etag)
        except Conflict:
            pass  # read again, and decide again


def handle(topic, raw):
    """Handles one event of a delivery, and returns its status."""
    try:
        decoded = decode(topic, raw)
    except Foreign as error:
        return dead_letter(raw, "foreign", error)
    except Exception as error:
        return dead_letter(raw, "undecodable", error)
    try:
        if decoded:
            apply(*decoded)
        failures.pop(raw, None)
        return "SUCCESS"
    except OSError as error:  # the sidecar or the store is away: the event is delivered again
        print("away:", error, flush=True)
        return "RETRY"
    except Exception as error:  # a document that cannot be read, or a defect of this program
        times = failures.setdefault(raw, [])
        times.append(now())
        return "RETRY" if len(times) < MAX_DELIVERIES else dead_letter(raw, "failed", error, times)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dead_letter(raw, code, error, times=None):
    """Gives up an event that no retry can mend: publishes it with the reason (schemas/event.dead.1.json)."""
    print("dead letter:", code, repr(error), flush=True)
    times = times or [now()]
    letter = {
        "service": "sales",
        "instance": socket.gethostname() + ":" + os.environ["PORT"],
        "code": code,
        "reason": repr(error),
        "attempts": len(times),
        "firstFailure": times[0],
        "lastFailure": times[-1],
    }
    name = "sha256-" + hashlib.sha256(raw).hexdigest()[:24]
    try:
        event = json.loads(raw)
        json.dumps(event, allow_nan=False)  # NaN is JSON to Python alone
        letter["event"] = event
        if isinstance(event, dict) and isinstance(event.get("type"), str):
            letter["eventType"] = event["type"]
        if isinstance(event, dict) and isinstance(event.get("id"), str) and event["id"]:
            letter["eventId"] = name = event["id"]
    except (ValueError, RecursionError):
        letter["raw"] = base64.b64encode(raw).decode()
    envelope = {
        "specversion": "1.0",
        "id": f"event.dead:sales:{name}:1",
        "source": "/sales",
        "type": "event.dead",
        "subject": "sales:" + name,
        "time": times[-1],
        "datacontenttype": "application/json",
        "dataschema": os.environ.get("PUBLIC_URL", "http://localhost:8080") + "/api/schemas/event.dead/1",
        "data": letter,
    }
    try:
        sidecar("POST", "/v1.0/publish/pubsub/dead.sales?metadata.rawPayload=true", envelope, "application/cloudevents+json")
        failures.pop(raw, None)
        return "SUCCESS"
    except OSError:  # the broker is away: the event is delivered again
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
        bulk = json.loads(body)
        events = [base64.b64decode(entry["event"]) for entry in bulk["entries"]]
        statuses = handlers.map(handle, [bulk["topic"]] * len(events), events)
        respond(self, 200, {"statuses": [{"entryId": e["entryId"], "status": s} for e, s in zip(bulk["entries"], statuses)]})

    def log_message(self, *_):
        pass


class Public(BaseHTTPRequestHandler):
    """The public API, on PORT."""

    def do_GET(self):
        if self.path in ("/healthz", "/readyz"):
            return respond(self, 200, {"status": "ok"})
        try:
            seller = str(uuid.UUID(self.path.removeprefix("/sales/")))
        except ValueError:
            return respond(self, 404, {})
        sold = [order for order in read(seller)[0]["orders"].values() if order["status"] == "complete"]
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
