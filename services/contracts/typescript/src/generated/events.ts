// Generated from services/contracts/schemas by: npm run generate

/**
 * Event is a CloudEvents 1.0 envelope. Its id consists of type, aggregate and version, so an event that is published again is the same event: the broker may drop it, and handlers treat it as a redelivery.
 */
export interface Envelope {
  /**
   * The version of the CloudEvents specification.
   */
  specversion: "1.0";
  /**
   * The event's identity: TYPE:AGGREGATE:VERSION, for example order.created:01980c2b-7f3a-7c11-9a3e-6f2d8b1c4e5f:1. An event that a reconciliation or an operator has published again has an id of its own: the first one with a suffix that begins with /.
   */
  id: string;
  /**
   * `source` is the service that published the event, with a / before its name.
   */
  source: string;
  /**
   * The event's type, which decides its topic.
   */
  type: string;
  /**
   * `subject` is the id of the aggregate that has changed.
   */
  subject: string;
  /**
   * `time` is when the event was made: when its change was decided, or when it was published again.
   */
  time: string;
  /**
   * `datacontenttype` is the media type of the data.
   */
  datacontenttype: "application/json";
  /**
   * `dataschema` is where the gateway serves the JSON Schema of the data: PUBLIC_URL/api/schemas/TYPE/NUMBER. The number is what counts for readers, not the host. In events of the previous release it is urn:boxoffice:TYPE:NUMBER.
   */
  dataschema: string;
  /**
   * The public state of the aggregate after the change, as dataschema describes it.
   */
  data: {
    [k: string]: unknown;
  };
  /**
   * `traceid` repeats traceparent, because Dapr writes its own trace into an event without it.
   */
  traceid?: string;
  /**
   * `traceparent` is that of W3C trace context, as in the CloudEvents distributed tracing extension: 55 characters. It is absent or "" if the event belongs to no trace. There is no trace state: it comes from clients and has no bounded length.
   */
  traceparent?: string;
  /**
   * `republished` is the id of the reconciliation that published the event again. It is absent in other events.
   */
  republished?: string;
}

/**
 * DeadLetter is an event that a service could not handle, with the reason, the times and the process. It is published on the service's topic for dead letters, in its own envelope.
 */
export interface DeadLetter1 {
  /**
   * The service that could not handle the event. Readers take it from the topic, where only that service can publish.
   */
  service: string;
  /**
   * `instance` is the process: its host and port, or its pod.
   */
  instance: string;
  /**
   * `code` is the kind of the reason.
   * - `undecodable`: events do not have the format of their type. No service will ever be able to decode them.
   * - `foreign`: events came on a topic that is not that of their type, so that their publisher is unknown.
   * - `refused`: events were decoded, and can never be applied.
   * - `failed`: events were delivered several times, and their handler failed each time.
   * - `given up`: events come from a service's sidecar, which could not deliver them and gives no reason.
   */
  code: "undecodable" | "foreign" | "refused" | "failed" | "given up";
  /**
   * `reason` is the text of the last error.
   */
  reason: string;
  /**
   * `attempts` is how many deliveries to this process have failed.
   */
  attempts: number;
  /**
   * `firstFailure` is when the first of them failed.
   */
  firstFailure: string;
  /**
   * `lastFailure` is when the last of them failed.
   */
  lastFailure: string;
  /**
   * `eventId` is the event's id. It is absent if it cannot be decoded.
   */
  eventId?: string;
  /**
   * `eventType` is the event's type. It is absent if it cannot be decoded.
   */
  eventType?: string;
  /**
   * The whole event as it was delivered. It is absent if that is not JSON.
   */
  event?: {
    [k: string]: unknown;
  };
  /**
   * `raw` is what was delivered, in base64, if it is not JSON.
   */
  raw?: string;
}

/**
 * `expiration.complete` as earlier releases published it: of one order, and again until that was paid or cancelled. This release publishes number 2, with all orders of a slot. Such events may still be in the stream.
 */
export interface ExpirationComplete1 {
  /**
   * The order whose reservation window has ended.
   */
  orderId: string;
  /**
   * `expiresAt` is the end of the window, with up to nine digits of a second.
   */
  expiresAt: string;
  /**
   * `firing` counts the events of the order.
   */
  firing: number;
}

/**
 * `expiration.complete` is published when the reservation windows of some orders have ended. Such a group of orders, a slot, may have several events, or none. An event may name orders that were paid or cancelled before, and may name an order twice: only the service orders decides what is cancelled.
 */
export interface ExpirationComplete2 {
  /**
   * `slot` is the group's name. Together with the part, it identifies the event.
   */
  slot: string;
  /**
   * `endsAt` is when the last of the windows ended.
   */
  endsAt: string;
  /**
   * `part` counts the events of the slot.
   */
  part: number;
  /**
   * The orders whose windows have ended, 200 at most.
   *
   * @minItems 1
   *
   * Items: ExpiredOrder is an order whose reservation window has ended.
   */
  orders: [
    {
      /**
       * The order's id.
       */
      id: string;
      /**
       * `expiresAt` is the end of the window.
       */
      expiresAt: string;
    },
    ...{
      /**
       * The order's id.
       */
      id: string;
      /**
       * `expiresAt` is the end of the window.
       */
      expiresAt: string;
    }[],
  ];
}

