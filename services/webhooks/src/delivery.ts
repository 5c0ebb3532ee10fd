// A delivery: one event for one endpoint. Its life:
//
//   pending ──(an attempt was answered with 2xx)──▶ delivered
//           ──(three days of attempts, or the endpoint is disabled or removed)──▶ failed
//
// A delivery can be sent once more, and is pending again then. While it is pending it belongs to the slot of its next attempt:
// the process that begins an attempt first moves it to a later one (the lease), so that it is attempted again if that process ends.
//
// The rules take the time as an argument and do no I/O.
import { createHash } from "node:crypto";
import type { Schemas } from "./contract.ts";
import type { Account, Endpoint } from "./endpoint.ts";
import { testType, type EventType } from "./endpoint.ts";

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

/** Bounds one attempt: connection, request, and the first bytes of the answer. */
export const attemptTime = 15 * second;
/** How long an attempt may take with its wait for other attempts to the endpoint. Then another one is due. */
const leaseTime = 30 * second;
/** The longest pause of a delivery that is put off again and again. It becomes up to twice as long, at random. */
const longestPutOff = 4 * minute;
/** How long after its time an attempt is found at the latest, unless its slot was lost. */
const overdueTime = minute;
/** For how long a delivery is attempted. */
export const retryTime = 72 * hour;
/** How long a delivery is kept. */
export const keptSeconds = 30 * 24 * 60 * 60;
/** How many bytes of an answer are kept. */
export const keptBytes = 1024;

/** The pauses between attempts. The last one repeats. Each becomes up to a fifth longer, at random. */
export const pauses: readonly number[] = [
  5 * second,
  30 * second,
  2 * minute,
  10 * minute,
  30 * minute,
  hour,
  3 * hour,
  6 * hour,
];

/** An attempt: its time, and the status and beginning of the answer, or why there was none. */
export type Attempt = Schemas["DeliveryAttempt"];

export interface Delivery {
  schema: 1;
  id: string;
  userId: string;
  endpointId: string;
  eventId: string;
  eventType: EventType | typeof testType;
  /** When the event happened. */
  eventAt: string;
  /** What is sent: JSON. */
  body: string;
  status: "pending" | "delivered" | "failed";
  attempts: number;
  /** Failures in a row since the delivery became pending. */
  failures: number;
  createdAt: string;
  /** After this time it is attempted no more. */
  until: string;
  /** The slot, while it is pending: seconds since 1970. */
  due?: number;
  /** How often it was put off since its last attempt. */
  putOff?: number;
  lastAttempt?: Attempt;
}

/** A role of the endpoint's owner in an event. */
export type Role = Schemas["WebhookMessage"]["role"];

/** An event of the catalogue, as far as this service reads it. */
export interface MarketEvent {
  /** The same for each publication of the event: its type, aggregate and version. */
  id: string;
  type: EventType;
  at: Date;
  data: Record<string, unknown>;
  /** Whether a reconciliation has published the event again. */
  republished: boolean;
}

/** Whose event it is: the users who get it, with their roles. */
export function audienceOf(event: MarketEvent): Map<string, Role> {
  const audience = new Map<string, Role>();
  const add = (user: unknown, role: Role) => {
    if (typeof user === "string" && user !== "") {
      audience.set(user, role);
    }
  };
  if (event.type.startsWith("ticket.")) {
    add(event.data["userId"], "seller");
  } else {
    add(event.data["sellerId"], "seller");
    add(event.data["userId"], "buyer");
  }
  return audience;
}

/** What is sent about an event to an endpoint of a user with this role. A seller does not learn who the buyer is. */
export function messageOf(event: MarketEvent, role: Role): string {
  let data = event.data;
  if (role === "seller" && event.type.startsWith("order.")) {
    const { userId: _, ...redacted } = data;
    data = redacted;
  }
  return JSON.stringify({ type: event.type, timestamp: event.at.toISOString(), role, data });
}

/** The endpoints of an account that get an event. */
export function recipientsOf(account: Account, event: MarketEvent): Endpoint[] {
  return account.endpoints.filter(
    (endpoint) =>
      endpoint.status === "enabled" &&
      endpoint.events.includes(event.type) &&
      // What a reconciliation publishes again may be older than the endpoint.
      !(event.republished && occurredAt(event) < new Date(endpoint.createdAt)),
  );
}

function occurredAt(event: MarketEvent): Date {
  const { version, createdAt, updatedAt } = event.data;
  const at = new Date(String(version === 1 ? createdAt : updatedAt));
  return Number.isNaN(at.getTime()) ? event.at : at;
}

