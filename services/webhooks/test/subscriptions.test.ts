import { expect, test } from "vitest";
import { Refusal } from "../src/dapr.ts";
import type { Delivery } from "../src/delivery.ts";
import { Metrics } from "../src/metrics.ts";
import { Problem } from "../src/problem.ts";
import { Subscriptions } from "../src/subscriptions.ts";
import {
  addEndpoint,
  buyer,
  bulk,
  Clock,
  envelope,
  logTo,
  newReplica,
  noon,
  orderData,
  seller,
  stranger,
  ticketData,
} from "./fixtures.ts";
import { MemorySidecar } from "./sidecar.ts";

async function setUp() {
  const sidecar = new MemorySidecar();
  const clock = new Clock();
  const replica = await newReplica(sidecar, clock);
  const begun: Delivery[] = [];
  const lines: Record<string, unknown>[] = [];
  const subscriptions = new Subscriptions({
    store: replica.store,
    registry: replica.registry,
    begin: (delivery) => begun.push(delivery),
    sidecar,
    metrics: new Metrics(),
    log: logTo(lines),
    instance: "one",
    publicUrl: "https://tickets.example",
    maxDeliveries: 3,
    now: clock.now,
  });
  const handle = async (topic: string, ...events: unknown[]) => {
    const { statuses } = await subscriptions.handle(bulk(topic, events));
    return statuses.map(({ status }) => status);
  };
  return { sidecar, clock, ...replica, begun, handle, lines };
}

const order = (more?: Record<string, unknown>) => envelope("order.completed", orderData(), more);

test("what becomes of a pass goes to those who asked for it", async () => {
  const { store, begun, handle } = await setUp();
  await addEndpoint(store, seller, ["order.updated"]);
  await addEndpoint(store, buyer, ["order.completed"]);
  const used = envelope("order.updated", { ...orderData(2), usedAt: noon.toISOString() });
  expect(await handle("events.orders", used)).toEqual(["SUCCESS"]);
  expect(begun.map(({ userId, eventType }) => [userId, eventType])).toEqual([[seller, "order.updated"]]);
});

test("an order's event goes to its buyer and its seller, and to nobody else", async () => {
  const { store, begun, handle } = await setUp();
  for (const user of [seller, buyer, stranger]) {
    await addEndpoint(store, user, ["order.completed", "ticket.created"]);
  }
  expect(await handle("events.orders", order())).toEqual(["SUCCESS"]);
  expect(new Set(begun.map(({ userId }) => userId))).toEqual(new Set([seller, buyer]));
  const message = (user: string) => begun.find(({ userId }) => userId === user)?.body ?? "";
  expect(message(seller)).not.toContain(buyer);
  expect(JSON.parse(message(buyer))).toMatchObject({ role: "buyer", data: orderData() });
});

test("a ticket's event goes to its seller", async () => {
  const { store, begun, handle } = await setUp();
  await addEndpoint(store, seller, ["ticket.created"]);
  await addEndpoint(store, stranger, ["ticket.created"]);
  await handle("events.tickets", envelope("ticket.created", ticketData()), envelope("ticket.deleted", ticketData(2)));
  expect(begun.map(({ userId, eventType }) => [userId, eventType])).toEqual([[seller, "ticket.created"]]);
});

test("an endpoint that another replica has made gets the next event", async () => {
  const { sidecar, clock, begun, handle } = await setUp();
  const other = await newReplica(sidecar, clock, "two");
  await addEndpoint(other.store, seller, ["ticket.created"]);
  await handle("events.tickets", envelope("ticket.created", ticketData()));
  expect(begun).toHaveLength(1);
});

test("a delivery is stored before its event is acknowledged", async () => {
  const { store, sidecar, begun, handle } = await setUp();
  await addEndpoint(store, seller, ["ticket.created"]);
  sidecar.before = () => {
    throw new Refusal("transact", 500, "disk full");
  };
  const event = envelope("ticket.created", ticketData());
  expect(await handle("events.tickets", event)).toEqual(["RETRY"]);
  expect(begun).toEqual([]);
  sidecar.before = () => undefined;
  expect(await handle("events.tickets", event)).toEqual(["SUCCESS"]);
  expect(begun).toHaveLength(1);
});

test("repeats, also those that a reconciliation or a person publishes, are delivered once", async () => {
  const { store, begun, handle } = await setUp();
  await addEndpoint(store, seller, ["order.completed"]);
  const again = order({ id: "order.completed:x:1/reconciled-7", republished: "7" });
  expect(await handle("events.orders", order(), order(), again)).toEqual(["SUCCESS", "SUCCESS", "SUCCESS"]);
  expect(await handle("events.orders", order())).toEqual(["SUCCESS"]);
  expect(await handle("retry.webhooks", order({ id: "order.completed:x:1/again-1@webhooks" }))).toEqual(["SUCCESS"]);
  expect(begun).toHaveLength(1);
});

test("events of users without endpoints cost one read a bulk", async () => {
  const { sidecar, handle } = await setUp();
  sidecar.reads = 0;
  sidecar.transactions = 0;
  const events = Array.from({ length: 64 }, (_, n) => envelope("order.completed", orderData(n + 1)));
  expect(await handle("events.orders", ...events)).toEqual(events.map(() => "SUCCESS"));
  expect(sidecar.reads).toBe(1);
  expect(sidecar.transactions).toBe(0);
});

