// Generated from services/contracts/openapi.yaml by: npm run generate

export interface paths {
  "/api/users/signup": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Make an account and sign in
     * @description The account belongs to the email, which never changes. Also begins a session: the response sets the cookies `jwt` and `refresh`.
     *
     *     With an `Idempotency-Key`, the same key, email and (right) password within 24 hours begin another session of the same account and answer 201, with
     *     `Idempotent-Replayed: true` and a new token. No token is stored.
     */
    post: operations["signUp"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/users/signin": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Sign in
     * @description Begins a session: the response sets the cookies `jwt` and `refresh`. A wrong email and a wrong password have the same answer, also if the email has no account.
     *     After 20 wrong passwords for an email within five minutes, right ones are refused, too: 429 `too_many_attempts`.
     */
    post: operations["signIn"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/users/refresh": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Get a new token for the refresh cookie
     * @description Replaces the refresh token as well. Each works once. If one is used a second time, somebody may have copied it: the session ends, and its tokens are revoked. That also
     *     happens when two tabs refresh at the same moment, or when the answer was lost and the request is repeated. So let one tab refresh, and sign in again after a 401. A body is needed only for `cookieOnly`.
     */
    post: operations["refresh"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/users/signout": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Sign out on this device
     * @description Ends the session of the token or of the refresh cookie, and clears both cookies. The token itself stays valid until it expires. It succeeds also for
     *     a caller who is not signed in. The body is ignored.
     *     The cookies are cleared by every answer of this service, also if the session cannot be ended.
     */
    post: operations["signOut"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/users/signout-everywhere": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Sign out on all devices
     * @description Ends all sessions of the account and revokes all its tokens. Auth refuses them at once, and the other services within half a minute: 401 `token_revoked`. The body is ignored.
     */
    post: operations["signOutEverywhere"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/users/password": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Change the password
     * @description Ends all other sessions, revokes all earlier tokens, and begins a new session. A wrong old password counts as a failed sign-in.
     */
    post: operations["changePassword"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/users/currentuser": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * Who is signed in
     * @description A token that is not valid counts as none, so this never answers 401.
     */
    get: operations["getCurrentUser"];
    put?: never;
    post?: never;
    /**
     * Delete the account
     * @description Removes the email and the password, ends all sessions, withdraws the listings that are for sale, and cancels the shows of the caller that have not started: their buyers get the money back, usually within seconds. The email can sign up again, as another user. All other orders and payments stay, without the person.
     *     It is refused while an order of the caller is unpaid, or paid and not captured yet (`GET /api/orders/unsettled`). A wrong password counts as a failed sign-in.
     */
    delete: operations["deleteCurrentUser"];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/tickets": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * All listings, newest first
     * @description Withdrawn listings are not among them; reserved, sold and withheld ones are. With `seller=me` they are the caller's listings alone, which needs a sign-in and is not combined with `status`; with `showId`, too, they are those of one show, and a page may be empty although there is a next one. With `status=available` the catalogue answers: only what can be reserved now, with an `ETag` for `If-None-Match`. `version` of these is that of
     *     their sellers' last change, and may be lower than in `GET /api/tickets/{ticketId}`.
     */
    get: operations["listTickets"];
    put?: never;
    /**
     * List a ticket for sale
     * @description The caller is its seller. Other services learn of it by an event, usually within some milliseconds.
     *
     *     A ticket may name its show (`showId`) and its place (`seat`): then the caller must be the show's owner, the ticket is in the catalogue, and its sales end when the show starts. While the event of a new show is on its way, the answer is 503
     *     `not_yet_known`.
     *
     *     **To sell a ticket again** that the caller has bought: `resaleOf` is its id, and nothing but `price` is sent with it. The caller must have its pass, and the pass must not be used. Show, place, title, face value and the end of sales are those of the ticket. The show's
     *     price cap holds. The new ticket is bought as any other. When its order is complete, the caller's pass is void. While it is for sale, the caller may still use the pass, which withdraws the listing.
     */
    post: operations["createTicket"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/tickets/{ticketId}": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a ticket. */
        ticketId: components["parameters"]["TicketId"];
      };
      cookie?: never;
    };
    /** A listing */
    get: operations["getTicket"];
    /**
     * Change a listing
     * @description Replaces title and price, and the face value if it is sent; show and place stay. A `withheld` ticket is for sale again. To change only what you have read, send the listing's version, in `If-Match` or as `version`: if it
     *     has changed since, the answer is 409 `stale_version`. Without a version the last change wins. Of a ticket that is sold again (`resaleOf`) only the price changes: send nothing else but the version.
     */
    put: operations["updateTicket"];
    post?: never;
    /**
     * Withdraw a listing
     * @description With `If-Match`, only if it has not changed since it was read.
     */
    delete: operations["deleteTicket"];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/shows": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * All shows, newest first
     * @description Also cancelled ones and those that are over. With `owner=me` they are the caller's shows alone, which needs a sign-in. To find a show to go to, use the catalogue.
     */
    get: operations["listShows"];
    put?: never;
    /**
     * Announce a show
     * @description The caller is its owner, who alone may change it and list its tickets. The catalogue has it within a second.
     */
    post: operations["createShow"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/shows/{showId}": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    /**
     * A show
     * @description Also one that is cancelled or over.
     */
    get: operations["getShow"];
    /**
     * Change a show
     * @description Replaces all members of the body; the image stays. To change only what you have read, send the show's version, in `If-Match` or as `version`: if it has changed since, the
     *     answer is 409 `stale_version`. Without a version the last change wins.
     *
     *     If `startsAt` moves, the sales of the show's tickets end at the new time (`salesEndAt`), usually within a second. A new `maxMarkup` holds for tickets that are listed or changed from now on.
     */
    put: operations["updateShow"];
    post?: never;
    /**
     * Cancel a show
     * @description For ever. The show can still be read, with the status `cancelled`. All its listings are withdrawn, and all live orders of its tickets are cancelled (`withdrawn`): what was authorized is released, and what
     *     was paid is given back. That takes seconds, and minutes for many thousands of tickets. A repeated request answers 204, too.
     */
    delete: operations["cancelShow"];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/shows/{showId}/image": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    get?: never;
    /**
     * Set the image of a show
     * @description The body is the image: JPEG, PNG or WebP. It is scaled down to at most 1600 pixels on its longer side, and stored as JPEG without its metadata (as the place where a photograph was taken). 5 megapixels are always accepted, and 12 in most files. The address of an image
     *     never gets another image: each change has a new one, `image.url` of the show.
     */
    put: operations["putShowImage"];
    post?: never;
    /**
     * Remove the image of a show
     * @description Answers 204 also if it has none.
     */
    delete: operations["deleteShowImage"];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/shows/{showId}/images/{imageId}": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
        /** @description The id of an image. */
        imageId: components["parameters"]["ImageId"];
      };
      cookie?: never;
    };
    /**
     * An image of a show
     * @description What `image.url` of a show names. It never changes, so it may be kept for a year.
     */
    get: operations["getShowImage"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/shows/{showId}/checkins": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Check in the holder of a pass
     * @description Uses a pass of the show, whose owner the caller is. Exactly one request with a code is 200, also among requests at the same moment and of several people at the doors; all others are 409 `already_used`, with the time of the first. Let in who has the 200.
     *
     *     Send an `Idempotency-Key`, a new one for each scan: if the answer is lost, the repeated request then gets 200, too, and not `already_used`. A pass that is for sale again is used all the same: its listing is withdrawn, and an unpaid
     *     order of it is cancelled (`withdrawn`). A pass can be used at any time, also before the show starts.
     */
    post: operations["checkIn"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/catalogue/shows": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * What is on
     * @description Shows that are not cancelled and have not started, also those that are sold out (`left` is 0). Each has how many tickets are left, and from which price.
     *
     *     `q` searches the name, the venue, the city, the category and the description. All its words must occur; the last one may be the beginning of a word, and a typing error is forgiven. `total` counts all matches, and `facets` counts
     *     them by city, category and country. A facet does not apply its own filter: with `city=Berlin`, `facets.cities` still has the other cities, so that a page can offer them. An empty parameter is the same as none.
     */
    get: operations["searchShows"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/catalogue/shows/{showId}": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    /**
     * A show, and what is left
     * @description A show that is cancelled or has started is 404 `not_found` here; `GET /api/shows/{showId}` has it.
     */
    get: operations["getCatalogueShow"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/catalogue/shows/{showId}/tickets": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    /**
     * The available tickets of a show, cheapest first
     * @description `version` of these tickets is that of their sellers' last change, and may be lower than in `GET /api/tickets/{ticketId}`.
     */
    get: operations["listTicketsOfShow"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/catalogue/live": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * What happens to shows and their tickets, as it happens
     * @description A stream of server-sent events (`text/event-stream`; in a browser, `EventSource`). A change is sent within a tenth of a second, usually.
     *
     *     - **Begin**: read the pages of the catalogue, then open the stream with `after`: the `Catalogue-Position` of each page. All that changes after those pages arrives, whatever replica answered which request.
     *     - **Events**: `ready` (first), `listing` (a ticket), `show` (a show) and `reset`. The data of each is one JSON object (`LiveReady`, `LiveListing`, `LiveShow`, `LiveReset`). An event may arrive twice, and the pages may already have
     *       it: take its values as they are, do not add or subtract. Ignore events with names that you do not know.
     *     - **Go on after a break**: connect again and send the last `id:` that you got as `Last-Event-ID`, which `EventSource` does by itself, after `retry:` milliseconds. You get all that you missed, then what happens. Any replica of the service can
     *       answer.
     *     - **Reset**: if what you missed is not kept any more, `reset` follows `ready`. It may also come later. End this stream, and begin again with the pages.
     *     - **Heartbeat**: a comment line (`:`) with a new `id:` every 15 s. If nothing arrives for 30 s, connect again.
     *     - **Start of a show**: nothing is sent when a show starts, because each client knows `startsAt`: from then on none of its tickets can be bought.
     *     - **End**: the stream ends when the service stops, or when the client reads too slowly (for 10 s, or too many events behind). Connect again.
     *     - **Limits**: the system and an address have a limited number of streams (`MAX_STREAMS`, `STREAMS_PER_ADDRESS`): 503 `too_many_streams`, with `Retry-After`.
     */
    get: operations["watchShows"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/orders": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The caller's orders, newest first */
    get: operations["listOrders"];
    put?: never;
    /**
     * Reserve a ticket
     * @description The caller has the ticket until the order's `expiresAt`, 15 minutes later, and must have paid by then. The order's price is that of this moment, whatever becomes of the listing.
     *     A ticket with a show can be reserved until the show starts (`salesEndAt`); who has reserved it by then may still pay.
     *
     *     While the event of a new listing is on its way, the service waits up to 5 s for it. If it does not arrive, the answer is 503 `not_yet_known` for a ticket whose id is at most a minute old, and
     *     otherwise 404 `ticket_not_found`.
     */
    post: operations["createOrder"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/orders/unsettled": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * How many of the caller's orders are not settled
     * @description An account with unsettled orders cannot be deleted.
     */
    get: operations["countUnsettledOrders"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/orders/sales": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * What the caller has sold, newest first
     * @description One entry for each complete order of a ticket that the caller listed, with what the buyer paid. If it was cancelled afterwards, the money was given back: `status` is `cancelled`. What was earned is the sum of `price` of those that are
     *     `complete`. Nothing in it is about the buyer.
     *
     *     As CSV (`format=csv`, or `Accept: text/csv`) it has all sales, and `limit` and `cursor` are ignored: UTF-8, lines that end with CR LF, and a header row: `orderId,ticketId,showId,title,section,row,number,amount,currency,status,reason,soldAt,cancelledAt`. `amount` is the price in the currency's major unit, with a point: `12.00`. Later versions may add columns behind these. A cell that begins with `=`, `+`, `-`, `@` or a tab
     *     has `'` before it, so that spreadsheets do not evaluate it; so has such a text behind a semicolon, at which some spreadsheets begin a cell.
     */
    get: operations["listSales"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/orders/{orderId}": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an order. */
        orderId: components["parameters"]["OrderId"];
      };
      cookie?: never;
    };
    /**
     * An order of the caller
     * @description Only the buyer can read an order, not the seller.
     */
    get: operations["getOrder"];
    put?: never;
    post?: never;
    /**
     * Cancel an order
     * @description Frees the ticket. Money that was authorized meanwhile is released. A cancelled order stays readable; to cancel it again changes nothing and answers 204. A complete order cannot be cancelled. The caller may
     *     reserve the same ticket again after a cooldown, which is in proportion to the time for which the order had it.
     */
    delete: operations["cancelOrder"];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/orders/{orderId}/pass": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an order. */
        orderId: components["parameters"]["OrderId"];
      };
      cookie?: never;
    };
    /**
     * The pass of an order of the caller
     * @description What lets the buyer into the show. There is one for each complete order of a ticket with a show, until the order is cancelled or its ticket was sold again. The `code` stays the same. A key that signs codes may be replaced: then the same claims may be signed anew, and
     *     older codes stay valid.
     *
     *     The form of the answer is that of `format`, or else of `Accept`: JSON; a picture (`image/svg+xml`) of the code as a QR code, with its quiet zone; or, for `text/html`, 303 to the page for printing.
     */
    get: operations["getPass"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/payments": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * The payment of an order
     * @description Finds the payment of an order of the caller, for example after an answer to `POST /api/payments` was lost.
     */
    get: operations["listPayments"];
    put?: never;
    /**
     * Pay an order
     * @description Authorizes the order's price on the buyer's card. The card itself goes from the browser to Stripe, and never comes here: send the id that Stripe's frontend gives for it.
     *     **201 `authorized` is not yet success**: read the order until it is `complete` (the money is then captured), or `cancelled` (then nothing is charged).
     *
     *     If the bank wants to authenticate the buyer, the payment is `requires_action`. A page that sends a `returnUrl` gets a `redirectUrl` then: send the browser there. When the buyer is done, it comes to `returnUrl`; read the payment and the order, as after any payment. Without a
     *     `returnUrl`, use Stripe's frontend with `clientSecret`.
     *
     *     An order has one payment and is charged once at most, also without an `Idempotency-Key`: the same request again answers with the payment that there is. After a decline, send another card.
     *     Five declined cards of an order, or ten of a user within an hour, end that.
     *
     *     While the event of a new order is on its way, the service waits up to 5 s for it. If it does not arrive, the answer is 503 `not_yet_known` for an order whose id is at most a minute old, and
     *     otherwise 404 `order_not_found`.
     */
    post: operations["createPayment"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/payments/{paymentId}": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a payment. */
        paymentId: components["parameters"]["PaymentId"];
      };
      cookie?: never;
    };
    /**
     * A payment of the caller
     * @description While it is `pending`, `requires_action` or `failed`, Stripe is asked for its state, at most every three seconds. Only the buyer can read it.
     */
    get: operations["getPayment"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/payments/webhook": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Report to payments that something has happened at Stripe
     * @description For Stripe alone, which signs its requests. The event is a hint, and Stripe is asked. After an answer other than 2xx Stripe sends it again.
     */
    post: operations["receiveStripeEvent"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/webhooks": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The caller's endpoints */
    get: operations["listWebhooks"];
    put?: never;
    /**
     * Add an endpoint
     * @description From now on the endpoint is called for these events. The answer has its `secret`, which no other answer has except that of a rotation: store it, and verify each call with it. An account has at most five endpoints.
     */
    post: operations["createWebhook"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/webhooks/{webhookId}": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    /** An endpoint of the caller */
    get: operations["getWebhook"];
    /**
     * Change an endpoint
     * @description Replaces url, events and description. `status` switches the endpoint off or on; without it, it stays as it is. What happens while it is disabled is not delivered later, and deliveries that were pending fail when they are due. Versions work as for tickets.
     */
    put: operations["updateWebhook"];
    post?: never;
    /**
     * Remove an endpoint
     * @description Its deliveries end, too, also those that would be repeated.
     */
    delete: operations["deleteWebhook"];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/webhooks/{webhookId}/rotate-secret": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Replace an endpoint's secret
     * @description For 24 hours each call is signed with the old secret and with the new one, so that you can replace it without losing a call. After several rotations each old secret signs until its own 24 hours have ended; the newest five sign. Repeat a rotation whose answer is lost with the same `Idempotency-Key`: its answer has the same secret. The body is ignored.
     */
    post: operations["rotateWebhookSecret"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/webhooks/{webhookId}/test": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Send a test message
     * @description Calls the endpoint with a message of the type `webhook.test`. Read the delivery for the outcome. The body is ignored.
     */
    post: operations["testWebhook"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/webhooks/{webhookId}/deliveries": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    /**
     * What was sent to an endpoint, newest first
     * @description Of the last 30 days.
     */
    get: operations["listDeliveries"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/webhooks/{webhookId}/deliveries/{deliveryId}/redeliver": {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
        /** @description The id of a delivery. */
        deliveryId: components["parameters"]["DeliveryId"];
      };
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * Send a delivery once more
     * @description Also one that was delivered or has failed. It has the same `webhook-id`. The body is ignored.
     */
    post: operations["redeliver"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/healthz": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * The process runs
     * @description Of the gateway. It has no rate limit.
     */
    get: operations["getHealth"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/readyz": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * All that is needed is there
     * @description Of the gateway, which asks all services. The answer is at most a second old. It has no rate limit.
     */
    get: operations["getReadiness"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/.well-known/jwks.json": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * The public keys that verify tokens
     * @description A JSON Web Key Set (RFC 7517). Tokens are JWTs signed with `EdDSA` (Ed25519). `kid` is the key's RFC 7638 thumbprint. While a key is replaced there are two. A verifier that finds an
     *     unknown `kid` reads this again. Revocations are not here: only the services know them.
     */
    get: operations["getKeys"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/.well-known/passes/jwks.json": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * The public keys that verify the codes of passes
     * @description A JSON Web Key Set (RFC 7517), for those who check passes without a network: store it before, and verify with it. `kid` is the key's RFC 7638 thumbprint. A key that was replaced stays here as long as passes that it has signed may be valid. These keys sign
     *     nothing else: tokens are verified with `/.well-known/jwks.json`, and never with these.
     */
    get: operations["getPassKeys"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/openapi.json": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** This document */
    get: operations["getOpenAPI"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/asyncapi.json": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The events, as an AsyncAPI document */
    get: operations["getAsyncAPI"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/schemas/{type}/{version}": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /**
     * The JSON Schema of an event's data
     * @description What an event's `dataschema` names. Schemas of earlier versions stay here.
     */
    get: operations["getSchema"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/docs": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A page to read and try this API */
    get: operations["getDocs"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/docs/events": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A page to read about the events */
    get: operations["getEventDocs"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  "/api/docs/{asset}": {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A file of the page */
    get: operations["getDocsAsset"];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
}
export interface webhooks {
  message: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /**
     * What your endpoint gets
     * @description A signed message ([Standard Webhooks](https://www.standardwebhooks.com)): verify it with one of the published libraries and the endpoint's secret, before you parse it. Answer with any 2xx within
     *     15 seconds, and do the work afterwards.
     *
     *     - **At least once.** A message may arrive again, also after you have answered. `webhook-id` is the same then: drop what you have handled.
     *     - **Up to eight at once**, and one while the endpoint fails.
     *     - **In any order.** Compare `version` (of the ticket or order) with what you have, and ignore what is older.
     *     - **Retries.** Another answer, a redirect, a timeout or no connection is a failure. The message is sent again after 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 3 h, and then
     *       every 6 h, for three days; each pause is up to a fifth longer, at random. An endpoint that has failed for five days, without a success, is disabled at the next failure (`disabledReason: failing`, see `failingSince`). 410 disables nothing; delete the endpoint instead.
     *     - A seller gets the events of the tickets that they list and of orders for them; a buyer those of their own orders. The buyer's id is not in what a seller gets.
     */
    post: operations["receiveMessage"];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
}
export interface components {
  schemas: {
    /**
     * Format: date-time
     * @description RFC 3339 in UTC, always with three digits of a second.
     * @example 2026-11-27T02:20:46.617Z
     */
    Time: string;
    /**
     * Format: uuid
     * @description The id of a user.
     * @example 01a21ace-0ea5-7770-bd65-f4096726e83e
     */
    UserId: string;
    /**
     * Format: uuid
     * @description The id of a show.
     * @example 01a21acd-7d21-7c08-9a55-2f0d54b1c3a7
     */
    ShowId: string;
    /**
     * @description The id of an image.
     * @example 01a21acd-9b0e-7f64-8f0a-6c1e2d3b4a59
     */
    ImageId: string;
    /**
     * Format: uuid
     * @description The id of a ticket.
     * @example 01a21ace-0f05-7a31-aac0-0056afb1fd3d
     */
    TicketId: string;
    /**
     * Format: uuid
     * @description The id of an order.
     * @example 01a21ace-2299-758c-a1fb-9853670f37a8
     */
    OrderId: string;
    /**
     * Format: uuid
     * @description The id of a payment. It is usually the order's; do not rely on that.
     * @example 01a21ace-2299-758c-a1fb-9853670f37a8
     */
    PaymentId: string;
    /**
     * Format: uuid
     * @description The id of an endpoint.
     * @example 01a21ad1-7aa5-7dec-9d4d-e562f4fb4214
     */
    WebhookId: string;
    /**
     * @description The id of a delivery; its messages have it in the header `webhook-id`.
     * @example msg_pYgGCD5CKznysQx3WFWoL1RzfSv
     */
    DeliveryId: string;
    /**
     * @description An ISO 4217 code in lower case. All prices of a system have the same.
     * @example usd
     */
    Currency: string;
    /** @description Grows with each change. */
    Version: number;
    /** @description An object without members. */
    Empty: Record<string, never>;
    /**
     * @example {
     *       "id": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *       "email": "ada@example.com",
     *       "createdAt": "2026-11-27T02:20:41.509Z"
     *     }
     */
    User: {
      id: components["schemas"]["UserId"];
      /**
       * Format: email
       * @description In lower case.
       */
      email: string;
      createdAt: components["schemas"]["Time"];
    };
    /**
     * @example {
     *       "currentUser": {
     *         "id": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *         "email": "ada@example.com",
     *         "createdAt": "2026-11-27T02:20:41.509Z"
     *       }
     *     }
     */
    CurrentUser: {
      /** @description `null` without a valid token. */
      currentUser: components["schemas"]["User"] | null;
    };
    /**
     * @example {
     *       "user": {
     *         "id": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *         "email": "ada@example.com",
     *         "createdAt": "2026-11-27T02:20:41.509Z"
     *       },
     *       "token": "eyJhbGciOiJFZERTQSIsImtpZCI6IlBxaTdTU29tNXRJQy1kZjByOGJjUS16cEI4bTI3YlBCbzBWYlhLSVIzYVEiLCJ0eXAiOiJKV1QifQ.eyJlbWFpbCI6ImFkYUBleGFtcGxlLmNvbSIsInNpZCI6IjI3OTg2NGMyLTZmNjYtNGFjNC04OTMyLTBiYmNlY2U3ODFkNCIsImlzcyI6ImJveG9mZmljZS9hdXRoIiwic3ViIjoiMDFhMjFhY2UtMGVhNS03NzcwLWJkNjUtZjQwOTY3MjZlODNlIiwiZXhwIjoxNzk1NzQ5NjQxLCJpYXQiOjE3OTU3NDYwNDF9.LvWWAula7YLZLkB0X_2ATlegI4s8TniuDBAurn16C-3i8npZUuCHejViKRNJrWyTgBIDJG6dEMvpQOGlx3eeAQ"
     *     }
     * @example {
     *       "user": {
     *         "id": "01a21c42-1558-7a37-93fc-1460564ab8e9",
     *         "email": "ada@example.com",
     *         "createdAt": "2026-11-27T09:07:02.616Z"
     *       }
     *     }
     */
    SignedIn: {
      user: components["schemas"]["User"];
      /** @description A JWT, valid for an hour. Its claim `exp` has the end. Send it as `Authorization: Bearer`. Absent if the request has `cookieOnly`, and only then. */
      token?: string;
    };
    NewAccount: {
      /**
       * @description Spaces around it are removed, and it is put into lower case. Its domain has at least two parts.
       * @example ada@example.com
       */
      email: string;
      /**
       * Format: password
       * @description 8 to 72 bytes in UTF-8: letters beyond a to z may take several. Each character counts, also spaces.
       */
      password: string;
      cookieOnly?: components["schemas"]["CookieOnly"];
    };
    Credentials: {
      email: string;
      /** Format: password */
      password: string;
      cookieOnly?: components["schemas"]["CookieOnly"];
    };
    PasswordChange: {
      /** Format: password */
      oldPassword: string;
      /**
       * Format: password
       * @description As for a new account.
       */
      newPassword: string;
      cookieOnly?: components["schemas"]["CookieOnly"];
    };
    SessionRefresh: {
      cookieOnly?: components["schemas"]["CookieOnly"];
    };
    /**
     * @description For pages in a browser: the answer has no `token`, which is then in the cookie `jwt` alone, where no script can read it.
     * @default false
     */
    CookieOnly: boolean;
    Confirmation: {
      /**
       * Format: password
       * @description The account's password.
       */
      password: string;
    };
    /**
     * @description A country: two capital letters of ISO 3166-1.
     * @example DE
     * @example US
     * @example FR
     */
    Country: string;
    /** @enum {string} */
    Category: "music" | "theatre" | "comedy" | "dance" | "sport" | "family" | "festival" | "other";
    /**
     * @description RFC 3339, or a date.
     * @example 2026-12-24
     * @example 2026-12-24T18:00:00Z
     */
    TimeOrDate: string;
    /**
     * Format: binary
     * @description The bytes of an image.
     */
    ImageFile: string;
    ShowImage: {
      /** @description The path of the image. */
      url: string;
      /** @description In pixels. */
      width: number;
      /** @description In pixels. */
      height: number;
    };
    /**
     * @description `scheduled`: it takes place, or has taken place. `cancelled`: its owner cancelled it, or deleted the account before it started, for ever.
     * @enum {string}
     */
    ShowStatus: "scheduled" | "cancelled";
    /**
     * @example {
     *       "name": "Hamlet",
     *       "venue": "Schaubühne",
     *       "city": "Berlin",
     *       "country": "DE",
     *       "startsAt": "2027-12-24T18:30:00.000Z",
     *       "timeZone": "Europe/Berlin",
     *       "category": "theatre",
     *       "description": "In German, with English surtitles.",
     *       "maxMarkup": 20
     *     }
     */
    NewShow: {
      /** @description Up to 200 characters, not only spaces, without control characters, line ends, and characters that change the direction of text. */
      name: string;
      /** @description The same rules. */
      venue: string;
      /** @description The same rules. */
      city: string;
      country: components["schemas"]["Country"];
      /**
       * Format: date-time
       * @description RFC 3339, in any time zone. It is in the future, by three years at most. Tickets can be reserved until then.
       * @example 2027-12-24T19:30:00+01:00
       */
      startsAt: string;
      /**
       * @description The time zone of the place, a name of the IANA database.
       * @example Europe/Berlin
       * @example America/New_York
       */
      timeZone: string;
      category: components["schemas"]["Category"];
      /** @description Up to 2000 characters, without control characters except line ends. */
      description?: string;
      /** @description How many percent above its face value a ticket may cost. Without it, any price is allowed. */
      maxMarkup?: number;
    };
    ShowChange: components["schemas"]["NewShow"] & {
      /** @description The version that you have read. Send it here or in `If-Match`; if both, they must be the same. */
      version?: number;
    };
    /**
     * @example {
     *       "id": "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7",
     *       "name": "Hamlet",
     *       "venue": "Schaubühne",
     *       "city": "Berlin",
     *       "country": "DE",
     *       "startsAt": "2026-12-24T18:30:00.000Z",
     *       "timeZone": "Europe/Berlin",
     *       "category": "theatre",
     *       "description": "In German, with English surtitles.",
     *       "maxMarkup": 20,
     *       "image": {
     *         "url": "/api/shows/01a21acd-7d21-7c08-9a55-2f0d54b1c3a7/images/01a21acd-9b0e-7f64-8f0a-6c1e2d3b4a59",
     *         "width": 1600,
     *         "height": 900
     *       },
     *       "status": "scheduled",
     *       "userId": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *       "version": 2,
     *       "createdAt": "2026-11-27T02:20:04.257Z",
     *       "updatedAt": "2026-11-27T02:20:11.918Z"
     *     }
     */
    Show: {
      id: components["schemas"]["ShowId"];
      name: string;
      venue: string;
      city: string;
      country: components["schemas"]["Country"];
      startsAt: components["schemas"]["Time"];
      /** @description The time zone of the place, a name of the IANA database. Show `startsAt` in it. */
      timeZone: string;
      category: components["schemas"]["Category"];
      /** @description Absent if there is none. */
      description?: string;
      /** @description How many percent above its face value a ticket may cost. Absent if any price is allowed. */
      maxMarkup?: number;
      /** @description Absent if there is none. */
      image?: components["schemas"]["ShowImage"];
      status: components["schemas"]["ShowStatus"];
      /** @description The owner. */
      userId: components["schemas"]["UserId"];
      /** @description Grows with each change. The same as `ETag`. */
      version: components["schemas"]["Version"];
      createdAt: components["schemas"]["Time"];
      updatedAt: components["schemas"]["Time"];
    };
    Left: {
      /** @description How many tickets can be reserved now. It is too low, also 0, while an operator builds the catalogue again. */
      left: number;
      /** @description The lowest price among them, in the currency's minor unit. Absent if none is left. */
      priceFrom?: number;
      /** @description The currency of `priceFrom`. Absent if none is left. */
      currency?: components["schemas"]["Currency"];
    };
    /**
     * @description A show, and what is left.
     * @example {
     *       "id": "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7",
     *       "name": "Hamlet",
     *       "venue": "Schaubühne",
     *       "city": "Berlin",
     *       "country": "DE",
     *       "startsAt": "2026-12-24T18:30:00.000Z",
     *       "timeZone": "Europe/Berlin",
     *       "category": "theatre",
     *       "description": "In German, with English surtitles.",
     *       "maxMarkup": 20,
     *       "image": {
     *         "url": "/api/shows/01a21acd-7d21-7c08-9a55-2f0d54b1c3a7/images/01a21acd-9b0e-7f64-8f0a-6c1e2d3b4a59",
     *         "width": 1600,
     *         "height": 900
     *       },
     *       "status": "scheduled",
     *       "userId": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *       "version": 2,
     *       "createdAt": "2026-11-27T02:20:04.257Z",
     *       "updatedAt": "2026-11-27T02:20:11.918Z",
     *       "left": 120,
     *       "priceFrom": 2500,
     *       "currency": "usd"
     *     }
     */
    CatalogueShow: components["schemas"]["Show"] & components["schemas"]["Left"];
    CatalogueShowWithSections: components["schemas"]["CatalogueShow"] & {
      /** @description The sections with a ticket left, by name. */
      sections: components["schemas"]["SectionLeft"][];
    };
    /**
     * @example {
     *       "section": "Stalls",
     *       "left": 80,
     *       "priceFrom": 4500
     *     }
     */
    SectionLeft: {
      /** @description Empty for tickets without a section. */
      section: string;
      left: number;
      /** @description The lowest price, in the currency's minor unit. */
      priceFrom: number;
    };
    FacetValue: {
      value: string;
      /** @description How many shows have it. */
      count: number;
    };
    /** @description How many shows match by city, category and country: the 50 most frequent, the most frequent first. */
    Facets: {
      cities: components["schemas"]["FacetValue"][];
      categories: components["schemas"]["FacetValue"][];
      countries: components["schemas"]["FacetValue"][];
    };
    /**
     * @example {
     *       "shows": [
     *         {
     *           "id": "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7",
     *           "name": "Hamlet",
     *           "venue": "Schaubühne",
     *           "city": "Berlin",
     *           "country": "DE",
     *           "startsAt": "2026-12-24T18:30:00.000Z",
     *           "timeZone": "Europe/Berlin",
     *           "category": "theatre",
     *           "description": "In German, with English surtitles.",
     *           "maxMarkup": 20,
     *           "image": {
     *             "url": "/api/shows/01a21acd-7d21-7c08-9a55-2f0d54b1c3a7/images/01a21acd-9b0e-7f64-8f0a-6c1e2d3b4a59",
     *             "width": 1600,
     *             "height": 900
     *           },
     *           "status": "scheduled",
     *           "userId": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *           "version": 2,
     *           "createdAt": "2026-11-27T02:20:04.257Z",
     *           "updatedAt": "2026-11-27T02:20:11.918Z",
     *           "left": 120,
     *           "priceFrom": 2500,
     *           "currency": "usd"
     *         }
     *       ],
     *       "total": 1,
     *       "facets": {
     *         "cities": [
     *           {
     *             "value": "Berlin",
     *             "count": 1
     *           }
     *         ],
     *         "categories": [
     *           {
     *             "value": "theatre",
     *             "count": 1
     *           }
     *         ],
     *         "countries": [
     *           {
     *             "value": "DE",
     *             "count": 1
     *           }
     *         ]
     *       }
     *     }
     */
    CataloguePage: {
      shows: components["schemas"]["CatalogueShow"][];
      /** @description How many shows match, on all pages. */
      total: number;
      facets: components["schemas"]["Facets"];
    };
    /**
     * @description Server-sent events: blocks of `id:`, `event:` and `data:` with an empty line after each.
     * @example retry: 2000
     *     id: 7f3c91e2-1803-0
     *     event: ready
     *     data: {}
     *
     *     id: 7f3c91e2-1804-3
     *     event: listing
     *     data: {"change":"reserved","showId":"01a21acd-7d21-7c08-9a55-2f0d54b1c3a7","ticketId":"01a21ace-0f05-7a31-aac0-0056afb1fd3d","price":4500,"currency":"usd","left":119,"priceFrom":2500}
     *
     *     : heartbeat
     *     id: 7f3c91e2-1809-0
     */
    EventStream: string;
    /** @description The data of `ready`: the stream has begun, and what happens from now on arrives. */
    LiveReady: Record<string, never>;
    /** @description The data of `reset`: some changes are missing. End the stream, and begin again with the pages of the catalogue. */
    LiveReset: Record<string, never>;
    /**
     * @description - `new`: it is for sale.
     *     - `changed`: its seller changed it.
     *     - `reserved`: somebody has reserved it.
     *     - `free`: it is for sale again.
     *     - `sold`: it is paid.
     *     - `withdrawn`: it is not for sale any more.
     * @enum {string}
     */
    ListingChange: "new" | "changed" | "reserved" | "free" | "sold" | "withdrawn";
    /**
     * @description The data of `listing`, a change of a ticket.
     * @example {
     *       "change": "reserved",
     *       "showId": "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7",
     *       "ticketId": "01a21ace-0f05-7a31-aac0-0056afb1fd3d",
     *       "price": 4500,
     *       "currency": "usd",
     *       "seat": {
     *         "section": "Stalls",
     *         "row": "C",
     *         "number": "12"
     *       },
     *       "left": 119,
     *       "priceFrom": 2500
     *     }
     */
    LiveListing: {
      change: components["schemas"]["ListingChange"];
      showId: components["schemas"]["ShowId"];
      ticketId: components["schemas"]["TicketId"];
      /** @description In the currency's minor unit. */
      price: number;
      currency: components["schemas"]["Currency"];
      /** @description Absent if the ticket has none. */
      seat?: components["schemas"]["Place"];
      /** @description How many tickets of the show can be reserved after this change. */
      left: number;
      /** @description The lowest price among them. Absent if none is left. */
      priceFrom?: number;
    };
    /**
     * @description The data of `show`, a change of a show. Read the show.
     * @example {
     *       "change": "updated",
     *       "showId": "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7"
     *     }
     */
    LiveShow: {
      /** @enum {string} */
      change: "updated" | "cancelled";
      showId: components["schemas"]["ShowId"];
    };
    /**
     * @description Where the holder of a ticket sits or stands. A place with a `number` is listed once in its show, whatever the case of its letters; without a number, as for standing room, any number of tickets may have it.
     * @example {
     *       "section": "Stalls",
     *       "row": "C",
     *       "number": "12"
     *     }
     */
    Place: {
      /**
       * @description As `Stalls` or `Balcony`. Without control characters, and not only spaces; an empty one is the same as none. So are the others.
       * @example Stalls
       */
      section?: string;
      /** @example C */
      row?: string;
      /** @example 12 */
      number?: string;
    };
    /**
     * @description - `available`: it can be reserved.
     *     - `reserved`: an order has it that is not paid yet. It may become available again.
     *     - `sold`: a complete order has it. It stays so if that order is refunded after its pass was used, or after its buyer sold the ticket again.
     *     - `withheld`: its sale was refunded. It is for sale again when its seller changes the listing (`PUT`).
     *
     *     Events bring this status, so it may be late by some milliseconds: whether a ticket can be reserved is decided by `POST /api/orders`.
     * @enum {string}
     */
    TicketStatus: "available" | "reserved" | "sold" | "withheld";
    /**
     * @example {
     *       "id": "01a21ace-0f05-7a31-aac0-0056afb1fd3d",
     *       "title": "Front row",
     *       "price": 4500,
     *       "currency": "usd",
     *       "userId": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *       "status": "available",
     *       "version": 1,
     *       "createdAt": "2026-11-27T02:20:41.605Z",
     *       "updatedAt": "2026-11-27T02:20:41.605Z"
     *     }
     * @example {
     *       "id": "01a21ace-0f05-7a31-aac0-0056afb1fd3d",
     *       "title": "Front row",
     *       "price": 4500,
     *       "currency": "usd",
     *       "userId": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *       "status": "sold",
     *       "orderId": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "version": 3,
     *       "createdAt": "2026-11-27T02:20:41.605Z",
     *       "updatedAt": "2026-11-27T02:20:47.669Z"
     *     }
     * @example {
     *       "id": "01a21ace-0f05-7a31-aac0-0056afb1fd3d",
     *       "title": "Hamlet",
     *       "price": 4500,
     *       "currency": "usd",
     *       "userId": "01a21ace-0ea5-7770-bd65-f4096726e83e",
     *       "status": "available",
     *       "showId": "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7",
     *       "seat": {
     *         "section": "Stalls",
     *         "row": "C",
     *         "number": "12"
     *       },
     *       "faceValue": 4500,
     *       "salesEndAt": "2026-12-24T18:30:00.000Z",
     *       "version": 1,
     *       "createdAt": "2026-11-27T02:20:41.605Z",
     *       "updatedAt": "2026-11-27T02:20:41.605Z"
     *     }
     * @example {
     *       "id": "01a21c42-15d5-712a-97fd-f5084f47a660",
     *       "title": "Hamlet",
     *       "price": 5000,
     *       "currency": "usd",
     *       "userId": "01a21c42-157e-748e-8848-59ba358e3202",
     *       "status": "available",
     *       "showId": "01a21c42-1588-753e-a3c6-4844a01f705c",
     *       "seat": {
     *         "section": "Stalls",
     *         "row": "C",
     *         "number": "12"
     *       },
     *       "faceValue": 4500,
     *       "salesEndAt": "2026-12-27T09:07:02.663Z",
     *       "resaleOf": "01a21c42-1595-7bc4-a660-98db5f12a5d5",
     *       "version": 1,
     *       "createdAt": "2026-11-27T09:07:02.741Z",
     *       "updatedAt": "2026-11-27T09:07:02.741Z"
     *     }
     */
    Ticket: {
      id: components["schemas"]["TicketId"];
      title: string;
      /** @description In the currency's minor unit. */
      price: number;
      currency: components["schemas"]["Currency"];
      /** @description The seller. */
      userId: components["schemas"]["UserId"];
      status: components["schemas"]["TicketStatus"];
      /** @description The order that has the ticket. It is there if the status is `reserved` or `sold`, and means only that: nobody but the buyer can read the order. */
      orderId?: components["schemas"]["OrderId"];
      /** @description The show. Absent if the ticket names none. */
      showId?: components["schemas"]["ShowId"];
      /** @description Absent if the ticket names none. */
      seat?: components["schemas"]["Place"];
      /** @description The ticket that its buyer sells again with this one. Absent if this is the first sale. */
      resaleOf?: components["schemas"]["TicketId"];
      /** @description What the ticket cost at first, in the currency's minor unit. It is there if the ticket has a show. */
      faceValue?: number;
      /** @description When the show starts: from then on the ticket cannot be reserved. It is there if the ticket has a show. */
      salesEndAt?: components["schemas"]["Time"];
      /** @description Grows with each change, also when the ticket is reserved or sold. The same as `ETag`. */
      version: components["schemas"]["Version"];
      createdAt: components["schemas"]["Time"];
      updatedAt: components["schemas"]["Time"];
    };
    NewTicket: {
      /**
       * @description Up to 200 characters, not only spaces, without control characters, line ends, and characters that change the direction of text. With `showId` it may be absent or empty: then it is the name of the show.
       * @example Front row
       */
      title?: string;
      /** @description In the currency's minor unit. The lower bound is a setting of the system (`MIN_PRICE`). */
      price: number;
      /** @description The ticket that the caller has bought and sells again. With it, only `price` is sent. It never changes. */
      resaleOf?: components["schemas"]["TicketId"];
      /** @description The show that the ticket is for. Only its owner may list its tickets. It never changes. */
      showId?: components["schemas"]["ShowId"];
      /** @description Only with `showId`. It never changes. */
      seat?: components["schemas"]["Place"];
      /** @description Only with `showId`: what the ticket cost at first, in the currency's minor unit. Absent: the price. If the show has a `maxMarkup`, the price is at most so many percent higher. */
      faceValue?: number;
    } & (
      | {
          showId: unknown;
        }
      | {
          title: unknown;
        }
      | {
          resaleOf: unknown;
        }
    );
    TicketChange: {
      /** @description As for a new ticket. It may be absent or empty only if the ticket has a show: then it stays. Not of a ticket that is sold again (`resaleOf`). */
      title?: string;
      /** @description As for a new ticket. */
      price: number;
      /** @description Only if the ticket has a show, and is not sold again (`resaleOf`). Absent: it stays. */
      faceValue?: number;
      /** @description The version that you have read. Send it here or in `If-Match`; if both, they must be the same. */
      version?: number;
    };
    /**
     * @description - `created`: the ticket is reserved until `expiresAt`, and to be paid.
     *     - `complete`: it is paid, and the ticket is the buyer's.
     *     - `cancelled`: it has ended; `reason` is why. Nothing is charged, or all was given back. It does not change any more.
     * @enum {string}
     */
    OrderStatus: "created" | "complete" | "cancelled";
    /**
     * @description - `user`: its buyer cancelled it.
     *     - `expired`: it was not paid by `expiresAt`.
     *     - `withdrawn`: the seller withdrew the listing, or the show was cancelled. If it was paid, all of the money is given back.
     *     - `payment`: the authorization was lost, or too many cards were declined.
     *     - `refunded`: all of the money was given back.
     * @enum {string}
     */
    CancelReason: "user" | "expired" | "withdrawn" | "payment" | "refunded";
    /** @description The ticket as it was when it was reserved. The buyer pays this price. */
    OrderedTicket: {
      id: components["schemas"]["TicketId"];
      title: string;
      /** @description In the currency's minor unit. */
      price: number;
      currency: components["schemas"]["Currency"];
      /** @description Absent if the ticket names none. */
      showId?: components["schemas"]["ShowId"];
      /** @description Absent if the ticket names none. */
      seat?: components["schemas"]["Place"];
    };
    /**
     * @example {
     *       "id": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "userId": "01a21ace-0ee2-7de7-b242-e8ca4ecde7d8",
     *       "status": "created",
     *       "expiresAt": "2026-11-27T02:35:46.617Z",
     *       "ticket": {
     *         "id": "01a21ace-0f05-7a31-aac0-0056afb1fd3d",
     *         "title": "Front row",
     *         "price": 4500,
     *         "currency": "usd"
     *       },
     *       "version": 1,
     *       "createdAt": "2026-11-27T02:20:46.617Z",
     *       "updatedAt": "2026-11-27T02:20:46.617Z"
     *     }
     * @example {
     *       "id": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "userId": "01a21ace-0ee2-7de7-b242-e8ca4ecde7d8",
     *       "status": "complete",
     *       "expiresAt": "2026-11-27T02:35:46.617Z",
     *       "ticket": {
     *         "id": "01a21ace-0f05-7a31-aac0-0056afb1fd3d",
     *         "title": "Front row",
     *         "price": 4500,
     *         "currency": "usd"
     *       },
     *       "version": 2,
     *       "createdAt": "2026-11-27T02:20:46.617Z",
     *       "updatedAt": "2026-11-27T02:20:47.663Z"
     *     }
     * @example {
     *       "id": "01a21ace-278d-759e-805d-c05593c856b4",
     *       "userId": "01a21ace-0ee2-7de7-b242-e8ca4ecde7d8",
     *       "status": "cancelled",
     *       "reason": "user",
     *       "expiresAt": "2026-11-27T02:35:47.885Z",
     *       "ticket": {
     *         "id": "01a21ace-2784-7f3b-bac4-c57e498d2823",
     *         "title": "Back row",
     *         "price": 2500,
     *         "currency": "usd"
     *       },
     *       "version": 2,
     *       "createdAt": "2026-11-27T02:20:47.885Z",
     *       "updatedAt": "2026-11-27T02:20:47.904Z"
     *     }
     * @example {
     *       "id": "01a21c42-15e0-7ae1-ab2b-a0fd289b52df",
     *       "userId": "01a21c42-1583-7c34-a7fd-08552a268098",
     *       "status": "complete",
     *       "expiresAt": "2026-11-27T09:22:02.752Z",
     *       "ticket": {
     *         "id": "01a21c42-15d5-712a-97fd-f5084f47a660",
     *         "title": "Hamlet",
     *         "price": 5000,
     *         "currency": "usd",
     *         "showId": "01a21c42-1588-753e-a3c6-4844a01f705c",
     *         "seat": {
     *           "section": "Stalls",
     *           "row": "C",
     *           "number": "12"
     *         }
     *       },
     *       "usedAt": "2026-11-27T09:07:02.786Z",
     *       "version": 3,
     *       "createdAt": "2026-11-27T09:07:02.752Z",
     *       "updatedAt": "2026-11-27T09:07:02.786Z"
     *     }
     * @example {
     *       "id": "01a21c42-159e-7ddf-860c-b0f4fd58333d",
     *       "userId": "01a21c42-157e-748e-8848-59ba358e3202",
     *       "status": "complete",
     *       "expiresAt": "2026-11-27T09:22:02.686Z",
     *       "ticket": {
     *         "id": "01a21c42-1595-7bc4-a660-98db5f12a5d5",
     *         "title": "Hamlet",
     *         "price": 4500,
     *         "currency": "usd",
     *         "showId": "01a21c42-1588-753e-a3c6-4844a01f705c",
     *         "seat": {
     *           "section": "Stalls",
     *           "row": "C",
     *           "number": "12"
     *         }
     *       },
     *       "resoldAt": "2026-11-27T09:07:02.773Z",
     *       "version": 3,
     *       "createdAt": "2026-11-27T09:07:02.686Z",
     *       "updatedAt": "2026-11-27T09:07:02.773Z"
     *     }
     */
    Order: {
      id: components["schemas"]["OrderId"];
      /** @description The buyer. */
      userId: components["schemas"]["UserId"];
      status: components["schemas"]["OrderStatus"];
      /** @description Why it was cancelled. It is there only if the status is `cancelled`. */
      reason?: components["schemas"]["CancelReason"];
      /** @description The end of the reservation window, 15 minutes after `createdAt`. It stays when the order is complete or cancelled. */
      expiresAt: components["schemas"]["Time"];
      ticket: components["schemas"]["OrderedTicket"];
      /** @description When its pass was used. Absent if it was not. */
      usedAt?: components["schemas"]["Time"];
      /** @description When its buyer sold the ticket again, so that its pass is void. Absent if it was not sold again. */
      resoldAt?: components["schemas"]["Time"];
      version: components["schemas"]["Version"];
      createdAt: components["schemas"]["Time"];
      updatedAt: components["schemas"]["Time"];
    };
    NewOrder: {
      ticketId: components["schemas"]["TicketId"];
    };
    /**
     * @example {
     *       "unsettled": 1
     *     }
     */
    Unsettled: {
      /** @description How many orders are `created`, or `complete` and not captured yet. */
      unsettled: number;
    };
    /**
     * @description A compact JSON Web Signature (RFC 7515). Its header is `{"alg": "EdDSA", "typ": "pass+jwt", "kid": …}`, and its payload `{"iss": "boxoffice/orders", "aud": "boxoffice/checkin", "order": …, "ticket": …, "show": …, "iat": …}`: three ids, and when the order
     *     was complete, in seconds since 1970. A verifier compares `alg`, `typ`, `iss`, `aud` and `show`, and the signature with the key that `kid` names. Who has the code can use the pass: do not log it.
     * @example eyJhbGciOiJFZERTQSIsImtpZCI6IlZwbXNNeW1GZ3dDd3VGb1pYZVBWN3FILURfRExrU2c0R0NVRjJkTUZVdVkiLCJ0eXAiOiJwYXNzK2p3dCJ9.eyJpc3MiOiJib3hvZmZpY2Uvb3JkZXJzIiwiYXVkIjoiYm94b2ZmaWNlL2NoZWNraW4iLCJvcmRlciI6IjAxYTIxYzQyLTE1OWUtN2RkZi04NjBjLWIwZjRmZDU4MzMzZCIsInRpY2tldCI6IjAxYTIxYzQyLTE1OTUtN2JjNC1hNjYwLTk4ZGI1ZjEyYTVkNSIsInNob3ciOiIwMWEyMWM0Mi0xNTg4LTc1M2UtYTNjNi00ODQ0YTAxZjcwNWMiLCJpYXQiOjE3OTU3NzA0MjJ9.-IS1AkaL1nCsbGj67T4ELS5dma4Q42U0bfIvq8aqIBR_vHmUexyh9iGhgac-0_vzTBifXzrPqUQ6XWPJuU7UDw
     */
    PassCode: string;
    /**
     * @description - `valid`: it lets its holder in.
     *     - `used`: its holder was checked in, at `usedAt`.
     * @enum {string}
     */
    PassStatus: "valid" | "used";
    /**
     * @example {
     *       "orderId": "01a21c42-159e-7ddf-860c-b0f4fd58333d",
     *       "ticketId": "01a21c42-1595-7bc4-a660-98db5f12a5d5",
     *       "showId": "01a21c42-1588-753e-a3c6-4844a01f705c",
     *       "title": "Hamlet",
     *       "seat": {
     *         "section": "Stalls",
     *         "row": "C",
     *         "number": "12"
     *       },
     *       "code": "eyJhbGciOiJFZERTQSIsImtpZCI6IlZwbXNNeW1GZ3dDd3VGb1pYZVBWN3FILURfRExrU2c0R0NVRjJkTUZVdVkiLCJ0eXAiOiJwYXNzK2p3dCJ9.eyJpc3MiOiJib3hvZmZpY2Uvb3JkZXJzIiwiYXVkIjoiYm94b2ZmaWNlL2NoZWNraW4iLCJvcmRlciI6IjAxYTIxYzQyLTE1OWUtN2RkZi04NjBjLWIwZjRmZDU4MzMzZCIsInRpY2tldCI6IjAxYTIxYzQyLTE1OTUtN2JjNC1hNjYwLTk4ZGI1ZjEyYTVkNSIsInNob3ciOiIwMWEyMWM0Mi0xNTg4LTc1M2UtYTNjNi00ODQ0YTAxZjcwNWMiLCJpYXQiOjE3OTU3NzA0MjJ9.-IS1AkaL1nCsbGj67T4ELS5dma4Q42U0bfIvq8aqIBR_vHmUexyh9iGhgac-0_vzTBifXzrPqUQ6XWPJuU7UDw",
     *       "status": "valid",
     *       "startsAt": "2026-12-27T09:07:02.663Z"
     *     }
     * @example {
     *       "orderId": "01a21c42-15e0-7ae1-ab2b-a0fd289b52df",
     *       "ticketId": "01a21c42-15d5-712a-97fd-f5084f47a660",
     *       "showId": "01a21c42-1588-753e-a3c6-4844a01f705c",
     *       "title": "Hamlet",
     *       "seat": {
     *         "section": "Stalls",
     *         "row": "C",
     *         "number": "12"
     *       },
     *       "code": "eyJhbGciOiJFZERTQSIsImtpZCI6IlZwbXNNeW1GZ3dDd3VGb1pYZVBWN3FILURfRExrU2c0R0NVRjJkTUZVdVkiLCJ0eXAiOiJwYXNzK2p3dCJ9.eyJpc3MiOiJib3hvZmZpY2Uvb3JkZXJzIiwiYXVkIjoiYm94b2ZmaWNlL2NoZWNraW4iLCJvcmRlciI6IjAxYTIxYzQyLTE1ZTAtN2FlMS1hYjJiLWEwZmQyODliNTJkZiIsInRpY2tldCI6IjAxYTIxYzQyLTE1ZDUtNzEyYS05N2ZkLWY1MDg0ZjQ3YTY2MCIsInNob3ciOiIwMWEyMWM0Mi0xNTg4LTc1M2UtYTNjNi00ODQ0YTAxZjcwNWMiLCJpYXQiOjE3OTU3NzA0MjJ9.prdqUY2vBhqp_P5oWl8-YanI51DA2ka_KGrBVSUNtJCdhzIPpdpar3KTp2UmWyS9mYGko2GUiNKMX1Wv1nKWCw",
     *       "status": "used",
     *       "usedAt": "2026-11-27T09:07:02.786Z",
     *       "startsAt": "2026-12-27T09:07:02.663Z"
     *     }
     */
    Pass: {
      orderId: components["schemas"]["OrderId"];
      ticketId: components["schemas"]["TicketId"];
      showId: components["schemas"]["ShowId"];
      /** @description The title of the ticket, usually the name of the show. */
      title: string;
      /** @description Absent if the ticket names none. */
      seat?: components["schemas"]["Place"];
      code: components["schemas"]["PassCode"];
      status: components["schemas"]["PassStatus"];
      /** @description When it was used. It is there only if the status is `used`. */
      usedAt?: components["schemas"]["Time"];
      /** @description When the show starts, as far as the service knows. `GET /api/shows/{showId}` has the rest of the show. */
      startsAt: components["schemas"]["Time"];
    };
    /** @description An SVG picture with the `code` as a QR code, which scales to any size. It has no scripts, and a title for screen readers. */
    PassPicture: string;
    NewCheckIn: {
      /** @description The `code` of a pass, as the QR code has it. */
      code: string;
    };
    /**
     * @example {
     *       "orderId": "01a21c42-15e0-7ae1-ab2b-a0fd289b52df",
     *       "ticketId": "01a21c42-15d5-712a-97fd-f5084f47a660",
     *       "showId": "01a21c42-1588-753e-a3c6-4844a01f705c",
     *       "title": "Hamlet",
     *       "seat": {
     *         "section": "Stalls",
     *         "row": "C",
     *         "number": "12"
     *       },
     *       "usedAt": "2026-11-27T09:07:02.786Z"
     *     }
     */
    CheckIn: {
      /** @description Nobody but the buyer can read the order. */
      orderId: components["schemas"]["OrderId"];
      ticketId: components["schemas"]["TicketId"];
      showId: components["schemas"]["ShowId"];
      /** @description The title of the ticket. */
      title: string;
      /** @description Absent if the ticket names none. */
      seat?: components["schemas"]["Place"];
      /** @description When the pass was used. */
      usedAt: components["schemas"]["Time"];
    };
    /**
     * @description - `complete`: the money is the seller's.
     *     - `cancelled`: the order was cancelled after it was complete; `reason` is why. The money was given back to the buyer.
     * @enum {string}
     */
    SaleStatus: "complete" | "cancelled";
    /**
     * @description A sale of the caller, without anything about the buyer.
     * @example {
     *       "orderId": "01a21c48-2246-7baf-bd27-d90a99cffc71",
     *       "ticketId": "01a21c48-2235-7070-81c7-3ac727dfa8b8",
     *       "showId": "01a21c48-2221-75cd-857f-8953930d4a2d",
     *       "title": "Hamlet",
     *       "seat": {
     *         "section": "Stalls",
     *         "row": "C",
     *         "number": "12"
     *       },
     *       "price": 4500,
     *       "currency": "usd",
     *       "status": "complete",
     *       "soldAt": "2026-11-27T09:13:39.168Z"
     *     }
     */
    Sale: {
      /** @description Nobody but the buyer can read the order. */
      orderId: components["schemas"]["OrderId"];
      ticketId: components["schemas"]["TicketId"];
      /** @description Absent if the ticket names none. */
      showId?: components["schemas"]["ShowId"];
      title: string;
      /** @description Absent if the ticket names none. */
      seat?: components["schemas"]["Place"];
      /** @description What the buyer paid, in the currency's minor unit. */
      price: number;
      currency: components["schemas"]["Currency"];
      status: components["schemas"]["SaleStatus"];
      /** @description Why it was cancelled. It is there only if the status is `cancelled`. */
      reason?: components["schemas"]["CancelReason"];
      /** @description When the order was complete. */
      soldAt: components["schemas"]["Time"];
      /** @description It is there only if the status is `cancelled`. */
      cancelledAt?: components["schemas"]["Time"];
    };
    /** @description A file of comma-separated values (RFC 4180). */
    SalesFile: string;
    /**
     * @description - `pending`: no attempt has a known outcome.
     *     - `requires_action`: the bank wants to authenticate the buyer. Give `clientSecret` to Stripe's frontend.
     *     - `authorized`: the money is held. It is captured when the order is complete, and released when the order is cancelled.
     *     - `captured`: the money was taken.
     *     - `voided`: it ended before any money was taken.
     *     - `refunded`: all of the money was given back.
     *     - `failed`: the last card was declined; `declineCode` is why. The buyer may pay with another.
     * @enum {string}
     */
    PaymentStatus: "pending" | "requires_action" | "authorized" | "captured" | "voided" | "refunded" | "failed";
    /**
     * @example {
     *       "id": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "orderId": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "stripeId": "pi_VEW7VP3ZRCUT6ZNCWCS22F3E",
     *       "status": "authorized",
     *       "amount": 4500,
     *       "currency": "usd",
     *       "createdAt": "2026-11-27T02:20:47.638Z",
     *       "updatedAt": "2026-11-27T02:20:47.657Z"
     *     }
     * @example {
     *       "id": "01a21ace-278d-759e-805d-c05593c856b4",
     *       "orderId": "01a21ace-278d-759e-805d-c05593c856b4",
     *       "stripeId": "pi_5GZWJWZBE7YFH25OIDU5APF2",
     *       "status": "requires_action",
     *       "amount": 2500,
     *       "currency": "usd",
     *       "clientSecret": "pi_5GZWJWZBE7YFH25OIDU5APF2_secret_FKNCE3L6BSSTJNQ6JVELMDU5",
     *       "createdAt": "2026-11-27T02:20:47.895Z",
     *       "updatedAt": "2026-11-27T02:20:47.898Z"
     *     }
     * @example {
     *       "id": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "orderId": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "stripeId": "pi_VEW7VP3ZRCUT6ZNCWCS22F3E",
     *       "status": "failed",
     *       "amount": 4500,
     *       "currency": "usd",
     *       "declineCode": "insufficient_funds",
     *       "createdAt": "2026-11-27T02:20:47.638Z",
     *       "updatedAt": "2026-11-27T02:20:47.643Z"
     *     }
     * @example {
     *       "id": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "orderId": "01a21ace-2299-758c-a1fb-9853670f37a8",
     *       "stripeId": "pi_VEW7VP3ZRCUT6ZNCWCS22F3E",
     *       "status": "refunded",
     *       "amount": 4500,
     *       "currency": "usd",
     *       "refunded": 4500,
     *       "createdAt": "2026-11-27T02:20:47.638Z",
     *       "updatedAt": "2026-11-27T02:20:48.422Z"
     *     }
     * @example {
     *       "id": "01a21c42-15e0-7ae1-ab2b-a0fd289b52df",
     *       "orderId": "01a21c42-15e0-7ae1-ab2b-a0fd289b52df",
     *       "stripeId": "pi_Y2BSCVUEYBHNQHND2VVDSRC5",
     *       "status": "requires_action",
     *       "amount": 5000,
     *       "currency": "usd",
     *       "clientSecret": "pi_Y2BSCVUEYBHNQHND2VVDSRC5_secret_GVOY226CBSY5R66AIKZX74GO",
     *       "redirectUrl": "http://localhost:12112/3d_secure/pi_Y2BSCVUEYBHNQHND2VVDSRC5/LW4FS6WRZOJTHZCPRZXJEWT6",
     *       "createdAt": "2026-11-27T09:07:02.760Z",
     *       "updatedAt": "2026-11-27T09:07:02.764Z"
     *     }
     */
    Payment: {
      id: components["schemas"]["PaymentId"];
      orderId: components["schemas"]["OrderId"];
      /**
       * @description The id of Stripe's PaymentIntent.
       * @example pi_VEW7VP3ZRCUT6ZNCWCS22F3E
       */
      stripeId: string;
      status: components["schemas"]["PaymentStatus"];
      /** @description The order's price, in the currency's minor unit. */
      amount: number;
      currency: components["schemas"]["Currency"];
      /** @description Why the bank declined the last card. Absent if it did not. */
      declineCode?: components["schemas"]["DeclineCode"];
      /** @description For Stripe's frontend. It is there only if the status is `requires_action`. Do not store or log it. */
      clientSecret?: string;
      /**
       * Format: uri
       * @description Where the buyer authenticates: send the browser there. It is there only if the status is `requires_action` and the request had a `returnUrl`. Do not store or log it.
       */
      redirectUrl?: string;
      /** @description What was given back so far, in the currency's minor unit, by refunds and by disputes that were lost. Absent if nothing was. */
      refunded?: number;
      /**
       * @description A refund did not reach the buyer; the operators must find another way. Absent otherwise.
       * @enum {boolean}
       */
      refundFailed?: true;
      /** @description The buyer's last complaint at the bank. Absent if there was none. */
      dispute?: components["schemas"]["Dispute"];
      createdAt: components["schemas"]["Time"];
      updatedAt: components["schemas"]["Time"];
    };
    Dispute: {
      /**
       * @description Stripe's id of the dispute.
       * @example du_1MtJUT2eZvKYlo2CNaw2HvEv
       */
      id: string;
      /**
       * @description Stripe's status, as `needs_response`, `under_review`, `won` or `lost`.
       * @example needs_response
       */
      status: string;
      /**
       * @description Stripe's reason. Absent if there is none.
       * @example fraudulent
       */
      reason?: string;
      /** @description In the currency's minor unit. */
      amount: number;
    };
    /** @description An order and a card. Exactly one of `paymentMethod` and `token` is sent. */
    NewPayment: {
      orderId: components["schemas"]["OrderId"];
      /**
       * @description The id of a PaymentMethod that Stripe's frontend made of the card.
       * @example pm_card_visa
       */
      paymentMethod?: string;
      /**
       * @description Where the browser comes back to after the bank has authenticated the buyer: an absolute address, `https` or `http`; an empty one is the same as none. With it, a payment that is `requires_action` has a `redirectUrl`.
       * @example https://tickets.example/orders/01a21ace-2299-758c-a1fb-9853670f37a8
       */
      returnUrl?: string;
      /**
       * @description A token that Stripe's frontend made of the card (the older way).
       * @example tok_visa
       */
      token?: string;
    } & (
      | {
          paymentMethod: unknown;
        }
      | {
          token: unknown;
        }
    );
    StripeEventReceipt: {
      /** @enum {boolean} */
      received: true;
      /** @description Whether the event is about a payment of this system. */
      known: boolean;
    };
    /**
     * @description Events of tickets go to their seller. Events of orders go to the buyer, and to the seller of the ticket. `order.updated`: the pass of a complete order was used (`usedAt`), became void because the ticket was sold again (`resoldAt`), or is valid again.
     * @enum {string}
     */
    EventType:
      | "ticket.created"
      | "ticket.updated"
      | "ticket.deleted"
      | "order.created"
      | "order.completed"
      | "order.updated"
      | "order.cancelled";
    NewWebhook: {
      /**
       * Format: uri
       * @description Where to send messages: `https`, in public address space (a name with a dot, or an address), without a user and password, at port 443 or one from 1024 on. In development also `http` to this machine.
       * @example https://tickets.example/hooks
       */
      url: string;
      /** @description Which events it gets. */
      events: components["schemas"]["EventType"][];
      /** @description A note for you: up to 200 characters, without control characters and line ends. One of spaces alone is none. */
      description?: string;
    };
    WebhookChange: components["schemas"]["NewWebhook"] & {
      /** @description Switches the endpoint on or off. Without it the status stays. */
      status?: components["schemas"]["WebhookStatus"];
      /** @description The version that you have read. Send it here or in `If-Match`; if both, they must be the same. */
      version?: number;
    };
    /** @enum {string} */
    WebhookStatus: "enabled" | "disabled";
    /**
     * @description An endpoint.
     * @example {
     *       "id": "01a21ad1-7aa5-7dec-9d4d-e562f4fb4214",
     *       "url": "http://localhost:18999/hook",
     *       "events": [
     *         "order.created",
     *         "order.completed",
     *         "order.cancelled"
     *       ],
     *       "description": "Our server",
     *       "status": "enabled",
     *       "version": 1,
     *       "createdAt": "2026-11-27T02:24:25.766Z",
     *       "updatedAt": "2026-11-27T02:24:25.766Z"
     *     }
     */
    Webhook: {
      id: components["schemas"]["WebhookId"];
      /** Format: uri */
      url: string;
      events: components["schemas"]["EventType"][];
      /** @description Absent if there is none. */
      description?: string;
      status: components["schemas"]["WebhookStatus"];
      /**
       * @description `user`: its owner did it. `failing`: it had only failures for five days (since `failingSince`). Absent if it is enabled.
       * @enum {string}
       */
      disabledReason?: "user" | "failing";
      /** @description Absent if it is enabled. */
      disabledAt?: components["schemas"]["Time"];
      /** @description Since when it has only failed. It begins anew after a success, with another `url`, and at a failure before which nothing was sent for twelve hours. Absent if nothing has failed since. */
      failingSince?: components["schemas"]["Time"];
      /** @description The same as `ETag`. */
      version: components["schemas"]["Version"];
      createdAt: components["schemas"]["Time"];
      updatedAt: components["schemas"]["Time"];
    };
    /**
     * @example {
     *       "id": "01a21ad1-7aa5-7dec-9d4d-e562f4fb4214",
     *       "url": "http://localhost:18999/hook",
     *       "events": [
     *         "order.created",
     *         "order.completed",
     *         "order.cancelled"
     *       ],
     *       "description": "Our server",
     *       "status": "enabled",
     *       "version": 1,
     *       "createdAt": "2026-11-27T02:24:25.766Z",
     *       "updatedAt": "2026-11-27T02:24:25.766Z",
     *       "secret": "whsec_+eTeXgdVZlkQuOs+V771UFbwKUTQXgiZlHZjeVxBJys="
     *     }
     */
    WebhookWithSecret: components["schemas"]["Webhook"] & {
      /**
       * @description Signs the messages. No later answer has it, except a replay by `Idempotency-Key`: for 24 hours it has the secret of the first answer, also after a rotation or after the endpoint was deleted.
       * @example whsec_+eTeXgdVZlkQuOs+V771UFbwKUTQXgiZlHZjeVxBJys=
       */
      secret: string;
    };
    /**
     * @description - `pending`: it was not answered with 2xx yet. The first attempt begins at once, the next one at `nextAttemptAt` at the latest.
     *     - `delivered`: it was answered with 2xx.
     *     - `failed`: it was not in three days, or the endpoint was disabled. Nothing is sent any more, unless you ask for it.
     * @enum {string}
     */
    DeliveryStatus: "pending" | "delivered" | "failed";
    /**
     * @description A message to an endpoint.
     * @example {
     *       "id": "msg__vljnJ0K9P8Oj6nJKnsw_1TsDQA",
     *       "eventId": "webhook.test:01a21ace-2d9f-72d8-845a-985e8bec3070",
     *       "eventType": "webhook.test",
     *       "status": "pending",
     *       "attempts": 0,
     *       "createdAt": "2026-11-27T02:20:49.438Z",
     *       "nextAttemptAt": "2026-11-27T02:21:20.000Z"
     *     }
     * @example {
     *       "id": "msg_kVEo2wwVP0rHhqGCBNtpl59nWqX",
     *       "eventId": "order.completed:01a21ace-2299-758c-a1fb-9853670f37a8:2",
     *       "eventType": "order.completed",
     *       "status": "pending",
     *       "attempts": 1,
     *       "createdAt": "2026-11-27T02:20:47.694Z",
     *       "nextAttemptAt": "2026-11-27T02:20:53.000Z",
     *       "lastAttempt": {
     *         "at": "2026-11-27T02:20:47.702Z",
     *         "body": "database!",
     *         "durationMs": 5,
     *         "status": 500
     *       }
     *     }
     * @example {
     *       "id": "msg__vljnJ0K9P8Oj6nJKnsw_1TsDQA",
     *       "eventId": "webhook.test:01a21ace-2d9f-72d8-845a-985e8bec3070",
     *       "eventType": "webhook.test",
     *       "status": "delivered",
     *       "attempts": 1,
     *       "createdAt": "2026-11-27T02:20:49.438Z",
     *       "lastAttempt": {
     *         "at": "2026-11-27T02:20:49.444Z",
     *         "durationMs": 4,
     *         "status": 204
     *       }
     *     }
     */
    Delivery: {
      id: components["schemas"]["DeliveryId"];
      /** @description The id of the event. */
      eventId: string;
      eventType: components["schemas"]["EventType"] | "webhook.test";
      status: components["schemas"]["DeliveryStatus"];
      /** @description How often it was sent. */
      attempts: number;
      createdAt: components["schemas"]["Time"];
      /** @description When it is sent next. While an attempt is under way: when another one is made if the outcome of that is lost. Absent unless it is pending. */
      nextAttemptAt?: components["schemas"]["Time"];
      /** @description Absent before the first. */
      lastAttempt?: components["schemas"]["DeliveryAttempt"];
    };
    DeliveryAttempt: {
      at: components["schemas"]["Time"];
      /** @description Until the end of the answer, in milliseconds. */
      durationMs: number;
      /** @description The HTTP status of the answer. Absent if there was none. */
      status?: number;
      /** @description The first 1024 bytes of the answer, as text. Absent if there was none. */
      body?: string;
      /** @description Why there was no answer, for people. Absent if there was one. */
      error?: string;
    };
    WebhookMessage: {
      type: components["schemas"]["EventType"] | "webhook.test";
      /** @description When the event happened. */
      timestamp: components["schemas"]["Time"];
      /**
       * @description What the endpoint's owner is in the event.
       * @enum {string}
       */
      role: "seller" | "buyer";
      /** @description The event's data. Its schema is at `/api/schemas/TYPE/VERSION`. */
      data: components["schemas"]["TicketEvent"] | components["schemas"]["OrderEvent"] | components["schemas"]["Empty"];
    };
    /** @description The data of `ticket.created`, `ticket.updated` and `ticket.deleted`. */
    TicketEvent: {
      id: components["schemas"]["TicketId"];
      title: string;
      /** @description In the currency's minor unit. */
      price: number;
      currency: components["schemas"]["Currency"];
      /** @description The seller. */
      userId: components["schemas"]["UserId"];
      status: components["schemas"]["TicketStatus"];
      /** @description The order that has the ticket. Absent if none has. */
      orderId?: components["schemas"]["OrderId"];
      /** @description The show. Absent if the ticket names none. */
      showId?: components["schemas"]["ShowId"];
      /** @description Absent if the ticket names none. */
      seat?: components["schemas"]["Place"];
      /** @description Absent if this is the first sale. */
      resaleOf?: components["schemas"]["Resale"];
      /** @description The owner of the show. Absent if the ticket has no show. */
      showOwnerId?: components["schemas"]["UserId"];
      /** @description What the ticket cost at first, in the currency's minor unit. It is there if the ticket has a show. */
      faceValue?: number;
      /** @description When the show starts: from then on the ticket cannot be reserved. It is there if the ticket has a show. */
      salesEndAt?: components["schemas"]["Time"];
      /**
       * @description With `ticket.deleted`: the ticket is void, because its show was cancelled. An order that has it is cancelled, and what was paid is given back. Absent otherwise.
       * @enum {boolean}
       */
      revoked?: true;
      /** @description The number of the last reservation or end of one that the listing has. Absent before the first. */
      sequence?: number;
      version: components["schemas"]["Version"];
      createdAt: components["schemas"]["Time"];
      updatedAt: components["schemas"]["Time"];
    };
    /** @description What is sold again. */
    Resale: {
      /** @description The ticket that its buyer sells again. */
      ticketId: components["schemas"]["TicketId"];
      /** @description The order with which its seller has bought it. */
      orderId: components["schemas"]["OrderId"];
    };
    /** @description The data of `order.created`, `order.completed`, `order.updated` and `order.cancelled`. */
    OrderEvent: {
      id: components["schemas"]["OrderId"];
      /** @description The buyer. Absent in what a seller gets. */
      userId?: components["schemas"]["UserId"];
      /** @description The seller of the ticket. */
      sellerId?: components["schemas"]["UserId"];
      status: components["schemas"]["OrderStatus"];
      /** @description Why it was cancelled. `unknown`: the order was lost with a restored backup. Absent if it was not cancelled. */
      reason?: components["schemas"]["CancelReason"] | "unknown";
      expiresAt: components["schemas"]["Time"];
      ticket: components["schemas"]["OrderedTicket"];
      /** @description When its pass was used. Absent if it was not. */
      usedAt?: components["schemas"]["Time"];
      /** @description When its buyer sold the ticket again, so that its pass is void. Absent if it was not sold again. */
      resoldAt?: components["schemas"]["Time"];
      /** @description Grows with each reservation and each end of one of the ticket, and with each change of its pass, over all its orders. */
      sequence: number;
      version: components["schemas"]["Version"];
      createdAt: components["schemas"]["Time"];
      updatedAt: components["schemas"]["Time"];
    };
    Health: {
      /** @enum {string} */
      status: "ok";
    };
    /** @description The result of each check, `ok` or what is wrong, for people. */
    Checks: {
      [key: string]: string;
    };
    /**
     * @example {
     *       "status": "ready",
     *       "checks": {
     *         "auth": "ok",
     *         "expiration": "ok",
     *         "orders": "ok",
     *         "payments": "ok",
     *         "sidecar": "ok",
     *         "tickets": "ok",
     *         "webhooks": "ok"
     *       }
     *     }
     */
    Readiness: {
      /** @enum {string} */
      status: "ready";
      checks: components["schemas"]["Checks"];
    };
    /**
     * @example {
     *       "keys": [
     *         {
     *           "kty": "OKP",
     *           "crv": "Ed25519",
     *           "x": "wgaUN8-WaFfxlGiel7HqQzbxzRwgbucxl04NatTkhWE",
     *           "kid": "Pqi7SSom5tIC-df0r8bcQ-zpB8m27bPBo0VbXKIR3aQ",
     *           "use": "sig",
     *           "alg": "EdDSA"
     *         }
     *       ]
     *     }
     */
    KeySet: {
      keys: {
        /** @enum {string} */
        kty: "OKP";
        /** @enum {string} */
        crv: "Ed25519";
        /** @enum {string} */
        alg: "EdDSA";
        /** @enum {string} */
        use: "sig";
        /** @description The id of the key. */
        kid: string;
        /** @description The public key, base64url. */
        x: string;
      }[];
    };
    /**
     * @description An error (RFC 9457).
     * @example {
     *       "type": "about:blank",
     *       "title": "Bad Request",
     *       "status": 400,
     *       "detail": "Email must be an email address, like ada@example.com.",
     *       "errors": [
     *         {
     *           "message": "Email must be an email address, like ada@example.com.",
     *           "field": "email",
     *           "code": "email"
     *         },
     *         {
     *           "message": "Password must be from 8 to 72 bytes long; letters beyond a to z may take several bytes.",
     *           "field": "password",
     *           "code": "min"
     *         }
     *       ],
     *       "requestId": "01a21ace-0ee8-750e-9bf9-a5f4387c9db9"
     *     }
     */
    Problem: {
      /** @enum {string} */
      type: "about:blank";
      /** @description The name of the status. */
      title: string;
      /** @description The HTTP status. */
      status: number;
      /** @description The first message, a sentence for people. */
      detail: string;
      /** @description All that is wrong, one entry each. */
      errors: components["schemas"]["ProblemDetail"][];
      /** @description The same as `X-Request-Id`. */
      requestId: string;
    };
    ProblemDetail: {
      /** @description A sentence for people. */
      message: string;
      /** @description For programs. Its meaning is in `x-codes`. */
      code: string;
      /** @description The member of the body, the query parameter or the header that it is about. Absent if it is about none. */
      field?: string;
    };
    /**
     * @description The body cannot be read.
     * @enum {string}
     */
    CodesOfBody: "bad_request" | "not_json" | "not_text" | "wrong_type";
    /** @enum {string} */
    CodesOfUnauthorized: "not_signed_in" | "token_invalid" | "token_expired" | "token_revoked";
    /** @enum {string} */
    CodesOfPublicRead: "unavailable" | "timeout" | "upstream_unavailable" | "upstream_timeout";
    CodesOfRead: components["schemas"]["CodesOfPublicRead"] | "keys_unavailable";
    CodesOfPublicChange: components["schemas"]["CodesOfPublicRead"] | "outcome_unknown";
    CodesOfChange: components["schemas"]["CodesOfPublicChange"] | "keys_unavailable";
    /**
     * @description A code of Stripe; `invalid` if it gives none.
     * @example resource_missing
     * @example amount_too_small
     * @example token_already_used
     */
    StripeCode: string;
    /**
     * @description Why the bank declined a card ([list](https://docs.stripe.com/declines/codes)).
     * @example card_declined
     * @example generic_decline
     * @example insufficient_funds
     * @example expired_card
     * @example incorrect_cvc
     * @example processing_error
     */
    DeclineCode: string;
  };
  responses: {
    /** @description The request is not valid HTTP. */
    BadRequest: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description `limit` or `cursor` does not follow its rules. */
    BadPage: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The caller is not signed in. */
    Unauthorized: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "WWW-Authenticate": components["headers"]["WWWAuthenticate"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The password that confirms the change is wrong. Or a page of another site sent the request (`cross_origin`). */
    WrongPassword: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description It belongs to another buyer. */
    NotBuyer: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description It belongs to another buyer. Or a page of another site sent the request (`cross_origin`). */
    NotBuyerOrCrossOrigin: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description A page of another site sent the request. Nothing was done. */
    CrossOrigin: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description There is nothing at this path, or nothing with this id. */
    NotFound: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The path has no such method. */
    MethodNotAllowed: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The request did not arrive in time, 5 s for its headers and 15 s for its body. It was not handled. */
    RequestTimeout: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description It was changed by somebody else at the same moment, again and again. */
    Conflict: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The body is longer than 65,536 bytes. */
    TooLarge: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The body is not JSON, or is compressed. */
    UnsupportedMedia: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description There are too many requests of this address or user. */
    RateLimited: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "Retry-After": components["headers"]["RetryAfter"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description There are too many requests of this address or user, or too many wrong passwords for the account. */
    TooManyPasswords: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "Retry-After": components["headers"]["RetryAfter"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The request line and the headers are longer than 16,384 bytes. */
    HeadersTooLarge: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description A defect in a service. Report its `requestId`. A change may have been made. */
    Internal: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description Something that the service needs is away. */
    PublicReadUnavailable: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "Retry-After": components["headers"]["RetryAfter"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description Something that the service needs is away. */
    ReadUnavailable: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "Retry-After": components["headers"]["RetryAfter"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description Something that the service needs is away. The code shows whether the change may have been made. */
    PublicChangeUnavailable: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "Retry-After": components["headers"]["RetryAfter"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description Something that the service needs is away, or too many passwords wait to be hashed. The code shows whether the change may have been made. */
    PasswordChangeUnavailable: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "Retry-After": components["headers"]["RetryAfter"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description Something that the service needs is away. The code shows whether the change may have been made. */
    ChangeUnavailable: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        "Retry-After": components["headers"]["RetryAfter"];
        [name: string]: unknown;
      };
      content: {
        "application/problem+json": components["schemas"]["Problem"] & {
          errors?: unknown;
        };
      };
    };
    /** @description The copy is current. */
    NotModified: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        ETag: components["headers"]["DocumentETag"];
        "Cache-Control": components["headers"]["DocumentCacheControl"];
        [name: string]: unknown;
      };
      content?: never;
    };
    /** @description The copy is current. */
    CatalogueNotModified: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        Link: components["headers"]["NextLink"];
        ETag: components["headers"]["DocumentETag"];
        "Cache-Control": components["headers"]["CatalogueCacheControl"];
        "Catalogue-Position": components["headers"]["CataloguePosition"];
        [name: string]: unknown;
      };
      content?: never;
    };
    /** @description The copy is current. */
    ImageNotModified: {
      headers: {
        "X-Request-Id": components["headers"]["RequestId"];
        "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
        RateLimit: components["headers"]["RateLimit"];
        ETag: components["headers"]["DocumentETag"];
        "Cache-Control": components["headers"]["ImageCacheControl"];
        [name: string]: unknown;
      };
      content?: never;
    };
  };
  parameters: {
    /** @description How many entries the page has at most. */
    Limit: number;
    /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
    Cursor: string;
    /**
     * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
     *     kept: after one, the same key may be used again. A random UUID is a good key.
     * @example beb12998-f19a-4da9-a220-33ad8ffa229b
     */
    IdempotencyKey: string;
    /**
     * @description The `ETag` that you have read. `*` and none mean any version.
     * @example "3"
     */
    IfMatch: string;
    /** @description The `ETag` of a copy that you have. */
    IfNoneMatch: string;
    /** @description The id of a show. */
    ShowId: components["schemas"]["ShowId"];
    /** @description The id of an image. */
    ImageId: components["schemas"]["ImageId"];
    /** @description How many entries the page has at most. */
    CatalogueLimit: number;
    /**
     * @description Words to search for.
     * @example hamlet berl
     */
    Query: string;
    /**
     * @description Shows of this city, whatever the case of its letters and their accents.
     * @example Berlin
     */
    City: string;
    /**
     * @description Shows of this country.
     * @example DE
     */
    Country: components["schemas"]["Country"];
    /**
     * @description Shows of this category.
     * @example theatre
     */
    CategoryFilter: components["schemas"]["Category"];
    /**
     * @description Shows that start then or later: a time (RFC 3339), or a date, which is the day at the place of the show.
     * @example 2026-12-24
     */
    From: components["schemas"]["TimeOrDate"];
    /**
     * @description Shows that start then or earlier: a time (RFC 3339), or a date, which is the day at the place of the show and belongs to it.
     * @example 2026-12-31
     */
    To: components["schemas"]["TimeOrDate"];
    /** @description `true`: only shows with a ticket left. */
    Available: boolean;
    /** @description `date`: the next one first. `price`: the cheapest first, and sold-out ones last. `relevance`: the best match of `q` first. Without it: `relevance` with `q`, else `date`. */
    Sort: "date" | "relevance" | "price";
    /**
     * @description Only tickets of this section, as `sections` of the show names it.
     * @example Stalls
     */
    Section: string;
    /** @description The ids of shows: `show=…&show=…`, up to 20. */
    LiveShows: components["schemas"]["ShowId"][];
    /** @description The `Catalogue-Position` of the pages that you have read: `after=…&after=…`, up to 21. The stream goes on after the smallest. Without it, the stream begins now. `Last-Event-ID` counts more, so a browser that connects again may keep it. */
    LiveAfter: string[];
    /**
     * @description The `id` of the last event that you got. The stream goes on after it.
     * @example 7f3c91e2-1804-3
     */
    LastEventId: string;
    /** @description `available`: only tickets that can be reserved now. The catalogue answers, so a change may be late by some milliseconds. */
    TicketStatusFilter: "available";
    /** @description `me`: only listings of the caller, who must be signed in. */
    Seller: "me";
    /** @description With `seller=me`: only listings of this show. Without it the answer is 400: available tickets of one show are at `/api/catalogue/shows/{showId}/tickets`. */
    SellerShow: components["schemas"]["ShowId"];
    /** @description `me`: only shows of the caller, who must be signed in. */
    Owner: "me";
    /** @description Only sales of this show. */
    SalesShow: components["schemas"]["ShowId"];
    /** @description The form of the answer. Without it, `Accept: text/csv` asks for CSV, and anything else for JSON. */
    SalesFormat: "json" | "csv";
    /** @description The form of the answer. Without it, `Accept` decides: `image/svg+xml`, `text/html` (303), or JSON. */
    PassFormat: "json" | "svg";
    /** @description The id of a ticket. */
    TicketId: components["schemas"]["TicketId"];
    /** @description The id of an order. */
    OrderId: components["schemas"]["OrderId"];
    /** @description The id of a payment. */
    PaymentId: components["schemas"]["PaymentId"];
    /** @description The id of an endpoint. */
    WebhookId: components["schemas"]["WebhookId"];
    /** @description The id of a delivery. */
    DeliveryId: components["schemas"]["DeliveryId"];
  };
  requestBodies: never;
  headers: {
    /**
     * @description The id of the request in the services' logs. A client may choose it with a request header of the same name.
     * @example 01a21ace-0f05-7111-b3f7-0c63d8270206
     */
    RequestId: string;
    /**
     * @description The limits that counted this request (draft-ietf-httpapi-ratelimit-headers-11): `q` requests, which come back within `w` seconds. `address` counts those of a client's address, `user` those of a signed-in user;
     *     `signin-address` and `signin-user` those that hash a password. Absent if no limit counts.
     * @example "address";q=200;w=2, "user";q=200;w=2
     */
    RateLimitPolicy: string;
    /**
     * @description What is left of each limit, `r` requests, and in how many seconds `t` all are back. After 429, `t` is the time until the next request is allowed.
     * @example "address";r=194;t=1, "user";r=195;t=1
     */
    RateLimit: string;
    /**
     * @description How many seconds to wait before the request is sent again.
     * @example 2
     */
    RetryAfter: number;
    /**
     * @description The version, in quotes, for `If-Match`.
     * @example "3"
     */
    ETag: string;
    /**
     * @description Changes with the content, for `If-None-Match`.
     * @example "514cda37335c2553"
     */
    DocumentETag: string;
    /**
     * @description How long the answer may be used without asking again.
     * @example public, max-age=300
     */
    DocumentCacheControl: string;
    /**
     * @description A page of the catalogue has every change up to this position. Send it as `after` to `GET /api/catalogue/live` to get the changes that follow.
     * @example 7f3c91e2-1804-2147483647
     */
    CataloguePosition: string;
    /**
     * @description The answer may be kept, but ask each time whether it is current (`If-None-Match`).
     * @example public, no-cache
     */
    CatalogueCacheControl: string;
    /**
     * @description How long the image may be kept.
     * @example public, max-age=31536000, immutable
     */
    ImageCacheControl: string;
    /**
     * @description A stream is not kept.
     * @example no-store
     */
    StreamCacheControl: string;
    /** @description Asks proxies not to hold events back. */
    AccelBuffering: "no";
    /**
     * @description The path of what was created.
     * @example /api/orders/01a21ace-2299-758c-a1fb-9853670f37a8
     */
    Location: string;
    /**
     * @description The next page (RFC 8288), relative to this one. Absent on the last page.
     * @example </api/tickets?cursor=MDoxLjE&limit=1>; rel="next"
     */
    NextLink: string;
    /** @description `true` if this is the answer to an earlier request with the same `Idempotency-Key`. Absent otherwise. */
    IdempotentReplayed: "true";
    /**
     * @description The path of a page of the storefront.
     * @example /orders/01a21ace-2299-758c-a1fb-9853670f37a8/pass
     */
    PageLocation: string;
    /**
     * @description No cache keeps the answer.
     * @example private, no-store
     */
    PrivateCacheControl: string;
    /**
     * @description With CSV, the name of the file. Absent otherwise.
     * @example attachment; filename="sales.csv"
     */
    ContentDisposition: string;
    /** @description How to sign in. */
    WWWAuthenticate: "Bearer";
    /** @description The cookies `jwt` (an hour) and `refresh` (30 days from the sign-in). There are several headers of this name. */
    SetCookies: string;
    /** @description Removes the cookies `jwt` and `refresh`. There are several headers of this name. */
    ClearedCookies: string;
  };
  pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
  signUp: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "email": "ada@example.com",
         *       "password": "correct horse battery"
         *     }
         */
        "application/json": components["schemas"]["NewAccount"];
      };
    };
    responses: {
      /** @description The account is made, and the caller is signed in. */
      201: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["SetCookies"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["SignedIn"];
        };
      };
      /** @description The email or the password does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      403: components["responses"]["CrossOrigin"];
      408: components["responses"]["RequestTimeout"];
      /** @description The email has an account. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PasswordChangeUnavailable"];
    };
  };
  signIn: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "email": "ada@example.com",
         *       "password": "correct horse battery"
         *     }
         */
        "application/json": components["schemas"]["Credentials"];
      };
    };
    responses: {
      /** @description The caller is signed in. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["SetCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["SignedIn"];
        };
      };
      /** @description A member is missing. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      /** @description Email or password is wrong. */
      401: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "WWW-Authenticate": components["headers"]["WWWAuthenticate"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      403: components["responses"]["CrossOrigin"];
      408: components["responses"]["RequestTimeout"];
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["TooManyPasswords"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PasswordChangeUnavailable"];
    };
  };
  refresh: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: {
      content: {
        /**
         * @example {
         *       "cookieOnly": true
         *     }
         */
        "application/json": components["schemas"]["SessionRefresh"];
      };
    };
    responses: {
      /** @description A new token, and both cookies anew. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["SetCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["SignedIn"];
        };
      };
      /** @description The body is not what it may be. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      /** @description There is no refresh token, or its session has ended. The cookie `refresh` is cleared. */
      401: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "WWW-Authenticate": components["headers"]["WWWAuthenticate"];
          "Set-Cookie": components["headers"]["ClearedCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      403: components["responses"]["CrossOrigin"];
      408: components["responses"]["RequestTimeout"];
      409: components["responses"]["Conflict"];
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicChangeUnavailable"];
    };
  };
  signOut: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The session has ended. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["ClearedCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Empty"];
        };
      };
      400: components["responses"]["BadRequest"];
      403: components["responses"]["CrossOrigin"];
      408: components["responses"]["RequestTimeout"];
      /** @description The session was changed by somebody else at the same moment, again and again. The cookies are cleared all the same. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["ClearedCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description Something that the service needs is away. The cookies are cleared all the same, but the session may go on. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          "Set-Cookie": components["headers"]["ClearedCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  signOutEverywhere: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description All sessions have ended. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["ClearedCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Empty"];
        };
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["CrossOrigin"];
      408: components["responses"]["RequestTimeout"];
      409: components["responses"]["Conflict"];
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicChangeUnavailable"];
    };
  };
  changePassword: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "oldPassword": "correct horse battery",
         *       "newPassword": "incorrect zebra staple"
         *     }
         */
        "application/json": components["schemas"]["PasswordChange"];
      };
    };
    responses: {
      /** @description The password is changed, and the caller has a new token. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["SetCookies"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["SignedIn"];
        };
      };
      /** @description A member is missing, or the new password does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["WrongPassword"];
      408: components["responses"]["RequestTimeout"];
      /** @description The account was changed at the same moment. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["TooManyPasswords"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PasswordChangeUnavailable"];
    };
  };
  getCurrentUser: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The user of the token, or `null`. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["CurrentUser"];
        };
      };
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicReadUnavailable"];
    };
  };
  deleteCurrentUser: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "password": "correct horse battery"
         *     }
         */
        "application/json": components["schemas"]["Confirmation"];
      };
    };
    responses: {
      /** @description The account is deleted, and both cookies are cleared. */
      204: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Set-Cookie": components["headers"]["ClearedCookies"];
          [name: string]: unknown;
        };
        content?: never;
      };
      /** @description The password is missing. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["WrongPassword"];
      408: components["responses"]["RequestTimeout"];
      /** @description The account has unsettled orders, or was changed at the same moment. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["TooManyPasswords"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description The service, or orders, which is asked for unsettled orders, is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  listTickets: {
    parameters: {
      query?: {
        /** @description `me`: only listings of the caller, who must be signed in. */
        seller?: components["parameters"]["Seller"];
        /** @description With `seller=me`: only listings of this show. Without it the answer is 400: available tickets of one show are at `/api/catalogue/shows/{showId}/tickets`. */
        showId?: components["parameters"]["SellerShow"];
        /** @description `available`: only tickets that can be reserved now. The catalogue answers, so a change may be late by some milliseconds. */
        status?: components["parameters"]["TicketStatusFilter"];
        /** @description How many entries the page has at most. */
        limit?: components["parameters"]["Limit"];
        /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
        cursor?: components["parameters"]["Cursor"];
      };
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description A page of listings. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Link: components["headers"]["NextLink"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["CatalogueCacheControl"];
          "Catalogue-Position": components["headers"]["CataloguePosition"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Ticket"][];
        };
      };
      304: components["responses"]["CatalogueNotModified"];
      /** @description A parameter does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  createTicket: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        "application/json": components["schemas"]["NewTicket"];
      };
    };
    responses: {
      /** @description The ticket is listed. After a replay the body is that of the first answer. */
      201: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Location: components["headers"]["Location"];
          ETag: components["headers"]["ETag"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Ticket"];
        };
      };
      /** @description A member does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The show is another user's, or the ticket to be sold again was bought by another one. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      /** @description There is no such show, or no such ticket to be sold again. */
      404: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      408: components["responses"]["RequestTimeout"];
      /** @description The show has started or is cancelled, its place is listed already, or the price is too high. Or the ticket to be sold again has no pass, or one that is used or void. Or the key was used with another body, or for another request at the same moment. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            /** @description With `price_above_cap`: the highest price that is allowed. */
            maxPrice?: number;
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description The show is not known yet, or that the order of the ticket to be sold again is complete; or something that the service needs is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  getTicket: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a ticket. */
        ticketId: components["parameters"]["TicketId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The listing, also if it is reserved, sold or withheld. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Ticket"];
        };
      };
      400: components["responses"]["BadRequest"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicReadUnavailable"];
    };
  };
  updateTicket: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description The `ETag` that you have read. `*` and none mean any version.
         * @example "3"
         */
        "If-Match"?: components["parameters"]["IfMatch"];
      };
      path: {
        /** @description The id of a ticket. */
        ticketId: components["parameters"]["TicketId"];
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "title": "Front row",
         *       "price": 5000
         *     }
         */
        "application/json": components["schemas"]["TicketChange"];
      };
    };
    responses: {
      /** @description The changed listing. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Ticket"];
        };
      };
      /** @description A member or the version does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The caller is not its seller. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The ticket is reserved or sold, its show has started, its price is above the cap of its show, or it has changed since it was read. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            /** @description With `price_above_cap`: the highest price that is allowed. */
            maxPrice?: number;
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  deleteTicket: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description The `ETag` that you have read. `*` and none mean any version.
         * @example "3"
         */
        "If-Match"?: components["parameters"]["IfMatch"];
      };
      path: {
        /** @description The id of a ticket. */
        ticketId: components["parameters"]["TicketId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The listing is withdrawn. */
      204: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content?: never;
      };
      /** @description The version in `If-Match` is none. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The caller is not its seller. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The ticket is reserved or sold, or has changed since it was read. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  listShows: {
    parameters: {
      query?: {
        /** @description `me`: only shows of the caller, who must be signed in. */
        owner?: components["parameters"]["Owner"];
        /** @description How many entries the page has at most. */
        limit?: components["parameters"]["Limit"];
        /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
        cursor?: components["parameters"]["Cursor"];
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description A page of shows. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Link: components["headers"]["NextLink"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Show"][];
        };
      };
      400: components["responses"]["BadPage"];
      401: components["responses"]["Unauthorized"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  createShow: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        "application/json": components["schemas"]["NewShow"];
      };
    };
    responses: {
      /** @description The show is announced. After a replay the body is that of the first answer. */
      201: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Location: components["headers"]["Location"];
          ETag: components["headers"]["ETag"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Show"];
        };
      };
      /** @description A member does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      /** @description The caller is not signed in, or the account was deleted. */
      401: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "WWW-Authenticate": components["headers"]["WWWAuthenticate"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      403: components["responses"]["CrossOrigin"];
      408: components["responses"]["RequestTimeout"];
      /** @description The key was used with another body, or for another request at the same moment. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  getShow: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The show. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Show"];
        };
      };
      400: components["responses"]["BadRequest"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicReadUnavailable"];
    };
  };
  updateShow: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description The `ETag` that you have read. `*` and none mean any version.
         * @example "3"
         */
        "If-Match"?: components["parameters"]["IfMatch"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "name": "Hamlet",
         *       "venue": "Schaubühne",
         *       "city": "Berlin",
         *       "country": "DE",
         *       "startsAt": "2027-12-24T19:30:00+01:00",
         *       "timeZone": "Europe/Berlin",
         *       "category": "theatre",
         *       "description": "In German, with English surtitles.",
         *       "maxMarkup": 20
         *     }
         */
        "application/json": components["schemas"]["ShowChange"];
      };
    };
    responses: {
      /** @description The changed show. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Show"];
        };
      };
      /** @description A member or the version does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The caller is not its owner. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The show is cancelled or has started, or has changed since it was read. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  cancelShow: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description The `ETag` that you have read. `*` and none mean any version.
         * @example "3"
         */
        "If-Match"?: components["parameters"]["IfMatch"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The show is cancelled. */
      204: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content?: never;
      };
      /** @description The version in `If-Match` is none. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The caller is not its owner. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The show has started, or has changed since it was read. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  putShowImage: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description The `ETag` that you have read. `*` and none mean any version.
         * @example "3"
         */
        "If-Match"?: components["parameters"]["IfMatch"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    /** @description The image as it is, at most 2,000,000 bytes. */
    requestBody: {
      content: {
        "image/jpeg": components["schemas"]["ImageFile"];
        "image/png": components["schemas"]["ImageFile"];
        "image/webp": components["schemas"]["ImageFile"];
      };
    };
    responses: {
      /** @description The show with its image. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Show"];
        };
      };
      /** @description The body is not an image of its type, or has too many pixels, or the version in `If-Match` is none. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The caller is not its owner. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The show is cancelled or has started, or has changed since it was read. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      /** @description The image is longer than 2,000,000 bytes. */
      413: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      /** @description The body is not declared as one of the types, or is compressed. */
      415: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  deleteShowImage: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description The `ETag` that you have read. `*` and none mean any version.
         * @example "3"
         */
        "If-Match"?: components["parameters"]["IfMatch"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The show has no image. */
      204: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content?: never;
      };
      /** @description The version in `If-Match` is none. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The caller is not its owner. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The show is cancelled or has started, or has changed since it was read. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  getShowImage: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
        /** @description The id of an image. */
        imageId: components["parameters"]["ImageId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The image. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["ImageCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "image/jpeg": components["schemas"]["ImageFile"];
        };
      };
      304: components["responses"]["ImageNotModified"];
      400: components["responses"]["BadRequest"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicReadUnavailable"];
    };
  };
  checkIn: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "code": "eyJhbGciOiJFZERTQSIsImtpZCI6IlFnX1AtSWF2V3RDUUw4dE1QTzBlM21pSzFQblozOTVDQmJIWnNFTnJQWGMiLCJ0eXAiOiJwYXNzK2p3dCJ9.eyJpc3MiOiJib3hvZmZpY2Uvb3JkZXJzIiwiYXVkIjoiYm94b2ZmaWNlL2NoZWNraW4iLCJvcmRlciI6IjAxYTIxZDBjLTU2MzctN2RjYS05MGFhLWFiNDQ5MmQ1MWMwYiIsInRpY2tldCI6IjAxYTIxZDBjLTU2MTQtNzgwZS04MGE1LTMwMjg2MGIwYWQzZiIsInNob3ciOiIwMWEyMWQwYy01NWQ1LTc5MTYtOGM4MC00YmM0MzA3MjIxZjciLCJpYXQiOjE3OTU3ODM2Nzd9.muHt5gPgqqGcIdlI2_MrAwl7hhaZltI2yRQlDkubinTRoF6ZyUSQO-56J7XP9EiGGquqK7FJ-IKlIt_2M3MoCw"
         *     }
         */
        "application/json": components["schemas"]["NewCheckIn"];
      };
    };
    responses: {
      /** @description The pass was valid, and is used now. Let its holder in. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["CheckIn"];
        };
      };
      /** @description `code` is missing, or is not the code of a pass of this system (`pass_invalid`): it was made by somebody else, or was read wrongly. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The caller is not the show's owner. Or a page of another site sent the request (`cross_origin`). */
      403: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The pass does not let anybody in. With `already_used` the member `usedAt` has the time of the check-in. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            /** @description With `already_used`: when it was used. */
            usedAt?: components["schemas"]["Time"];
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  searchShows: {
    parameters: {
      query?: {
        /**
         * @description Words to search for.
         * @example hamlet berl
         */
        q?: components["parameters"]["Query"];
        /**
         * @description Shows of this city, whatever the case of its letters and their accents.
         * @example Berlin
         */
        city?: components["parameters"]["City"];
        /**
         * @description Shows of this country.
         * @example DE
         */
        country?: components["parameters"]["Country"];
        /**
         * @description Shows of this category.
         * @example theatre
         */
        category?: components["parameters"]["CategoryFilter"];
        /**
         * @description Shows that start then or later: a time (RFC 3339), or a date, which is the day at the place of the show.
         * @example 2026-12-24
         */
        from?: components["parameters"]["From"];
        /**
         * @description Shows that start then or earlier: a time (RFC 3339), or a date, which is the day at the place of the show and belongs to it.
         * @example 2026-12-31
         */
        to?: components["parameters"]["To"];
        /** @description `true`: only shows with a ticket left. */
        available?: components["parameters"]["Available"];
        /** @description `date`: the next one first. `price`: the cheapest first, and sold-out ones last. `relevance`: the best match of `q` first. Without it: `relevance` with `q`, else `date`. */
        sort?: components["parameters"]["Sort"];
        /** @description How many entries the page has at most. */
        limit?: components["parameters"]["CatalogueLimit"];
        /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
        cursor?: components["parameters"]["Cursor"];
      };
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description A page of shows. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Link: components["headers"]["NextLink"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["CatalogueCacheControl"];
          "Catalogue-Position": components["headers"]["CataloguePosition"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["CataloguePage"];
        };
      };
      304: components["responses"]["CatalogueNotModified"];
      400: components["responses"]["BadPage"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicReadUnavailable"];
    };
  };
  getCatalogueShow: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The show, with its sections. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["CatalogueCacheControl"];
          "Catalogue-Position": components["headers"]["CataloguePosition"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["CatalogueShowWithSections"];
        };
      };
      304: components["responses"]["CatalogueNotModified"];
      400: components["responses"]["BadRequest"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicReadUnavailable"];
    };
  };
  listTicketsOfShow: {
    parameters: {
      query?: {
        /**
         * @description Only tickets of this section, as `sections` of the show names it.
         * @example Stalls
         */
        section?: components["parameters"]["Section"];
        /** @description How many entries the page has at most. */
        limit?: components["parameters"]["CatalogueLimit"];
        /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
        cursor?: components["parameters"]["Cursor"];
      };
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path: {
        /** @description The id of a show. */
        showId: components["parameters"]["ShowId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description A page of tickets. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Link: components["headers"]["NextLink"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["CatalogueCacheControl"];
          "Catalogue-Position": components["headers"]["CataloguePosition"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Ticket"][];
        };
      };
      304: components["responses"]["CatalogueNotModified"];
      400: components["responses"]["BadPage"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["PublicReadUnavailable"];
    };
  };
  watchShows: {
    parameters: {
      query: {
        /** @description The ids of shows: `show=…&show=…`, up to 20. */
        show: components["parameters"]["LiveShows"];
        /** @description The `Catalogue-Position` of the pages that you have read: `after=…&after=…`, up to 21. The stream goes on after the smallest. Without it, the stream begins now. `Last-Event-ID` counts more, so a browser that connects again may keep it. */
        after?: components["parameters"]["LiveAfter"];
      };
      header?: {
        /**
         * @description The `id` of the last event that you got. The stream goes on after it.
         * @example 7f3c91e2-1804-3
         */
        "Last-Event-ID"?: components["parameters"]["LastEventId"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The stream. `x-events` has the schema of the data of each event. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Cache-Control": components["headers"]["StreamCacheControl"];
          "X-Accel-Buffering": components["headers"]["AccelBuffering"];
          [name: string]: unknown;
        };
        content: {
          "text/event-stream": components["schemas"]["EventStream"];
        };
      };
      /** @description `show` is missing, is no id, or there are too many; or too many `after`. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description There are too many streams, or the service is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  listOrders: {
    parameters: {
      query?: {
        /** @description How many entries the page has at most. */
        limit?: components["parameters"]["Limit"];
        /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
        cursor?: components["parameters"]["Cursor"];
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description A page of orders. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Link: components["headers"]["NextLink"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Order"][];
        };
      };
      400: components["responses"]["BadPage"];
      401: components["responses"]["Unauthorized"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  createOrder: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "ticketId": "01a21ace-0eaf-7b4f-8fc5-2b5e0d6e8c11"
         *     }
         */
        "application/json": components["schemas"]["NewOrder"];
      };
    };
    responses: {
      /** @description The ticket is reserved for the caller. After a replay the body is that of the first answer, so read the order for its current state. */
      201: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Location: components["headers"]["Location"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Order"];
        };
      };
      /** @description `ticketId` is missing or is not an id. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      /** @description The caller is not signed in, or the account was deleted. */
      401: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "WWW-Authenticate": components["headers"]["WWWAuthenticate"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      403: components["responses"]["CrossOrigin"];
      /** @description There is no such ticket. */
      404: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      408: components["responses"]["RequestTimeout"];
      /** @description The ticket cannot be reserved by the caller now. With `reservation_cooldown` there is a `Retry-After`; with `own_reservation` the member `orderId` names the caller's order. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            /** @description With `own_reservation`: the order with which the caller holds the ticket. */
            orderId?: components["schemas"]["OrderId"];
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description The ticket is not known yet, or something that the service needs is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  countUnsettledOrders: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The number. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Unsettled"];
        };
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  listSales: {
    parameters: {
      query?: {
        /** @description Only sales of this show. */
        showId?: components["parameters"]["SalesShow"];
        /** @description The form of the answer. Without it, `Accept: text/csv` asks for CSV, and anything else for JSON. */
        format?: components["parameters"]["SalesFormat"];
        /** @description How many entries the page has at most. */
        limit?: components["parameters"]["Limit"];
        /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
        cursor?: components["parameters"]["Cursor"];
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description A page of sales, or all of them as CSV. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Link: components["headers"]["NextLink"];
          "Content-Disposition": components["headers"]["ContentDisposition"];
          "Cache-Control": components["headers"]["PrivateCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Sale"][];
          "text/csv": components["schemas"]["SalesFile"];
        };
      };
      /** @description A parameter does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  getOrder: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an order. */
        orderId: components["parameters"]["OrderId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The order. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Order"];
        };
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["NotBuyer"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  cancelOrder: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an order. */
        orderId: components["parameters"]["OrderId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The order is cancelled. */
      204: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content?: never;
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["NotBuyerOrCrossOrigin"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The order is complete, or was changed at the same moment. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  getPass: {
    parameters: {
      query?: {
        /** @description The form of the answer. Without it, `Accept` decides: `image/svg+xml`, `text/html` (303), or JSON. */
        format?: components["parameters"]["PassFormat"];
      };
      header?: never;
      path: {
        /** @description The id of an order. */
        orderId: components["parameters"]["OrderId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The pass, also if it is used. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Cache-Control": components["headers"]["PrivateCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Pass"];
          "image/svg+xml": components["schemas"]["PassPicture"];
        };
      };
      /** @description The page for people has the pass. A browser that asks for HTML gets it. */
      303: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Location: components["headers"]["PageLocation"];
          "Cache-Control": components["headers"]["PrivateCacheControl"];
          [name: string]: unknown;
        };
        content?: never;
      };
      /** @description `format` has a value that is not allowed. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["NotBuyer"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description There is no pass: the order is not complete, or its ticket has no show (`no_pass`). Or it is void: the order was cancelled after it was complete, or the ticket was sold again (`pass_void`). */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  listPayments: {
    parameters: {
      query: {
        /** @description An order of the caller. */
        orderId: components["schemas"]["OrderId"];
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description An array with the order's payment, or an empty one if nobody has tried to pay. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Payment"][];
        };
      };
      /** @description `orderId` is missing or is not an id. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["NotBuyer"];
      /** @description There is no such order. */
      404: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description The order is not known yet, or something that the service needs is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  createPayment: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        "application/json": components["schemas"]["NewPayment"];
      };
    };
    responses: {
      /** @description The order was paid before, or its payment waits for the bank. Nothing new was charged. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Location: components["headers"]["Location"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Payment"];
        };
      };
      /**
       * @description This request has caused the payment's state: `authorized`, or `requires_action`: the buyer must confirm it at the bank, with `clientSecret` (it can also be `captured` already). After a replay the
       *     body is that of the first answer, with a fresh `clientSecret`.
       */
      201: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Location: components["headers"]["Location"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Payment"];
        };
      };
      /** @description A member does not follow its rules, or Stripe does not know or take the payment method, the token or the amount. The code is then Stripe's ([list](https://docs.stripe.com/error-codes)), as `resource_missing`. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      /** @description The bank declined the card. The code is the bank's ([list](https://docs.stripe.com/declines/codes)); codes that would help a thief are shown as `card_declined`. The buyer may pay with another card. */
      402: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      403: components["responses"]["NotBuyerOrCrossOrigin"];
      /** @description There is no such order. */
      404: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      408: components["responses"]["RequestTimeout"];
      /** @description The order cannot be paid. Nothing was charged. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      /** @description Too many requests, or too many of the caller's cards were declined within an hour. */
      429: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description The order is not known yet, or something that the service needs is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  getPayment: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of a payment. */
        paymentId: components["parameters"]["PaymentId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The payment. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Payment"];
        };
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["NotBuyer"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  receiveStripeEvent: {
    parameters: {
      query?: never;
      header: {
        /**
         * @description The time of the request and its signature. It is valid for 300 seconds.
         * @example t=1764000000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd
         */
        "Stripe-Signature": string;
      };
      path?: never;
      cookie?: never;
    };
    /** @description An [event](https://docs.stripe.com/api/events) of Stripe. */
    requestBody: {
      content: {
        "application/json": Record<string, never>;
      };
    };
    responses: {
      /** @description The event is handled. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["StripeEventReceipt"];
        };
      };
      /** @description The signature does not fit the body, or is too old. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      408: components["responses"]["RequestTimeout"];
      409: components["responses"]["Conflict"];
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description Payments has no webhook secret, or something that it needs is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  listWebhooks: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description All endpoints, oldest first, without their secrets. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Webhook"][];
        };
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  createWebhook: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "url": "https://tickets.example/hooks",
         *       "events": [
         *         "order.completed",
         *         "order.cancelled"
         *       ],
         *       "description": "Our server"
         *     }
         */
        "application/json": components["schemas"]["NewWebhook"];
      };
    };
    responses: {
      /** @description The endpoint is added. A replay has the same body, with the secret. */
      201: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Location: components["headers"]["Location"];
          ETag: components["headers"]["ETag"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["WebhookWithSecret"];
        };
      };
      /** @description A member does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["CrossOrigin"];
      408: components["responses"]["RequestTimeout"];
      /** @description The account has five endpoints, or the key was used with another body. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  getWebhook: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The endpoint, without its secret. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Webhook"];
        };
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  updateWebhook: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description The `ETag` that you have read. `*` and none mean any version.
         * @example "3"
         */
        "If-Match"?: components["parameters"]["IfMatch"];
      };
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        /**
         * @example {
         *       "url": "https://tickets.example/hooks",
         *       "events": [
         *         "order.created",
         *         "order.completed",
         *         "order.cancelled"
         *       ],
         *       "status": "enabled"
         *     }
         */
        "application/json": components["schemas"]["WebhookChange"];
      };
    };
    responses: {
      /** @description The changed endpoint. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Webhook"];
        };
      };
      /** @description A member does not follow its rules. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["CrossOrigin"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description It has changed since it was read. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      415: components["responses"]["UnsupportedMedia"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  deleteWebhook: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The endpoint is removed. */
      204: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content?: never;
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["CrossOrigin"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      409: components["responses"]["Conflict"];
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  rotateWebhookSecret: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The endpoint with its new secret. A replay has the same body. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["ETag"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["WebhookWithSecret"];
        };
      };
      /** @description The key is too long, or the request is not valid HTTP. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["CrossOrigin"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The key was used with another body, or the endpoint was changed by somebody else at the same moment, again and again. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  testWebhook: {
    parameters: {
      query?: never;
      header?: {
        /**
         * @description Makes the request safe to repeat for 24 hours: the same key of the same caller for the same path, with the same body, is done once. Later ones get the first success again, with `Idempotent-Replayed: true`. Errors are not
         *     kept: after one, the same key may be used again. A random UUID is a good key.
         * @example beb12998-f19a-4da9-a220-33ad8ffa229b
         */
        "Idempotency-Key"?: components["parameters"]["IdempotencyKey"];
      };
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The delivery, which is under way. A replay has the same body, and sends nothing. */
      202: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Idempotent-Replayed": components["headers"]["IdempotentReplayed"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Delivery"];
        };
      };
      /** @description The key is too long, or the request is not valid HTTP. */
      400: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["CrossOrigin"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The endpoint is disabled, or the key was used with another body. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  listDeliveries: {
    parameters: {
      query?: {
        /** @description How many entries the page has at most. */
        limit?: components["parameters"]["Limit"];
        /** @description Where the page begins. Take it from the `Link` of the page before, and do not make one. */
        cursor?: components["parameters"]["Cursor"];
      };
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description A page of deliveries. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          Link: components["headers"]["NextLink"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Delivery"][];
        };
      };
      400: components["responses"]["BadPage"];
      401: components["responses"]["Unauthorized"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ReadUnavailable"];
    };
  };
  redeliver: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        /** @description The id of an endpoint. */
        webhookId: components["parameters"]["WebhookId"];
        /** @description The id of a delivery. */
        deliveryId: components["parameters"]["DeliveryId"];
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The delivery, which is under way again. */
      202: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Delivery"];
        };
      };
      400: components["responses"]["BadRequest"];
      401: components["responses"]["Unauthorized"];
      403: components["responses"]["CrossOrigin"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      /** @description The endpoint is disabled. */
      409: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
      413: components["responses"]["TooLarge"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      503: components["responses"]["ChangeUnavailable"];
    };
  };
  getHealth: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description It runs. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Health"];
        };
      };
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
    };
  };
  getReadiness: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The system is ready. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["Readiness"];
        };
      };
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description Something that the system needs is away, or it starts or shuts down. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            checks: components["schemas"]["Checks"];
            errors?: unknown;
          };
        };
      };
    };
  };
  getKeys: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The keys. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          /**
           * @description How long the answer may be kept.
           * @example public, max-age=60
           */
          "Cache-Control"?: string;
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["KeySet"];
        };
      };
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description Auth is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  getPassKeys: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The keys. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          /**
           * @description How long the answer may be kept.
           * @example public, max-age=60
           */
          "Cache-Control"?: string;
          [name: string]: unknown;
        };
        content: {
          "application/json": components["schemas"]["KeySet"];
        };
      };
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
      /** @description Orders is away. */
      503: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          "Retry-After": components["headers"]["RetryAfter"];
          [name: string]: unknown;
        };
        content: {
          "application/problem+json": components["schemas"]["Problem"] & {
            errors?: unknown;
          };
        };
      };
    };
  };
  getOpenAPI: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The document, as JSON. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["DocumentCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "application/json": Record<string, never>;
        };
      };
      304: components["responses"]["NotModified"];
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
    };
  };
  getAsyncAPI: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The document, as JSON. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["DocumentCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "application/json": Record<string, never>;
        };
      };
      304: components["responses"]["NotModified"];
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
    };
  };
  getSchema: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path: {
        /**
         * @description The type of the event.
         * @example order.created
         */
        type: string;
        /**
         * @description The number of the schema.
         * @example 1
         */
        version: number;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The schema (JSON Schema 2020-12). */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["DocumentCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "application/schema+json": Record<string, never>;
        };
      };
      304: components["responses"]["NotModified"];
      400: components["responses"]["BadRequest"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
    };
  };
  getDocs: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The page. Its assets are below this path. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["DocumentCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "text/html": string;
        };
      };
      304: components["responses"]["NotModified"];
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
    };
  };
  getEventDocs: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The page. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["DocumentCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "text/html": string;
        };
      };
      304: components["responses"]["NotModified"];
      400: components["responses"]["BadRequest"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
    };
  };
  getDocsAsset: {
    parameters: {
      query?: never;
      header?: {
        /** @description The `ETag` of a copy that you have. */
        "If-None-Match"?: components["parameters"]["IfNoneMatch"];
      };
      path: {
        /**
         * @description The name of the file.
         * @example swagger-ui.css
         */
        asset: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The file. */
      200: {
        headers: {
          "X-Request-Id": components["headers"]["RequestId"];
          "RateLimit-Policy": components["headers"]["RateLimitPolicy"];
          RateLimit: components["headers"]["RateLimit"];
          ETag: components["headers"]["DocumentETag"];
          "Cache-Control": components["headers"]["DocumentCacheControl"];
          [name: string]: unknown;
        };
        content: {
          "text/css": string;
          "text/javascript": string;
          "image/png": unknown;
        };
      };
      304: components["responses"]["NotModified"];
      400: components["responses"]["BadRequest"];
      404: components["responses"]["NotFound"];
      408: components["responses"]["RequestTimeout"];
      429: components["responses"]["RateLimited"];
      431: components["responses"]["HeadersTooLarge"];
      500: components["responses"]["Internal"];
    };
  };
  receiveMessage: {
    parameters: {
      query?: never;
      header: {
        /** @description The same for all attempts of a message. It is the delivery's `id`. */
        "webhook-id": components["schemas"]["DeliveryId"];
        /**
         * @description When this attempt was made, in seconds since 1970. Refuse one that is more than five minutes away from your clock.
         * @example 1795746047
         */
        "webhook-timestamp": string;
        /**
         * @description One to five signatures with spaces between: `v1,` and the base64 of the HMAC-SHA256 of `ID.TIMESTAMP.BODY`. There are several while secrets are being replaced.
         * @example v1,PeZVXoSZ+R4SJFjic1PXx7Bej67VutV7r68JBsVqcgg=
         */
        "webhook-signature": string;
      };
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        "application/json": components["schemas"]["WebhookMessage"];
      };
    };
    responses: {
      /** @description You have the message. The body is ignored; its first 1024 bytes are kept for the list of deliveries. */
      "2XX": {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      /** @description The message is sent again. */
      default: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
    };
  };
}