/** The id of a delivery, and of its message: the same whenever the event comes again. */
export function deliveryId(endpointId: string, eventId: string): string {
  return "msg_" + createHash("sha256").update(`${endpointId}\n${eventId}`).digest("base64url").slice(0, 27);
}

/** A delivery whose first attempt begins at once. */
export function newDelivery(
  endpointId: string,
  userId: string,
  event: { id: string; type: Delivery["eventType"]; at: Date },
  body: string,
  now: Date,
): Delivery {
  return {
    schema: 1,
    id: deliveryId(endpointId, event.id),
    userId,
    endpointId,
    eventId: event.id,
    eventType: event.type,
    eventAt: event.at.toISOString(),
    body,
    status: "pending",
    attempts: 0,
    failures: 0,
    createdAt: now.toISOString(),
    until: new Date(now.getTime() + retryTime).toISOString(),
    due: leasedSlot(now),
  };
}

/** The slot of a time: the next whole second. */
export function slotOf(time: number): number {
  return Math.ceil(time / second);
}

/** The slot of a delivery whose attempt begins soon. The lease ends with it. */
export function leasedSlot(now: Date): number {
  return slotOf(now.getTime() + leaseTime);
}

/** Whether an attempt is due for longer than any job or sweep takes to find it. */
export function isOverdue(delivery: Delivery, now: Date): boolean {
  return delivery.status === "pending" && now.getTime() > (delivery.due ?? 0) * second + overdueTime;
}

/** Until when an attempt may begin, so that it ends within the lease. In milliseconds since 1970. */
export function latestBegin(delivery: Delivery): number {
  return (delivery.due ?? 0) * second - attemptTime;
}

/** The slot of a delivery for which there is no room, and that was put off so often before. random is from 0 to 1. */
export function laterSlot(now: Date, putOff: number, random: number): number {
  return slotOf(now.getTime() + Math.min(longestPutOff, leaseTime * 2 ** putOff) * (1 + random));
}

/** Makes a delivery pending again, for three more days. */
export function redeliver(delivery: Delivery, now: Date): Delivery {
  const until = new Date(now.getTime() + retryTime).toISOString();
  const { putOff: _, ...rest } = delivery;
  return { ...rest, status: "pending", failures: 0, until, due: leasedSlot(now) };
}

/** The delivery after an attempt. random is from 0 to 1. */
export function afterAttempt(delivery: Delivery, attempt: Attempt, now: Date, random: number): Delivery {
  const { due: _, putOff: _putOff, ...rest } = delivery;
  const attempted = { ...rest, attempts: delivery.attempts + 1, lastAttempt: attempt };
  if (isSuccess(attempt)) {
    return { ...attempted, status: "delivered" };
  }
  const failures = delivery.failures + 1;
  const next = now.getTime() + pauseAfter(failures, random);
  if (delivery.status !== "pending" || next > Date.parse(delivery.until)) {
    return { ...attempted, failures, status: delivery.status === "delivered" ? "delivered" : "failed" };
  }
  return { ...attempted, failures, due: slotOf(next) };
}

/** Ends a delivery whose endpoint is disabled or removed. */
export function abandon(delivery: Delivery): Delivery {
  const { due: _, ...rest } = delivery;
  return { ...rest, status: "failed" };
}

export function isSuccess(attempt: Attempt): boolean {
  return attempt.status !== undefined && attempt.status >= 200 && attempt.status < 300;
}

/** The pause after so many failures in a row, in milliseconds. */
export function pauseAfter(failures: number, random: number): number {
  const pause = pauses[Math.min(failures, pauses.length) - 1] ?? 0;
  return Math.round(pause * (1 + random / 5));
}

/** How long the document of a delivery is still kept. */
export function secondsLeft(delivery: Delivery, now: Date): number {
  const end = Math.max(Date.parse(delivery.createdAt) + keptSeconds * second, Date.parse(delivery.until) + 24 * hour);
  return Math.max(60, Math.ceil((end - now.getTime()) / second));
}

/** The event of a test. */
export function testEvent(id: string, now: Date): { id: string; type: typeof testType; at: Date } {
  return { id: `${testType}:${id}`, type: testType, at: now };
}

/** What is sent to test an endpoint. */
export function testMessage(now: Date): string {
  const message: Schemas["WebhookMessage"] = { type: testType, timestamp: now.toISOString(), role: "seller", data: {} };
  return JSON.stringify(message);
}