test("the deliveries of a bulk share a transaction", async () => {
  const { store, sidecar, begun, handle } = await setUp();
  await addEndpoint(store, seller, ["order.completed"]);
  sidecar.transactions = 0;
  await handle("events.orders", ...Array.from({ length: 64 }, (_, n) => envelope("order.completed", orderData(n + 1))));
  expect(begun).toHaveLength(64);
  expect(sidecar.transactions).toBe(1);
});

test("types that are not handled are acknowledged", async () => {
  const { sidecar, handle } = await setUp();
  const created = envelope("user.created", { id: stranger, version: 1 });
  expect(await handle("events.users", created)).toEqual(["SUCCESS"]);
  expect(sidecar.published).toEqual([]);
});

test("the endpoints of a deleted account are removed", async () => {
  const { store, registry, handle } = await setUp();
  await addEndpoint(store, seller, ["ticket.created"]);
  await handle(
    "events.users",
    envelope("user.deleted", { id: seller, version: 2 }, { dataschema: "urn:boxoffice:user.deleted:2" }),
  );
  await registry.refresh();
  expect(registry.has(seller)).toBe(false);
});

test.each([
  ["no JSON", "{", "undecodable", "events.orders"],
  ["no object", "[1]", "undecodable", "events.orders"],
  ["a higher schema", order({ dataschema: "https://x/api/schemas/order.completed/2" }), "undecodable", "events.orders"],
  [
    "a higher schema of an earlier release",
    order({ dataschema: "urn:boxoffice:order.completed:2" }),
    "undecodable",
    "events.orders",
  ],
  ["no aggregate", envelope("order.completed", { version: 1 }), "undecodable", "events.orders"],
  ["no version", envelope("order.completed", { id: "x" }), "undecodable", "events.orders"],
  ["a topic of another owner", order(), "foreign", "events.tickets"],
])("an event with %s becomes a dead letter and is acknowledged", async (_what, event, code, topic) => {
  const { sidecar, handle } = await setUp();
  expect(await handle(topic, event)).toEqual(["SUCCESS"]);
  const [published] = sidecar.published;
  expect(published?.topic).toBe("dead.webhooks");
  const letter = JSON.parse(published?.event ?? "") as Record<string, unknown>;
  expect(letter).toMatchObject({
    specversion: "1.0",
    type: "event.dead",
    source: "/webhooks",
    datacontenttype: "application/json",
  });
  expect(letter["data"]).toMatchObject({ service: "webhooks", instance: "one", code, attempts: 1 });
  const content = letter["data"] as { event?: unknown; raw?: string };
  expect(content.event ?? Buffer.from(content.raw ?? "", "base64").toString()).toEqual(
    typeof event === "string" && event !== "[1]" ? event : typeof event === "string" ? [1] : event,
  );
});

test.each(["urn:boxoffice:order.completed:1", "http://any.host/api/schemas/order.completed/1", undefined, "else"])(
  "the schema %s is read",
  async (dataschema) => {
    const { store, begun, handle } = await setUp();
    await addEndpoint(store, seller, ["order.completed"]);
    await handle("events.orders", order({ dataschema }));
    expect(begun).toHaveLength(1);
  },
);

test("while the broker does not take a dead letter, its event is delivered again", async () => {
  const { sidecar, handle } = await setUp();
  sidecar.brokerAway = true;
  expect(await handle("events.orders", "{")).toEqual(["RETRY"]);
});

test("a defect is tried again, and then becomes a dead letter", async () => {
  const { sidecar, store, handle } = await setUp();
  await addEndpoint(store, seller, ["order.completed"]);
  store.add = () => Promise.reject(new TypeError("a defect"));
  expect(await handle("events.orders", order())).toEqual(["RETRY"]);
  expect(await handle("events.orders", order())).toEqual(["RETRY"]);
  expect(await handle("events.orders", order())).toEqual(["SUCCESS"]);
  expect(JSON.parse(sidecar.published[0]?.event ?? "")).toMatchObject({
    data: { code: "failed", attempts: 3, reason: "a defect" },
  });
});

test("after a conflict an event is delivered again, however often", async () => {
  const { sidecar, store, begun, handle } = await setUp();
  await addEndpoint(store, seller, ["order.completed"]);
  const add = store.add.bind(store);
  const message = "Somebody else changed this at the same moment.";
  store.add = () => Promise.reject(new Problem("conflict", { code: "conflict", message }));
  for (let n = 0; n < 5; n++) {
    expect(await handle("events.orders", order())).toEqual(["RETRY"]);
  }
  store.add = add;
  expect(await handle("events.orders", order())).toEqual(["SUCCESS"]);
  expect(begun).toHaveLength(1);
  expect(sidecar.published).toEqual([]);
});

test("an event's trace is in the log", async () => {
  const { handle, lines } = await setUp();
  await handle("events.tickets", order({ traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }));
  expect(lines.at(-1)).toMatchObject({ level: "ERROR", traceId: "0af7651916cd43dd8448eb211c80319c" });
});