/**
 * `order.cancelled` is published when an order has ended without a sale, or when its sale was refunded. If the reason is `unknown`, only the order's id, its status and its version are reliable, and ids that are not known are "".
 *
 * Order is the public state of an order: one buyer's purchase of one ticket.
 */
export interface OrderCancelled1 {
  /**
   * The order's id.
   */
  id: string;
  /**
   * The buyer's id. It may be "" if `reason` is `unknown`.
   */
  userId: string;
  /**
   * `sellerId` is who listed the ticket. It is absent in events of earlier releases, and if the orders service does not know it.
   */
  sellerId?: string;
  /**
   * `status` is the order's state.
   * - `created`: the ticket is reserved, and not paid yet
   * - `complete`: the money is authorized, and the ticket belongs to the buyer
   * - `cancelled`: it has ended, and does not change any more
   */
  status: "created" | "complete" | "cancelled";
  /**
   * `reason` is why the order was cancelled. It is absent if it is not cancelled.
   * - `user`: the buyer cancelled it
   * - `expired`: it was not paid before the end of the reservation window
   * - `withdrawn`: the seller deleted the listing
   * - `payment`: its payment was voided
   * - `refunded`: all of the money was given back
   * - `unknown`: the orders service has no such order: it was restored from an older backup
   */
  reason?: "user" | "expired" | "withdrawn" | "payment" | "refunded" | "unknown";
  /**
   * `expiresAt` is the end of the reservation window: unless it is paid before, the order is cancelled then.
   */
  expiresAt: string;
  /**
   * The ticket as it was when it was reserved.
   */
  ticket: {
    /**
     * The ticket's id. It may be "" if `reason` is `unknown`.
     */
    id: string;
    /**
     * What was for sale.
     */
    title: string;
    /**
     * `price` is what the buyer pays, in the currency's minor unit.
     */
    price: number;
    /**
     * `currency` is an ISO 4217 code in lower case.
     */
    currency: string;
    /**
     * `showId` is the show that the ticket is for. It is absent if the ticket has no show.
     */
    showId?: string;
    /**
     * `seat` is where the ticket's holder sits or stands. It is absent if the seller named no place.
     */
    seat?: {
      /**
       * `section` is a part of the venue.
       */
      section?: string;
      /**
       * `row` is a row of the section.
       */
      row?: string;
      /**
       * `number` is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
       */
      number?: string;
    };
  };
  /**
   * `sequence` grows with every change of a reservation of the ticket, over all orders of that ticket. Of two events about one ticket, the one with the higher sequence is the newer.
   */
  sequence: number;
  /**
   * `usedAt` is when the order's pass was used at the entrance. It is absent if it was not.
   */
  usedAt?: string;
  /**
   * `resoldAt` is when another order bought the place from this order's buyer: the pass is void. It is absent if the place was not resold, or if that sale was given back.
   */
  resoldAt?: string;
  /**
   * `version` grows with every event of the order.
   */
  version: number;
  /**
   * `createdAt` is when the ticket was reserved.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the order changed last.
   */
  updatedAt: string;
}

/**
 * `order.completed` is published when the order's money is authorized: the ticket belongs to the buyer.
 *
 * Order is the public state of an order: one buyer's purchase of one ticket.
 */
export interface OrderCompleted1 {
  /**
   * The order's id.
   */
  id: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `sellerId` is who listed the ticket. It is absent in events of earlier releases, and if the orders service does not know it.
   */
  sellerId?: string;
  /**
   * `status` is the order's state.
   * - `created`: the ticket is reserved, and not paid yet
   * - `complete`: the money is authorized, and the ticket belongs to the buyer
   * - `cancelled`: it has ended, and does not change any more
   */
  status: "created" | "complete" | "cancelled";
  /**
   * `reason` is why the order was cancelled. It is absent if it is not cancelled.
   * - `user`: the buyer cancelled it
   * - `expired`: it was not paid before the end of the reservation window
   * - `withdrawn`: the seller deleted the listing
   * - `payment`: its payment was voided
   * - `refunded`: all of the money was given back
   * - `unknown`: the orders service has no such order: it was restored from an older backup
   */
  reason?: "user" | "expired" | "withdrawn" | "payment" | "refunded" | "unknown";
  /**
   * `expiresAt` is the end of the reservation window: unless it is paid before, the order is cancelled then.
   */
  expiresAt: string;
  /**
   * The ticket as it was when it was reserved.
   */
  ticket: {
    /**
     * The ticket's id.
     */
    id: string;
    /**
     * What was for sale.
     */
    title: string;
    /**
     * `price` is what the buyer pays, in the currency's minor unit.
     */
    price: number;
    /**
     * `currency` is an ISO 4217 code in lower case.
     */
    currency: string;
    /**
     * `showId` is the show that the ticket is for. It is absent if the ticket has no show.
     */
    showId?: string;
    /**
     * `seat` is where the ticket's holder sits or stands. It is absent if the seller named no place.
     */
    seat?: {
      /**
       * `section` is a part of the venue.
       */
      section?: string;
      /**
       * `row` is a row of the section.
       */
      row?: string;
      /**
       * `number` is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
       */
      number?: string;
    };
  };
  /**
   * `sequence` grows with every change of a reservation of the ticket, over all orders of that ticket. Of two events about one ticket, the one with the higher sequence is the newer.
   */
  sequence: number;
  /**
   * `usedAt` is when the order's pass was used at the entrance. It is absent if it was not.
   */
  usedAt?: string;
  /**
   * `resoldAt` is when another order bought the place from this order's buyer: the pass is void. It is absent if the place was not resold, or if that sale was given back.
   */
  resoldAt?: string;
  /**
   * `version` grows with every event of the order.
   */
  version: number;
  /**
   * `createdAt` is when the ticket was reserved.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the order changed last.
   */
  updatedAt: string;
}

