// Generated from services/contracts/openapi.yaml by: npm run generate

/** The codes of problems, each with the statuses that it occurs with. */
export interface Codes {
  /** `field` is missing or empty. What to do: correct the field. */
  required: 400;
  /** `field` is missing, and so is what may stand in its place. What to do: send one of them. */
  required_without: 400;
  /** `field` is sent together with what may stand in its place. What to do: send one of them. */
  excluded_with: 400;
  /** `field` is less or shorter than allowed; the message has the bounds. What to do: correct the field. */
  min: 400;
  /** `field` is more or longer than allowed; the message has the bounds. What to do: correct the field. */
  max: 400;
  /** `field` is not an id. What to do: correct the field. */
  uuid: 400;
  /** `field` is not an email address. What to do: correct the field. */
  email: 400;
  /** `field` has only spaces. What to do: correct the field. */
  notblank: 400;
  /** `field` has control characters, line ends, or characters that change the direction of text. What to do: remove them. */
  printable: 400;
  /** `field`, or the body, has another JSON type than expected. What to do: correct the program. */
  wrong_type: 400;
  /** the body has the character U+0000. What to do: remove it. */
  not_text: 400;
  /** the body is empty or is not JSON in UTF-8. What to do: correct the program. */
  not_json: 400;
  /** `field` has a value that is not allowed. What to do: correct the field; after a cursor: begin the list again. */
  invalid: 400;
  /** the request is not valid HTTP. What to do: correct the program. */
  bad_request: 400;
  /** a ticket that is sold again has the show, place, title and face value of its first sale; only its price can be chosen. What to do: send only the price. */
  resale_fixed: 400;
  /** `code` is not the code of a pass of this system. What to do: scan it again; let nobody in with it. */
  pass_invalid: 400;
  /** Stripe did not sign this event with our secret. What to do: compare `STRIPE_WEBHOOK_SECRET` with the secret of the endpoint at Stripe. */
  signature_invalid: 400;
  /** messages are not sent to this `url`: it is not https, or leads to an address that is not public. What to do: another url. */
  url_not_allowed: 400;
  /** the body is not an image of the type that is declared, or has too many pixels. What to do: another image. */
  image_invalid: 400;
  /** there is no token. What to do: sign in. */
  not_signed_in: 401;
  /** the token is not signed by auth. What to do: sign in. */
  token_invalid: 401;
  /** the token has expired. What to do: refresh, or sign in. */
  token_expired: 401;
  /** the token is revoked: signed out everywhere, password changed, account deleted, or a refresh token used twice. What to do: sign in. */
  token_revoked: 401;
  /** the refresh token is missing, unknown, expired, or was used before. What to do: sign in. */
  session_ended: 401;
  /** email or password is wrong. What to do: correct them. */
  invalid_credentials: 401;
  /** the account of this token was deleted. What to do: sign up. */
  account_deleted: 401;
  /** the password that confirms the change is wrong. What to do: correct it. */
  wrong_password: 403;
  /** the ticket is another seller's, or the show another owner's. What to do: nothing. */
  not_owner: 403;
  /** the show is another user's, who alone lists its tickets and checks passes. What to do: list it without a show; or sign in as its owner. */
  not_show_owner: 403;
  /** a page of another site sent the request, in a browser; nothing was done. What to do: send it from a page of the same origin, or from a program without `Origin`. */
  cross_origin: 403;
  /** the ticket to be sold again was not bought by the caller, or is not sold. What to do: nothing. */
  not_pass_holder: 403;
  /** the order or payment is another buyer's. What to do: nothing. */
  not_buyer: 403;
  /** there is nothing at this path, or nothing with this id; below `/api/webhooks` also: this system runs without webhooks. What to do: correct the path. */
  not_found: 404;
  /** there is no such ticket (any more). What to do: another ticket. */
  ticket_not_found: 404;
  /** there is no such show. What to do: correct the id. */
  show_not_found: 404;
  /** there is no such order. What to do: correct the id. */
  order_not_found: 404;
  /** the path has no such method. What to do: correct the program. */
  method_not_allowed: 405;
  /** 408: the request did not arrive in time, and was not handled. 503: the service did not finish in time, and a change may have been made. What to do: 408: send it again. 503: repeat it with the same `Idempotency-Key`, or read first. */
  timeout: 408 | 503;
  /** the email has an account. What to do: sign in, or another email. */
  email_in_use: 409;
  /** the account was changed at the same moment. What to do: sign in again. */
  account_changed: 409;
  /** the account has unsettled orders. What to do: pay or cancel them, or wait for the capture. */
  orders_unsettled: 409;
  /** another buyer's order has the ticket. What to do: later: it may become free. */
  ticket_reserved: 409;
  /** the caller has reserved this ticket already; `orderId` is the order. What to do: go on with that order. */
  own_reservation: 409;
  /** the ticket is sold. What to do: another ticket. */
  ticket_sold: 409;
  /** its sale was refunded, and the seller has not changed the listing since. What to do: another ticket, or later. */
  ticket_withheld: 409;
  /** its seller cannot sell the ticket any more: the pass was used, or is void. What to do: another ticket. */
  ticket_withdrawn: 409;
  /** the order is not complete, or its ticket has no show. What to do: read the order; a ticket without a show is delivered by its seller. */
  no_pass: 409;
  /** the pass is void: its order was cancelled, or the ticket was sold again. What to do: let nobody in with it; it cannot be sold. */
  pass_void: 409;
  /** the pass was used, so the ticket cannot be sold again. What to do: nothing. */
  pass_used: 409;
  /** the pass was used before; `usedAt` is when. What to do: let nobody in with it. */
  already_used: 409;
  /** the pass is for another show. What to do: check it in for its own show. */
  wrong_show: 409;
  /** the show has started: its tickets cannot be listed, changed or reserved, and it cannot be changed. What to do: another show. */
  show_started: 409;
  /** the show is cancelled. What to do: another show. */
  show_cancelled: 409;
  /** a ticket for this place of the show is listed already; of a ticket that is sold again: so it is. What to do: another place; or change that listing. */
  seat_listed: 409;
  /** the price is higher than the show allows (`maxMarkup`); `maxPrice` is the highest price. What to do: a lower price. */
  price_above_cap: 409;
  /** the ticket is the caller's own. What to do: another ticket. */
  own_ticket: 409;
  /** the caller's last order for the ticket expired, or was cancelled by the caller. What to do: after `Retry-After`. */
  reservation_cooldown: 409;
  /** the caller has ten unpaid orders (`RESERVATIONS_PER_USER`). What to do: pay or cancel one. */
  too_many_reservations: 409;
  /** it has changed since it was read. What to do: read it, and repeat the change on what it is now. */
  stale_version: 409;
  /** the order is complete: it is paid, and cannot be cancelled. What to do: read the order. */
  order_complete: 409;
  /** the order is cancelled; nothing was charged. What to do: read the order for the reason; reserve again. */
  order_cancelled: 409;
  /** the time to pay the order is over; nothing was charged. What to do: reserve again. */
  order_expired: 409;
  /** 409: five cards (`PAYMENT_ATTEMPTS`) were declined for the order. 429: too many wrong passwords for the account (`SIGNIN_FAILURES`), or declined cards of the caller within an hour (`PAYMENT_ATTEMPTS_PER_HOUR`). What to do: 409: nothing, the order cannot be paid. 429: after `Retry-After`. */
  too_many_attempts: 409 | 429;
  /** the key was used with another body. What to do: a new key for a new request. */
  idempotency_key_reused: 409;
  /** it was changed by others at the same moment; nothing was done. What to do: read it, and repeat. */
  conflict: 409;
  /** the account has five webhook endpoints. What to do: remove one. */
  too_many_endpoints: 409;
  /** the webhook endpoint is disabled. What to do: enable it (`PUT`). */
  endpoint_disabled: 409;
  /** the body is longer than 65,536 bytes (`BODY_LIMIT`), or an image longer than 2,000,000. What to do: a shorter one. */
  too_large: 413;
  /** the body is not declared as JSON, or an image not as JPEG, PNG or WebP. What to do: send its `Content-Type`. */
  unsupported_media_type: 415;
  /** the body is compressed. What to do: send it without compression. */
  unsupported_encoding: 415;
  /** too many requests of this address or user. What to do: after `Retry-After`. */
  rate_limited: 429;
  /** the request line and headers are too long. What to do: shorter ones, as fewer cookies. */
  headers_too_large: 431;
  /** a defect in a service; a change may have been made. What to do: report the `requestId`. */
  internal: 500;
  /** something that the service needs did not answer; nothing was changed. What to do: the same request again, after `Retry-After`. */
  unavailable: 503;
  /** the store did not answer whether the change was made, or the connection to the service broke; it may have been made. What to do: repeat it with the same `Idempotency-Key`, or read first. */
  outcome_unknown: 503;
  /** too many passwords wait to be hashed; nothing was done. What to do: after `Retry-After`. */
  overloaded: 503;
  /** the service has not fetched auth's keys yet; nothing was done. What to do: after `Retry-After`. */
  keys_unavailable: 503;
  /** the show, ticket or order in the body is so new that the service may not have its event yet; nothing was done. What to do: the same request again, after `Retry-After`. */
  not_yet_known: 503;
  /** orders does not answer whether an order is unsettled, so the account is not deleted. What to do: after `Retry-After`. */
  orders_unavailable: 503;
  /** Stripe did not answer, or not in time; the payment may have been made. What to do: the same request again: nothing is charged twice. */
  processor_unavailable: 503;
  /** payments has no `STRIPE_WEBHOOK_SECRET`. What to do: set it. */
  webhooks_off: 503;
  /** something that the system needs is away; `checks` has what. What to do: wait. */
  not_ready: 503;
  /** there are too many live streams of this address, or at this process. What to do: after `Retry-After`. */
  too_many_streams: 503;
  /** the gateway cannot reach the service; nothing was done. What to do: after `Retry-After`. */
  upstream_unavailable: 503;
  /** the service did not answer the gateway in 20 s (`UPSTREAM_TIMEOUT`); a change may have been made. What to do: repeat it with the same `Idempotency-Key`, or read first. */
  upstream_timeout: 503;
}

/** A code of the API. */
export type Code = keyof Codes;
