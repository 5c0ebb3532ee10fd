"""A client of the box office in Python, with the standard library alone: sells a ticket to itself.

    python3 services/contracts/client.py http://localhost:8080

It is an example to copy from. What it does is what every client does: it calls with a token and a timeout, decides by the code of a
problem, repeats what was answered 429 or 503 with the same Idempotency-Key, and waits until the order is complete.
"""

import json
import sys
import time
import urllib.error
import urllib.request
import uuid


class Problem(Exception):
    """An answer that is not one of success: application/problem+json."""

    def __init__(self, status, body, retry_after):
        errors = body.get("errors") or [{"message": f"HTTP {status}"}]
        super().__init__(" ".join(error["message"] for error in errors))
        self.status = status
        self.code = errors[0].get("code")  # what programs decide by
        self.retry_after = retry_after  # seconds


class Client:
    """Calls the API as one user, or as nobody without a token."""

    def __init__(self, base_url, token=None):
        self.base_url = base_url
        self.token = token

    def call(self, method, path, body=None, key=None):
        """Makes one request, and returns the JSON of the answer and its headers."""
        request = urllib.request.Request(self.base_url + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", "Bearer " + self.token)
        if key:
            request.add_header("Idempotency-Key", key)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or "null"), answer.headers
        except urllib.error.HTTPError as answer:
            try:
                problem = json.loads(answer.read())
            except ValueError:  # a page of a proxy
                problem = {}
            raise Problem(answer.code, problem, float(answer.headers.get("Retry-After") or 1)) from None

    def create(self, path, body):
        """Makes a POST, and repeats it for a minute. All requests have one key, so what they create is created once."""
        key = str(uuid.uuid4())
        end = time.monotonic() + 60
        while True:
            try:
                return self.call("POST", path, body, key)[0]
            except Problem as problem:
                pause = problem.retry_after
                if problem.status not in (429, 503) or time.monotonic() + pause > end:
                    raise
            except OSError:  # no connection, or no answer in time: it may have been done
                pause = 1
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)

    def pages(self, path):
        """Yields the items of a list, page by page."""
        while path:
            items, headers = self.call("GET", path)
            yield from items
            link = headers.get("Link", "")  # </api/tickets?cursor=…>; rel="next"
            path = link[link.index("<") + 1 : link.index(">")] if 'rel="next"' in link else None


def sign_up(base_url, name):
    email = f"{name}-{uuid.uuid4()}@example.com"
    account = Client(base_url).create("/api/users/signup", {"email": email, "password": "correct horse"})
    return Client(base_url, account["token"])


def main(base_url):
    seller = sign_up(base_url, "seller")
    buyer = sign_up(base_url, "buyer")

    ticket = seller.create("/api/tickets", {"title": "Front row", "price": 4500})  # 45 dollars
    print("listed:", ticket["id"])

    # A new ticket may not be known at once: 503 not_yet_known, which create() repeats.
    order = buyer.create("/api/orders", {"ticketId": ticket["id"]})
    print("reserved until:", order["expiresAt"])

    try:
        buyer.create("/api/payments", {"orderId": order["id"], "paymentMethod": "pm_card_chargeDeclined"})
    except Problem as problem:
        print("declined:", problem.code)
    payment = buyer.create("/api/payments", {"orderId": order["id"], "paymentMethod": "pm_card_visa"})
    print("paid:", payment["status"])

    # The payment is not yet success: only a complete order counts.
    while order["status"] == "created":
        time.sleep(0.2)
        order, _ = buyer.call("GET", "/api/orders/" + order["id"])
    print("order:", order["status"])

    mine = [listing["id"] for listing in buyer.pages("/api/orders?limit=1")]
    assert mine == [order["id"]], mine
    return 0 if order["status"] == "complete" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"))