/**
 * `order.created` is published when a ticket was reserved.
 *
 * Order is the public state of an order: one buyer's purchase of one ticket.
 */
export interface OrderCreated1 {
  /**
   * The order's id.
   */
  id: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `sellerId` is who listed the ticket. It is absent in events of earlier releases, and if the orders service does not know it.
   */
  sellerId?: string;
  /**
   * `status` is the order's state.
   * - `created`: the ticket is reserved, and not paid yet
   * - `complete`: the money is authorized, and the ticket belongs to the buyer
   * - `cancelled`: it has ended, and does not change any more
   */
  status: "created" | "complete" | "cancelled";
  /**
   * `reason` is why the order was cancelled. It is absent if it is not cancelled.
   * - `user`: the buyer cancelled it
   * - `expired`: it was not paid before the end of the reservation window
   * - `withdrawn`: the seller deleted the listing
   * - `payment`: its payment was voided
   * - `refunded`: all of the money was given back
   * - `unknown`: the orders service has no such order: it was restored from an older backup
   */
  reason?: "user" | "expired" | "withdrawn" | "payment" | "refunded" | "unknown";
  /**
   * `expiresAt` is the end of the reservation window: unless it is paid before, the order is cancelled then.
   */
  expiresAt: string;
  /**
   * The ticket as it was when it was reserved.
   */
  ticket: {
    /**
     * The ticket's id.
     */
    id: string;
    /**
     * What was for sale.
     */
    title: string;
    /**
     * `price` is what the buyer pays, in the currency's minor unit.
     */
    price: number;
    /**
     * `currency` is an ISO 4217 code in lower case.
     */
    currency: string;
    /**
     * `showId` is the show that the ticket is for. It is absent if the ticket has no show.
     */
    showId?: string;
    /**
     * `seat` is where the ticket's holder sits or stands. It is absent if the seller named no place.
     */
    seat?: {
      /**
       * `section` is a part of the venue.
       */
      section?: string;
      /**
       * `row` is a row of the section.
       */
      row?: string;
      /**
       * `number` is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
       */
      number?: string;
    };
  };
  /**
   * `sequence` grows with every change of a reservation of the ticket, over all orders of that ticket. Of two events about one ticket, the one with the higher sequence is the newer.
   */
  sequence: number;
  /**
   * `usedAt` is when the order's pass was used at the entrance. It is absent if it was not.
   */
  usedAt?: string;
  /**
   * `resoldAt` is when another order bought the place from this order's buyer: the pass is void. It is absent if the place was not resold, or if that sale was given back.
   */
  resoldAt?: string;
  /**
   * `version` grows with every event of the order.
   */
  version: number;
  /**
   * `createdAt` is when the ticket was reserved.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the order changed last.
   */
  updatedAt: string;
}

/**
 * `order.updated` is published when the pass of a complete order was used, or became void because its place was resold, or became valid again because that sale was given back.
 *
 * Order is the public state of an order: one buyer's purchase of one ticket.
 */
export interface OrderUpdated1 {
  /**
   * The order's id.
   */
  id: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `sellerId` is who listed the ticket. It is absent in events of earlier releases, and if the orders service does not know it.
   */
  sellerId?: string;
  /**
   * `status` is the order's state.
   * - `created`: the ticket is reserved, and not paid yet
   * - `complete`: the money is authorized, and the ticket belongs to the buyer
   * - `cancelled`: it has ended, and does not change any more
   */
  status: "created" | "complete" | "cancelled";
  /**
   * `reason` is why the order was cancelled. It is absent if it is not cancelled.
   * - `user`: the buyer cancelled it
   * - `expired`: it was not paid before the end of the reservation window
   * - `withdrawn`: the seller deleted the listing
   * - `payment`: its payment was voided
   * - `refunded`: all of the money was given back
   * - `unknown`: the orders service has no such order: it was restored from an older backup
   */
  reason?: "user" | "expired" | "withdrawn" | "payment" | "refunded" | "unknown";
  /**
   * `expiresAt` is the end of the reservation window: unless it is paid before, the order is cancelled then.
   */
  expiresAt: string;
  /**
   * The ticket as it was when it was reserved.
   */
  ticket: {
    /**
     * The ticket's id.
     */
    id: string;
    /**
     * What was for sale.
     */
    title: string;
    /**
     * `price` is what the buyer pays, in the currency's minor unit.
     */
    price: number;
    /**
     * `currency` is an ISO 4217 code in lower case.
     */
    currency: string;
    /**
     * `showId` is the show that the ticket is for. It is absent if the ticket has no show.
     */
    showId?: string;
    /**
     * `seat` is where the ticket's holder sits or stands. It is absent if the seller named no place.
     */
    seat?: {
      /**
       * `section` is a part of the venue.
       */
      section?: string;
      /**
       * `row` is a row of the section.
       */
      row?: string;
      /**
       * `number` is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
       */
      number?: string;
    };
  };
  /**
   * `sequence` grows with every change of a reservation of the ticket, over all orders of that ticket. Of two events about one ticket, the one with the higher sequence is the newer.
   */
  sequence: number;
  /**
   * `usedAt` is when the order's pass was used at the entrance. It is absent if it was not.
   */
  usedAt?: string;
  /**
   * `resoldAt` is when another order bought the place from this order's buyer: the pass is void. It is absent if the place was not resold, or if that sale was given back.
   */
  resoldAt?: string;
  /**
   * `version` grows with every event of the order.
   */
  version: number;
  /**
   * `createdAt` is when the ticket was reserved.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the order changed last.
   */
  updatedAt: string;
}

