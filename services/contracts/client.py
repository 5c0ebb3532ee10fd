"""A client of the box office in Python, with the standard library alone: it announces a show, sells a ticket of it to itself, and checks the
buyer in.

    python3 services/contracts/client.py http://localhost:8080

It is an example to copy from. What it does is what every client does: it calls with a token and a timeout, decides by the code of a
problem, repeats what was answered 429 or 503 with the same Idempotency-Key, and waits until the order is complete. It also finds
the show in the catalogue, and follows what happens to its tickets.
"""

import datetime
import json
import sys
import time
import urllib.error
import urllib.parse
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

    def live(self, after, *shows):
        """Yields what happens to shows and their tickets after a page with this Catalogue-Position: (event, data). After a break it goes on where it was."""
        last_id, query = None, urllib.parse.urlencode([("after", after)] + [("show", show) for show in shows])
        while True:
            request = urllib.request.Request(self.base_url + "/api/catalogue/live?" + query)
            if last_id:
                request.add_header("Last-Event-ID", last_id)
            try:
                with urllib.request.urlopen(request, timeout=40) as stream:  # something arrives every 15 seconds
                    event, data = None, None
                    for line in stream:
                        field, _, value = line.decode().rstrip("\r\n").partition(": ")
                        if field == "id":
                            last_id = value
                        elif field == "event":
                            event = value
                        elif field == "data":
                            data = value
                        elif not field and data is not None:
                            yield event, json.loads(data)
                            event, data = None, None
            except urllib.error.HTTPError as refusal:
                if refusal.code not in (429, 503):
                    raise
            except OSError:  # no connection, or silence
                pass
            time.sleep(2)


def sign_up(base_url, name):
    email = f"{name}-{uuid.uuid4()}@example.com"
    account = Client(base_url).create("/api/users/signup", {"email": email, "password": "correct horse"})
    return Client(base_url, account["token"])


def main(base_url):
    seller = sign_up(base_url, "seller")
    buyer = sign_up(base_url, "buyer")

    name = "Hamlet " + uuid.uuid4().hex[:8]
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    show = seller.create("/api/shows", {
        "name": name, "venue": "Globe", "city": "London", "country": "GB", "category": "theatre",
        "startsAt": tomorrow.isoformat(), "timeZone": "Europe/London", "maxMarkup": 20,
    })
    # A new show or ticket may not be known at once: 503 not_yet_known, which create() repeats.
    place = {"section": "Stalls", "row": "A", "number": "7"}
    ticket = seller.create("/api/tickets", {"showId": show["id"], "seat": place, "price": 4500})  # 45 dollars
    print("listed:", ticket["title"])

    # The catalogue is made from events: it has the ticket a moment later.
    search = "/api/catalogue/shows?" + urllib.parse.urlencode({"q": name, "city": "London", "available": "true"})
    found, _ = buyer.call("GET", search)
    while not found["shows"]:
        time.sleep(0.05)
        found, _ = buyer.call("GET", search)
    print("found:", found["shows"][0]["venue"], "with", found["shows"][0]["left"], "left, from", found["shows"][0]["priceFrom"])

    # The stream begins after the page: so nothing is missed.
    tickets, headers = buyer.call("GET", "/api/catalogue/shows/" + show["id"] + "/tickets")
    cheapest = tickets[0]
    live = buyer.live(headers["Catalogue-Position"], show["id"])
    assert next(live)[0] == "ready"

    order = buyer.create("/api/orders", {"ticketId": cheapest["id"]})
    print("reserved until:", order["expiresAt"])
    for event, data in live:
        if event == "listing" and data["change"] == "reserved":
            print("live:", data["change"], "with", data["left"], "left")
            break

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

    # The pass of a complete order lets its buyer in, once. A new key for each scan makes it safe to repeat.
    code = buyer.call("GET", "/api/orders/" + order["id"] + "/pass")[0]["code"]
    checked_in = seller.create("/api/shows/" + show["id"] + "/checkins", {"code": code})
    print("checked in:", checked_in["seat"]["number"])
    try:
        seller.create("/api/shows/" + show["id"] + "/checkins", {"code": code})
    except Problem as problem:
        print("refused:", problem.code)

    mine = [listing["id"] for listing in buyer.pages("/api/orders?limit=1")]
    assert mine == [order["id"]], mine
    return 0 if order["status"] == "complete" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"))
