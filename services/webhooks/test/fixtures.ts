import { DocumentStore } from "../src/documents.ts";
import type { EventType } from "../src/endpoint.ts";
import { newLog, type Log } from "../src/log.ts";
import { Registry } from "../src/registry.ts";
import { Store } from "../src/store.ts";
import { MemorySidecar } from "./sidecar.ts";

export const seller = "0197a1b2-c3d4-7e5f-8a9b-00000000000a";
export const buyer = "0197a1b2-c3d4-7e5f-8a9b-00000000000b";
export const stranger = "0197a1b2-c3d4-7e5f-8a9b-00000000000c";
export const noon = new Date("2030-01-02T12:00:00.000Z");

/** A time that a test moves. */
export class Clock {
  at = new Date(noon);
  readonly now = (): Date => new Date(this.at);

  advance(ms: number): void {
    this.at = new Date(this.at.getTime() + ms);
  }
}

export function logTo(lines: Record<string, unknown>[]): Log {
  return newLog({ logLevel: "debug", logFormat: "json" }, {}, (line) => {
    lines.push(JSON.parse(line) as Record<string, unknown>);
  });
}

export interface Replica {
  documents: DocumentStore;
  registry: Registry;
  store: Store;
}

/** A process of the service, at a sidecar in memory. Several may share one. */
export async function newReplica(sidecar: MemorySidecar, clock: Clock, instance = "one"): Promise<Replica> {
  const documents = new DocumentStore(sidecar);
  const registry = new Registry(documents);
  const store = new Store(documents, sidecar, logTo([]), instance, clock.now);
  await registry.start();
  await store.start();
  return { documents, registry, store };
}

/** Adds an endpoint, and returns its id. */
export async function addEndpoint(
  store: Store,
  userId: string,
  events: EventType[],
  url = "https://tickets.example/",
): Promise<string> {
  const { answer } = await store.create(userId, { url, events }, undefined, (endpoint) => ({
    status: 201,
    body: { id: endpoint.id },
  }));
  return (answer.body as { id: string }).id;
}

/** Replaces the secret of an endpoint, and returns the new one. */
export async function rotateSecret(store: Store, userId: string, id: string): Promise<string> {
  const { answer } = await store.rotate(userId, id, undefined, ({ secret }) => ({ status: 200, body: { secret } }));
  return (answer.body as { secret: string }).secret;
}

export function orderData(version = 1): Record<string, unknown> {
  return {
    id: "0197a1b2-c3d4-7e5f-8a9b-0000000000aa",
    userId: buyer,
    sellerId: seller,
    status: "complete",
    ticket: { id: "0197a1b2-c3d4-7e5f-8a9b-0000000000bb", title: "A", price: 5000, currency: "usd" },
    sequence: 1,
    version,
    createdAt: noon.toISOString(),
    updatedAt: noon.toISOString(),
  };
}

export function ticketData(version = 1): Record<string, unknown> {
  return {
    id: "0197a1b2-c3d4-7e5f-8a9b-0000000000bb",
    userId: seller,
    title: "A",
    price: 5000,
    version,
    createdAt: noon.toISOString(),
    updatedAt: noon.toISOString(),
  };
}

/** An event in its envelope, as a service publishes it. */
export function envelope(
  type: string,
  data: Record<string, unknown>,
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    specversion: "1.0",
    id: `${type}:${String(data["id"])}:${String(data["version"])}`,
    type,
    time: noon.toISOString(),
    dataschema: `http://localhost:8080/api/schemas/${type}/1`,
    data,
    ...more,
  };
}

/** A bulk, as the sidecar delivers it. */
export function bulk(topic: string, events: unknown[]): Buffer {
  const entries = events.map((event, i) => ({
    entryId: String(i),
    event: Buffer.from(typeof event === "string" ? event : JSON.stringify(event)).toString("base64"),
  }));
  return Buffer.from(JSON.stringify({ id: "x", topic, entries }));
}