/**
 * `payment.captured` is published when the money of a complete order was taken.
 *
 * Payment is the public state of a payment: the money of one order. Amounts are in the currency's minor unit.
 */
export interface PaymentCaptured1 {
  /**
   * The payment's id.
   */
  id: string;
  /**
   * The order that is paid.
   */
  orderId: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `stripeId` is the id of the PaymentIntent at Stripe. It is "" if the payment ended before there was one.
   */
  stripeId: string;
  /**
   * `status` is the payment's state.
   * - `authorized`: the money is held, and not taken yet
   * - `captured`: the money was taken
   * - `voided`: it ended before any money was taken
   * - `refunded`: all of the money was given back
   * - `failed`: the last attempt was declined; the buyer may try again
   */
  status: "authorized" | "captured" | "voided" | "refunded" | "failed";
  /**
   * `amount` is the order's price.
   */
  amount: number;
  /**
   * `currency` is an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * `refunded` is what was given back: the sum of all refunds and of all disputes that were lost. It is absent if that is 0, and in events of earlier releases, which published only full refunds.
   */
  refunded?: number;
  /**
   * `declineCode` is why the bank declined the card, in Stripe's words. It is absent if there was no decline.
   */
  declineCode?: string;
  /**
   * `dispute` is Stripe's status of the last dispute. It is absent if there was none.
   */
  dispute?: string;
  /**
   * `version` grows with every change of the payment. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the payment began.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the payment changed last.
   */
  updatedAt: string;
}

/**
 * `payment.created` is published when the buyer's money is authorized: it is held, and not taken yet.
 *
 * Payment is the public state of a payment: the money of one order. Amounts are in the currency's minor unit.
 */
export interface PaymentCreated1 {
  /**
   * The payment's id.
   */
  id: string;
  /**
   * The order that is paid.
   */
  orderId: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `stripeId` is the id of the PaymentIntent at Stripe. It is "" if the payment ended before there was one.
   */
  stripeId: string;
  /**
   * `status` is the payment's state.
   * - `authorized`: the money is held, and not taken yet
   * - `captured`: the money was taken
   * - `voided`: it ended before any money was taken
   * - `refunded`: all of the money was given back
   * - `failed`: the last attempt was declined; the buyer may try again
   */
  status: "authorized" | "captured" | "voided" | "refunded" | "failed";
  /**
   * `amount` is the order's price.
   */
  amount: number;
  /**
   * `currency` is an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * `refunded` is what was given back: the sum of all refunds and of all disputes that were lost. It is absent if that is 0, and in events of earlier releases, which published only full refunds.
   */
  refunded?: number;
  /**
   * `declineCode` is why the bank declined the card, in Stripe's words. It is absent if there was no decline.
   */
  declineCode?: string;
  /**
   * `dispute` is Stripe's status of the last dispute. It is absent if there was none.
   */
  dispute?: string;
  /**
   * `version` grows with every change of the payment. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the payment began.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the payment changed last.
   */
  updatedAt: string;
}

/**
 * `payment.failed` is published when an attempt was declined. The reservation stays: the buyer may try again.
 *
 * Payment is the public state of a payment: the money of one order. Amounts are in the currency's minor unit.
 */
export interface PaymentFailed1 {
  /**
   * The payment's id.
   */
  id: string;
  /**
   * The order that is paid.
   */
  orderId: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `stripeId` is the id of the PaymentIntent at Stripe. It is "" if the payment ended before there was one.
   */
  stripeId: string;
  /**
   * `status` is the payment's state.
   * - `authorized`: the money is held, and not taken yet
   * - `captured`: the money was taken
   * - `voided`: it ended before any money was taken
   * - `refunded`: all of the money was given back
   * - `failed`: the last attempt was declined; the buyer may try again
   */
  status: "authorized" | "captured" | "voided" | "refunded" | "failed";
  /**
   * `amount` is the order's price.
   */
  amount: number;
  /**
   * `currency` is an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * `refunded` is what was given back: the sum of all refunds and of all disputes that were lost. It is absent if that is 0, and in events of earlier releases, which published only full refunds.
   */
  refunded?: number;
  /**
   * `declineCode` is why the bank declined the card, in Stripe's words. It is absent if there was no decline.
   */
  declineCode?: string;
  /**
   * `dispute` is Stripe's status of the last dispute. It is absent if there was none.
   */
  dispute?: string;
  /**
   * `version` grows with every change of the payment. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the payment began.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the payment changed last.
   */
  updatedAt: string;
}

