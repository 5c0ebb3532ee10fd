// Which events the service handles, and which decision each leads to. The duties of a subscriber are those of
// services/internal/events/router.go: events repeat and come in any order; one that cannot be decoded, or that came on a topic of
// another owner, becomes a dead letter; while something is away, or after a conflict, the event is delivered again; DROP is never answered.
import { createHash } from "node:crypto";
import type { Sidecar } from "./dapr.ts";
import { audienceOf, messageOf, newDelivery, recipientsOf, type Delivery, type MarketEvent, type Role } from "./delivery.ts";
import { eventTypes, type EventType } from "./endpoint.ts";
import { textOfError, type Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { isConflict, isUnavailable } from "./problem.ts";
import type { Registry } from "./registry.ts";
import type { Store } from "./store.ts";
import { traceOf, withTrace } from "./trace.ts";

const service = "webhooks";
const retryTopic = "retry." + service;
const deadLetterTopic = "dead." + service;
/** Bounds the events whose failures are counted. */
const rememberedFailures = 4096;

/** The types that are handled, with the highest number of their schema that this release reads. */
const schemas = new Map<string, number>([...eventTypes.map((type): [string, number] => [type, 1]), ["user.deleted", 2]]);

type Outcome = "success" | "ignored" | "retry" | "dead";
type Code = "undecodable" | "foreign" | "refused" | "failed";

/** A delivery of a topic's events: Dapr's bulk subscribe, with raw payloads in base64. */
interface Bulk {
  topic: string;
  entries: { entryId: string; event: unknown }[];
}

export interface BulkResponse {
  statuses: { entryId: string; status: "SUCCESS" | "RETRY" }[];
}

/** An event that no redelivery makes better. */
class Dead extends Error {
  readonly code: Code;

  constructor(code: Code, message: string) {
    super(message);
    this.code = code;
  }
}

interface Options {
  store: Pick<Store, "add" | "removeAccount">;
  registry: Registry;
  begin: (delivery: Delivery) => void;
  sidecar: Pick<Sidecar, "publish">;
  metrics: Metrics;
  log: Log;
  instance: string;
  publicUrl: string;
  maxDeliveries: number;
  now: () => Date;
}

export class Subscriptions {
  private readonly o: Options;
  private readonly counters = new Map<string, { inc(): void }>();
  private readonly failures = new Map<string, { attempts: number; first: Date }>();

  constructor(options: Options) {
    this.o = options;
  }

  /** Handles a bulk. Its events are handled in parallel, so that their changes share transactions. */
  async handle(body: Buffer): Promise<BulkResponse> {
    // One read for all of them. It begins after the bulk has come, so it has each endpoint that was made before the events. Nothing is
    // decoded before, so that most events are garbage at once, and need not be copied by the collector during the read.
    const refreshed = await outcomeOf(this.o.registry.refresh());
    const bulk = JSON.parse(body.toString()) as Bulk;
    const response: BulkResponse = { statuses: [] };
    const working: Promise<void>[] = [];
    for (const { entryId, event } of bulk.entries) {
      const outcome = this.deliver(decode(bulk.topic, rawOf(event)), refreshed);
      const entry: BulkResponse["statuses"][0] = { entryId, status: "SUCCESS" };
      response.statuses.push(entry);
      if (typeof outcome !== "string") {
        working.push(
          outcome.then((late) => {
            entry.status = late === "retry" ? "RETRY" : "SUCCESS";
          }),
        );
      }
    }
    await Promise.all(working);
    return response;
  }

  /** Handles one event. Most events concern nobody who has an endpoint: for these nothing is awaited. */
  private deliver(incoming: Incoming, refreshFailure: unknown): Outcome | Promise<Outcome> {
    const { type, data, error } = incoming;
    if (error !== undefined) {
      return this.fail(incoming, error);
    }
    if (!data) {
      return this.count(type, "ignored");
    }
    if (type === "user.deleted") {
      return this.finish(incoming, () => this.o.store.removeAccount(String(data["id"])));
    }
    if (refreshFailure !== undefined) {
      return this.fail(incoming, refreshFailure);
    }
    const { registry } = this.o;
    if (!registry.has(data["userId"]) && !registry.has(data["sellerId"])) {
      return this.handled(incoming);
    }
    const event = marketEventOf(incoming, data);
    const audience = [...audienceOf(event)].filter(([userId]) => registry.has(userId));
    return this.finish(incoming, () => this.addDeliveries(event, audience));
  }

  private async finish(incoming: Incoming, work: () => Promise<void>): Promise<Outcome> {
    try {
      await withTrace(traceOf(incoming.envelope["traceparent"]), work);
    } catch (error) {
      return this.fail(incoming, error);
    }
    return this.handled(incoming);
  }

  private handled({ type, envelope, raw }: Incoming): Outcome {
    const at = Date.parse(String(envelope["time"]));
    if (!Number.isNaN(at)) {
      this.o.metrics.eventAge.observe(Math.max(0, this.o.now().getTime() - at) / 1000);
    }
    if (this.failures.size > 0) {
      this.failures.delete(nameOf(envelope, raw));
    }
    return this.count(type, "success");
  }

  private async addDeliveries(event: MarketEvent, audience: [string, Role][]): Promise<void> {
    const accounts = await this.o.registry.accountsOf(audience.map(([userId]) => userId));
    const deliveries = audience.flatMap(([userId, role]) => {
      const account = accounts.get(userId);
      const recipients = account ? recipientsOf(account, event) : [];
      const body = recipients.length > 0 ? messageOf(event, role) : "";
      return recipients.map((endpoint) => newDelivery(endpoint.id, userId, event, body, this.o.now()));
    });
    await Promise.all(
      deliveries.map(async (delivery) => {
        const added = await this.o.store.add(delivery);
        if (added) {
          this.o.begin(added);
        }
      }),
    );
  }

  private async fail({ type, envelope, raw }: Incoming, error: unknown): Promise<Outcome> {
    const name = nameOf(envelope, raw);
    const attributes = { event: envelope["id"], type, traceId: traceOf(envelope["traceparent"]).traceId, error };
    const now = this.o.now();
    let failed = { attempts: 1, first: now };
    let code: Code = "failed";
    if (error instanceof Dead) {
      code = error.code;
    } else if (isUnavailable(error)) {
      this.o.log.warn("event will be delivered again: something that it needs is unavailable", attributes);
      return this.count(type, "retry");
    } else if (isConflict(error)) {
      this.o.log.warn("event will be delivered again: others changed the same documents", attributes);
      return this.count(type, "retry");
    } else {
      const before = this.failures.get(name);
      failed = { attempts: (before?.attempts ?? 0) + 1, first: before?.first ?? now };
      if (failed.attempts < this.o.maxDeliveries) {
        this.remember(name, failed);
        this.o.log.warn("event will be delivered again", { ...attributes, failures: failed.attempts });
        return this.count(type, "retry");
      }
    }
    const letter = {
      service,
      instance: this.o.instance,
      code,
      reason: textOfError(error),
      attempts: failed.attempts,
      firstFailure: failed.first.toISOString(),
      lastFailure: now.toISOString(),
      ...contentOf(raw),
    };
    try {
      await this.o.sidecar.publish(deadLetterTopic, this.letterEvent(letter, name, envelope["traceparent"], now));
    } catch (publishError) {
      const message = "the broker did not accept a dead letter; its event will be delivered again";
      this.o.log.warn(message, { ...attributes, broker: publishError });
      return this.count(type, "retry");
    }
    this.failures.delete(name);
    this.o.metrics.letters.inc({ code });
    this.o.log.error("event went to the dead letters", { ...attributes, code, attempts: failed.attempts });
    return this.count(type, "dead");
  }

  /** The envelope of a dead letter, as services/internal/events/dead_letter.go makes it. */
  private letterEvent(letter: object, name: string, traceParent: unknown, now: Date): string {
    const trace = traceOf(traceParent).parent;
    const subject = `${service}:${name}`;
    return JSON.stringify({
      specversion: "1.0",
      id: `event.dead:${subject}:1`,
      source: "/" + service,
      type: "event.dead",
      subject,
      time: now.toISOString(),
      datacontenttype: "application/json",
      dataschema: `${this.o.publicUrl}/api/schemas/event.dead/1`,
      data: letter,
      traceid: trace,
      traceparent: trace,
    });
  }

  private remember(name: string, failed: { attempts: number; first: Date }): void {
    const [oldest] = this.failures.keys();
    if (this.failures.size >= rememberedFailures && oldest !== undefined) {
      this.failures.delete(oldest);
    }
    this.failures.set(name, failed);
  }

  private count(type: string, outcome: Outcome): Outcome {
    const labels = { type: schemas.has(type) ? type : "unknown", outcome };
    const name = labels.type + outcome;
    let counter = this.counters.get(name);
    if (!counter) {
      counter = this.o.metrics.handled.labels(labels);
      this.counters.set(name, counter);
    }
    counter.inc();
    return outcome;
  }
}

/** An event of a bulk, as far as it can be decoded. */
interface Incoming {
  raw: string;
  envelope: Record<string, unknown>;
  type: string;
  /** Set for an event of a type that is handled. */
  data?: Record<string, unknown>;
  /** Why the event becomes a dead letter. */
  error?: unknown;
}

function decode(topic: string, raw: string): Incoming {
  const incoming: Incoming = { raw, envelope: {}, type: "" };
  try {
    const envelope = (incoming.envelope = envelopeOf(raw));
    const type = (incoming.type = String(envelope["type"]));
    if (topic !== retryTopic && topic !== topicOf(type)) {
      throw new Dead("foreign", `event is on a topic of another owner: type ${JSON.stringify(type)} came on the topic ${topic}`);
    }
    if (schemas.has(type)) {
      incoming.data = dataOf(type, envelope);
    }
  } catch (error) {
    incoming.error = error;
  }
  return incoming;
}

/** The event as the rules of deliveries need it. */
function marketEventOf({ type, envelope }: Incoming, data: Record<string, unknown>): MarketEvent {
  const time = new Date(String(envelope["time"]));
  return {
    id: `${type}:${String(data["id"])}:${String(data["version"])}`,
    type: type as EventType,
    at: Number.isNaN(time.getTime()) ? new Date() : time,
    data,
    republished: envelope["republished"] !== undefined && envelope["republished"] !== "",
  };
}

/** What a promise throws, or undefined. */
async function outcomeOf(work: Promise<void>): Promise<unknown> {
  try {
    await work;
    return undefined;
  } catch (error) {
    return error;
  }
}

/** The event as it was published. Without raw payloads, events arrive as JSON. */
function rawOf(event: unknown): string {
  return typeof event === "string" ? Buffer.from(event, "base64").toString() : JSON.stringify(event ?? null);
}

function envelopeOf(raw: string): Record<string, unknown> {
  let envelope: unknown;
  try {
    envelope = JSON.parse(raw);
  } catch (error) {
    throw new Dead("undecodable", `event cannot be decoded: ${textOfError(error)}`);
  }
  if (typeof envelope !== "object" || envelope === null || Array.isArray(envelope)) {
    throw new Dead("undecodable", "event cannot be decoded: it is not a JSON object");
  }
  return envelope as Record<string, unknown>;
}

/** The topic of a type: "events.orders" for "order.created". */
function topicOf(type: string): string {
  const dot = type.indexOf(".");
  return dot < 1 ? "" : `events.${type.slice(0, dot)}s`;
}

function dataOf(type: string, envelope: Record<string, unknown>): Record<string, unknown> {
  const schema = schemaOf(type, envelope["dataschema"]);
  const known = schemas.get(type) ?? 0;
  if (schema > known) {
    throw new Dead(
      "undecodable",
      `event cannot be decoded: it has schema ${schema} of ${type}, this service decodes up to ${known}`,
    );
  }
  const data = envelope["data"] as Record<string, unknown> | null | undefined;
  const { id, version } = data ?? {};
  if (typeof id !== "string" || id === "" || typeof version !== "number" || version < 1) {
    throw new Dead("undecodable", "event cannot be decoded: its data names no aggregate or no version");
  }
  return data ?? {};
}

/** The number of the data's schema: of …/api/schemas/TYPE/N, or, of earlier releases, urn:boxoffice:TYPE:N. 1 if there is none. */
function schemaOf(type: string, name: unknown): number {
  const text = typeof name === "string" ? name : "";
  for (const prefix of [`/api/schemas/${type}/`, `urn:boxoffice:${type}:`]) {
    const at = text.indexOf(prefix);
    if (at >= 0) {
      const number = Number(text.slice(at + prefix.length));
      return Number.isInteger(number) ? number : 1;
    }
  }
  return 1;
}

/** The event's id, or a hash of the event if it has no readable id. */
function nameOf(envelope: Record<string, unknown>, raw: string): string {
  const id = envelope["id"];
  return typeof id === "string" && id !== "" ? id : "sha256-" + createHash("sha256").update(raw).digest("hex").slice(0, 24);
}

/** The event of a dead letter, with its id and type as far as they can be decoded. */
function contentOf(raw: string): object {
  let event: unknown;
  try {
    event = JSON.parse(raw);
  } catch {
    return { raw: Buffer.from(raw).toString("base64") };
  }
  const { id, type } = (typeof event === "object" && event !== null ? event : {}) as Record<string, unknown>;
  return {
    ...(typeof id === "string" && id !== "" ? { eventId: id } : {}),
    ...(typeof type === "string" && type !== "" ? { eventType: type } : {}),
    event,
  };
}