/**
 * `payment.refunded` is published when captured money was given back, whole or in part (see `refunded`). It is also published when a refund has failed, so that less is given back than in an earlier event.
 *
 * Payment is the public state of a payment: the money of one order. Amounts are in the currency's minor unit.
 */
export interface PaymentRefunded1 {
  /**
   * The payment's id.
   */
  id: string;
  /**
   * The order that is paid.
   */
  orderId: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `stripeId` is the id of the PaymentIntent at Stripe. It is "" if the payment ended before there was one.
   */
  stripeId: string;
  /**
   * `status` is the payment's state.
   * - `authorized`: the money is held, and not taken yet
   * - `captured`: the money was taken
   * - `voided`: it ended before any money was taken
   * - `refunded`: all of the money was given back
   * - `failed`: the last attempt was declined; the buyer may try again
   */
  status: "authorized" | "captured" | "voided" | "refunded" | "failed";
  /**
   * `amount` is the order's price.
   */
  amount: number;
  /**
   * `currency` is an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * `refunded` is what was given back: the sum of all refunds and of all disputes that were lost. It is absent if that is 0, and in events of earlier releases, which published only full refunds.
   */
  refunded?: number;
  /**
   * `declineCode` is why the bank declined the card, in Stripe's words. It is absent if there was no decline.
   */
  declineCode?: string;
  /**
   * `dispute` is Stripe's status of the last dispute. It is absent if there was none.
   */
  dispute?: string;
  /**
   * `version` grows with every change of the payment. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the payment began.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the payment changed last.
   */
  updatedAt: string;
}

/**
 * `payment.voided` is published when an authorization was voided before money was taken.
 *
 * Payment is the public state of a payment: the money of one order. Amounts are in the currency's minor unit.
 */
export interface PaymentVoided1 {
  /**
   * The payment's id.
   */
  id: string;
  /**
   * The order that is paid.
   */
  orderId: string;
  /**
   * The buyer's id.
   */
  userId: string;
  /**
   * `stripeId` is the id of the PaymentIntent at Stripe. It is "" if the payment ended before there was one.
   */
  stripeId: string;
  /**
   * `status` is the payment's state.
   * - `authorized`: the money is held, and not taken yet
   * - `captured`: the money was taken
   * - `voided`: it ended before any money was taken
   * - `refunded`: all of the money was given back
   * - `failed`: the last attempt was declined; the buyer may try again
   */
  status: "authorized" | "captured" | "voided" | "refunded" | "failed";
  /**
   * `amount` is the order's price.
   */
  amount: number;
  /**
   * `currency` is an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * `refunded` is what was given back: the sum of all refunds and of all disputes that were lost. It is absent if that is 0, and in events of earlier releases, which published only full refunds.
   */
  refunded?: number;
  /**
   * `declineCode` is why the bank declined the card, in Stripe's words. It is absent if there was no decline.
   */
  declineCode?: string;
  /**
   * `dispute` is Stripe's status of the last dispute. It is absent if there was none.
   */
  dispute?: string;
  /**
   * `version` grows with every change of the payment. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the payment began.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the payment changed last.
   */
  updatedAt: string;
}

/**
 * `show.cancelled` is published when the owner has cancelled a show, or has deleted the account before it started: it does not take place. Its version is higher than those of all other events of the show.
 *
 * Show is the public state of a show: an event at a venue, for which tickets are sold.
 */
export interface ShowCancelled1 {
  /**
   * The show's id.
   */
  id: string;
  /**
   * What is on.
   */
  name: string;
  /**
   * The building or the place.
   */
  venue: string;
  /**
   * The venue's city.
   */
  city: string;
  /**
   * The venue's country: an ISO 3166-1 alpha-2 code in upper case.
   */
  country: string;
  /**
   * `startsAt` is when the show starts: sales end then.
   */
  startsAt: string;
  /**
   * `timeZone` is that of the venue, as the IANA time zone database names it.
   */
  timeZone: string;
  /**
   * `category` is what kind of show it is, a word in lower case: music, theatre, comedy, dance, sport, family, festival or other. Further ones may come.
   */
  category: string;
  /**
   * `description` is the owner's text about the show.
   */
  description?: string;
  /**
   * `maxMarkup` is by how many percent a ticket's price may exceed its face value. It is absent if prices have no cap.
   */
  maxMarkup?: number;
  /**
   * `image` is absent if the owner has uploaded none.
   */
  image?: {
    /**
     * `url` is the path at the gateway. What is there never changes: another image has another path.
     */
    url: string;
    /**
     * `width` is in pixels.
     */
    width: number;
    /**
     * `height` is in pixels.
     */
    height: number;
  };
  /**
   * `status` is whether the show takes place.
   * - `scheduled`: it takes place, or has taken place
   * - `cancelled`: it does not take place, and does not change any more
   */
  status: "scheduled" | "cancelled";
  /**
   * The owner's id.
   */
  userId: string;
  /**
   * `version` grows with every event of the show.
   */
  version: number;
  /**
   * `createdAt` is when the owner announced the show.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the show changed last.
   */
  updatedAt: string;
}

/**
 * `show.created` is published when an owner has announced a show.
 *
 * Show is the public state of a show: an event at a venue, for which tickets are sold.
 */
export interface ShowCreated1 {
  /**
   * The show's id.
   */
  id: string;
  /**
   * What is on.
   */
  name: string;
  /**
   * The building or the place.
   */
  venue: string;
  /**
   * The venue's city.
   */
  city: string;
  /**
   * The venue's country: an ISO 3166-1 alpha-2 code in upper case.
   */
  country: string;
  /**
   * `startsAt` is when the show starts: sales end then.
   */
  startsAt: string;
  /**
   * `timeZone` is that of the venue, as the IANA time zone database names it.
   */
  timeZone: string;
  /**
   * `category` is what kind of show it is, a word in lower case: music, theatre, comedy, dance, sport, family, festival or other. Further ones may come.
   */
  category: string;
  /**
   * `description` is the owner's text about the show.
   */
  description?: string;
  /**
   * `maxMarkup` is by how many percent a ticket's price may exceed its face value. It is absent if prices have no cap.
   */
  maxMarkup?: number;
  /**
   * `image` is absent if the owner has uploaded none.
   */
  image?: {
    /**
     * `url` is the path at the gateway. What is there never changes: another image has another path.
     */
    url: string;
    /**
     * `width` is in pixels.
     */
    width: number;
    /**
     * `height` is in pixels.
     */
    height: number;
  };
  /**
   * `status` is whether the show takes place.
   * - `scheduled`: it takes place, or has taken place
   * - `cancelled`: it does not take place, and does not change any more
   */
  status: "scheduled" | "cancelled";
  /**
   * The owner's id.
   */
  userId: string;
  /**
   * `version` grows with every event of the show.
   */
  version: number;
  /**
   * `createdAt` is when the owner announced the show.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the show changed last.
   */
  updatedAt: string;
}

/**
 * `show.updated` is published when the owner has changed a show, or its image.
 *
 * Show is the public state of a show: an event at a venue, for which tickets are sold.
 */
export interface ShowUpdated1 {
  /**
   * The show's id.
   */
  id: string;
  /**
   * What is on.
   */
  name: string;
  /**
   * The building or the place.
   */
  venue: string;
  /**
   * The venue's city.
   */
  city: string;
  /**
   * The venue's country: an ISO 3166-1 alpha-2 code in upper case.
   */
  country: string;
  /**
   * `startsAt` is when the show starts: sales end then.
   */
  startsAt: string;
  /**
   * `timeZone` is that of the venue, as the IANA time zone database names it.
   */
  timeZone: string;
  /**
   * `category` is what kind of show it is, a word in lower case: music, theatre, comedy, dance, sport, family, festival or other. Further ones may come.
   */
  category: string;
  /**
   * `description` is the owner's text about the show.
   */
  description?: string;
  /**
   * `maxMarkup` is by how many percent a ticket's price may exceed its face value. It is absent if prices have no cap.
   */
  maxMarkup?: number;
  /**
   * `image` is absent if the owner has uploaded none.
   */
  image?: {
    /**
     * `url` is the path at the gateway. What is there never changes: another image has another path.
     */
    url: string;
    /**
     * `width` is in pixels.
     */
    width: number;
    /**
     * `height` is in pixels.
     */
    height: number;
  };
  /**
   * `status` is whether the show takes place.
   * - `scheduled`: it takes place, or has taken place
   * - `cancelled`: it does not take place, and does not change any more
   */
  status: "scheduled" | "cancelled";
  /**
   * The owner's id.
   */
  userId: string;
  /**
   * `version` grows with every event of the show.
   */
  version: number;
  /**
   * `createdAt` is when the owner announced the show.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the show changed last.
   */
  updatedAt: string;
}

/**
 * `ticket.created` is published when a seller has listed a ticket.
 *
 * Ticket is the public state of a ticket, as its seller offers it.
 */
export interface TicketCreated1 {
  /**
   * The ticket's id.
   */
  id: string;
  /**
   * What is for sale, in the seller's words.
   */
  title: string;
  /**
   * `price` is in the currency's minor unit: cents, if the currency is usd.
   */
  price: number;
  /**
   * `currency` is that of the price: an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * The seller's id.
   */
  userId: string;
  /**
   * `status` is the ticket's availability, as the tickets service knows it. What orders publishes is newer.
   * - `available`: it can be reserved
   * - `reserved`: an order that is not paid yet has it
   * - `sold`: a complete order has it
   * - `withheld`: after a refund, until the seller changes the listing
   */
  status: "available" | "reserved" | "sold" | "withheld";
  /**
   * `orderId` is the order that has the ticket. It is absent unless the ticket is reserved or sold.
   */
  orderId?: string;
  /**
   * `sequence` is that of the last order's event that the tickets service has applied. It is absent if there was none, and in events of earlier releases.
   */
  sequence?: number;
  /**
   * `showId` is the show that the ticket is for. It is absent if the ticket has no show. It never changes.
   */
  showId?: string;
  /**
   * `seat` is where the ticket's holder sits or stands. It is absent if the seller named no place. It never changes.
   */
  seat?: {
    /**
     * `section` is a part of the venue.
     */
    section?: string;
    /**
     * `row` is a row of the section.
     */
    row?: string;
    /**
     * `number` is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
     */
    number?: string;
  };
  /**
   * `faceValue` is the price that the show's owner has set for the ticket, in the currency's minor unit. It is absent if the ticket has no show.
   */
  faceValue?: number;
  /**
   * `salesEndAt` is when the show starts: the ticket cannot be reserved from then on. It is absent if the ticket has no show.
   */
  salesEndAt?: string;
  /**
   * `showOwnerId` is the owner of the show. It is absent if the ticket has no show, and in events of earlier releases, in which the seller is the owner.
   */
  showOwnerId?: string;
  /**
   * `resaleOf` is what the seller resells: the ticket and the complete order whose pass admits to the place. It is absent unless the ticket is a resale. It never changes.
   */
  resaleOf?: {
    /**
     * The ticket that the seller has bought.
     */
    ticketId: string;
    /**
     * The seller's order of that ticket.
     */
    orderId: string;
  };
  /**
   * `revoked` is true if the ticket is void, because its show was cancelled or another ticket has its place. An order that has it is cancelled, also a complete one, and its money is given back. It is absent in all events but `ticket.deleted`.
   */
  revoked?: boolean;
  /**
   * `version` grows with every change of the ticket. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the ticket was listed.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the ticket changed last.
   */
  updatedAt: string;
}

/**
 * `ticket.deleted` is published when a listing was withdrawn or revoked. Its version is higher than those of all other events of the ticket.
 *
 * Ticket is the public state of a ticket, as its seller offers it.
 */
export interface TicketDeleted1 {
  /**
   * The ticket's id.
   */
  id: string;
  /**
   * What is for sale, in the seller's words.
   */
  title: string;
  /**
   * `price` is in the currency's minor unit: cents, if the currency is usd.
   */
  price: number;
  /**
   * `currency` is that of the price: an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * The seller's id.
   */
  userId: string;
  /**
   * `status` is the ticket's availability, as the tickets service knows it. What orders publishes is newer.
   * - `available`: it can be reserved
   * - `reserved`: an order that is not paid yet has it
   * - `sold`: a complete order has it
   * - `withheld`: after a refund, until the seller changes the listing
   */
  status: "available" | "reserved" | "sold" | "withheld";
  /**
   * `orderId` is the order that has the ticket. It is absent unless the ticket is reserved or sold.
   */
  orderId?: string;
  /**
   * `sequence` is that of the last order's event that the tickets service has applied. It is absent if there was none, and in events of earlier releases.
   */
  sequence?: number;
  /**
   * `showId` is the show that the ticket is for. It is absent if the ticket has no show. It never changes.
   */
  showId?: string;
  /**
   * `seat` is where the ticket's holder sits or stands. It is absent if the seller named no place. It never changes.
   */
  seat?: {
    /**
     * `section` is a part of the venue.
     */
    section?: string;
    /**
     * `row` is a row of the section.
     */
    row?: string;
    /**
     * `number` is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
     */
    number?: string;
  };
  /**
   * `faceValue` is the price that the show's owner has set for the ticket, in the currency's minor unit. It is absent if the ticket has no show.
   */
  faceValue?: number;
  /**
   * `salesEndAt` is when the show starts: the ticket cannot be reserved from then on. It is absent if the ticket has no show.
   */
  salesEndAt?: string;
  /**
   * `showOwnerId` is the owner of the show. It is absent if the ticket has no show, and in events of earlier releases, in which the seller is the owner.
   */
  showOwnerId?: string;
  /**
   * `resaleOf` is what the seller resells: the ticket and the complete order whose pass admits to the place. It is absent unless the ticket is a resale. It never changes.
   */
  resaleOf?: {
    /**
     * The ticket that the seller has bought.
     */
    ticketId: string;
    /**
     * The seller's order of that ticket.
     */
    orderId: string;
  };
  /**
   * `revoked` is true if the ticket is void, because its show was cancelled or another ticket has its place. An order that has it is cancelled, also a complete one, and its money is given back. It is absent in all events but `ticket.deleted`.
   */
  revoked?: boolean;
  /**
   * `version` grows with every change of the ticket. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the ticket was listed.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the ticket changed last.
   */
  updatedAt: string;
}

/**
 * `ticket.updated` is published when a seller has changed a ticket's title, price or face value, or when its show was moved to another time.
 *
 * Ticket is the public state of a ticket, as its seller offers it.
 */
export interface TicketUpdated1 {
  /**
   * The ticket's id.
   */
  id: string;
  /**
   * What is for sale, in the seller's words.
   */
  title: string;
  /**
   * `price` is in the currency's minor unit: cents, if the currency is usd.
   */
  price: number;
  /**
   * `currency` is that of the price: an ISO 4217 code in lower case.
   */
  currency: string;
  /**
   * The seller's id.
   */
  userId: string;
  /**
   * `status` is the ticket's availability, as the tickets service knows it. What orders publishes is newer.
   * - `available`: it can be reserved
   * - `reserved`: an order that is not paid yet has it
   * - `sold`: a complete order has it
   * - `withheld`: after a refund, until the seller changes the listing
   */
  status: "available" | "reserved" | "sold" | "withheld";
  /**
   * `orderId` is the order that has the ticket. It is absent unless the ticket is reserved or sold.
   */
  orderId?: string;
  /**
   * `sequence` is that of the last order's event that the tickets service has applied. It is absent if there was none, and in events of earlier releases.
   */
  sequence?: number;
  /**
   * `showId` is the show that the ticket is for. It is absent if the ticket has no show. It never changes.
   */
  showId?: string;
  /**
   * `seat` is where the ticket's holder sits or stands. It is absent if the seller named no place. It never changes.
   */
  seat?: {
    /**
     * `section` is a part of the venue.
     */
    section?: string;
    /**
     * `row` is a row of the section.
     */
    row?: string;
    /**
     * `number` is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
     */
    number?: string;
  };
  /**
   * `faceValue` is the price that the show's owner has set for the ticket, in the currency's minor unit. It is absent if the ticket has no show.
   */
  faceValue?: number;
  /**
   * `salesEndAt` is when the show starts: the ticket cannot be reserved from then on. It is absent if the ticket has no show.
   */
  salesEndAt?: string;
  /**
   * `showOwnerId` is the owner of the show. It is absent if the ticket has no show, and in events of earlier releases, in which the seller is the owner.
   */
  showOwnerId?: string;
  /**
   * `resaleOf` is what the seller resells: the ticket and the complete order whose pass admits to the place. It is absent unless the ticket is a resale. It never changes.
   */
  resaleOf?: {
    /**
     * The ticket that the seller has bought.
     */
    ticketId: string;
    /**
     * The seller's order of that ticket.
     */
    orderId: string;
  };
  /**
   * `revoked` is true if the ticket is void, because its show was cancelled or another ticket has its place. An order that has it is cancelled, also a complete one, and its money is given back. It is absent in all events but `ticket.deleted`.
   */
  revoked?: boolean;
  /**
   * `version` grows with every change of the ticket. Versions that were not published are missing.
   */
  version: number;
  /**
   * `createdAt` is when the ticket was listed.
   */
  createdAt: string;
  /**
   * `updatedAt` is when the ticket changed last.
   */
  updatedAt: string;
}

/**
 * `user.created` as earlier releases published it, when a user had signed up. This release publishes number 2, without the email. Such events may still be in the stream.
 */
export interface UserCreated1 {
  /**
   * The user's id.
   */
  id: string;
  /**
   * The user's email, in lower case.
   */
  email: string;
  /**
   * `version` grows with every event of the user.
   */
  version: number;
  /**
   * `createdAt` is when the user signed up, with up to nine digits of a second.
   */
  createdAt: string;
}

/**
 * `user.created` is published when a user has signed up.
 *
 * User is the public state of a user. Schema 1 had the email, which no other service needs; now only auth has it.
 */
export interface UserCreated2 {
  /**
   * The user's id.
   */
  id: string;
  /**
   * `version` grows with every event of the user.
   */
  version: number;
  /**
   * `createdAt` is when the user signed up.
   */
  createdAt: string;
}

/**
 * `user.deleted` is published when a user has deleted the account. Services end or delete what belongs to the user.
 *
 * User is the public state of a user. Schema 1 had the email, which no other service needs; now only auth has it.
 */
export interface UserDeleted2 {
  /**
   * The user's id.
   */
  id: string;
  /**
   * `version` grows with every event of the user.
   */
  version: number;
  /**
   * `createdAt` is when the user signed up.
   */
  createdAt: string;
}

/** The `data` of each type of event, in all its numbers: `dataschema` ends with the number. */
export interface Events {
  "event.dead": DeadLetter1;
  "expiration.complete": ExpirationComplete1 | ExpirationComplete2;
  "order.cancelled": OrderCancelled1;
  "order.completed": OrderCompleted1;
  "order.created": OrderCreated1;
  "order.updated": OrderUpdated1;
  "payment.captured": PaymentCaptured1;
  "payment.created": PaymentCreated1;
  "payment.failed": PaymentFailed1;
  "payment.refunded": PaymentRefunded1;
  "payment.voided": PaymentVoided1;
  "show.cancelled": ShowCancelled1;
  "show.created": ShowCreated1;
  "show.updated": ShowUpdated1;
  "ticket.created": TicketCreated1;
  "ticket.deleted": TicketDeleted1;
  "ticket.updated": TicketUpdated1;
  "user.created": UserCreated1 | UserCreated2;
  "user.deleted": UserDeleted2;
}

/** A type of events. */
export type EventType = keyof Events;
