import { expect, test } from "vitest";
import { newDelivery, type Delivery } from "../src/delivery.ts";
import type { Account } from "../src/endpoint.ts";
import { Registry } from "../src/registry.ts";
import type { Store } from "../src/store.ts";
import { addEndpoint, Clock, newReplica, noon, rotateSecret, seller, stranger } from "./fixtures.ts";
import { MemorySidecar } from "./sidecar.ts";

const room = () => true;
const failed = { at: noon.toISOString(), durationMs: 1, status: 500 };
const answered = { at: noon.toISOString(), durationMs: 1, status: 200 };

function deliveryOf(endpointId: string, event: string, clock: Clock, userId = seller): Delivery {
  return newDelivery(endpointId, userId, { id: event, type: "ticket.created", at: clock.now() }, "{}", clock.now());
}

async function setUp() {
  const sidecar = new MemorySidecar();
  const clock = new Clock();
  const { store, registry, documents } = await newReplica(sidecar, clock);
  return { sidecar, clock, store, registry, documents };
}

/** Tests an endpoint, and returns the id of the delivery and what was begun. */
async function testEndpoint(store: Store, userId: string, endpointId: string): Promise<{ id: string; begun: string[] }> {
  const begun: string[] = [];
  const answerOf = ({ id }: Delivery) => ({ status: 202, body: id });
  const { answer } = await store.test(userId, endpointId, undefined, answerOf, ({ id }) => begun.push(id));
  return { id: answer.body as string, begun };
}

/** The deliveries that a sweep begins. */
async function sweep(store: Store): Promise<string[]> {
  const begun: string[] = [];
  await store.sweep(room, ({ id }) => begun.push(id));
  return begun;
}

/** Each pending delivery must be in the slot that it names. */
function requireSlots(sidecar: MemorySidecar): void {
  for (const key of sidecar.keys("delivery/")) {
    const delivery = sidecar.value<Delivery>(key);
    expect(delivery?.status === "pending", key).toBe(delivery?.due !== undefined);
    if (delivery?.due !== undefined) {
      const slots = sidecar
        .keys(`due/${delivery.due}/`)
        .flatMap((slot) => sidecar.value<{ deliveries: string[] }>(slot)?.deliveries);
      expect(slots).toContain(delivery.id);
    }
  }
}

test("another replica sees an endpoint as soon as it is made", async () => {
  const { sidecar, clock, store } = await setUp();
  const other = await newReplica(sidecar, clock, "two");
  expect(other.registry.has(seller)).toBe(false);
  await addEndpoint(store, seller, ["ticket.created"]);
  await other.registry.refresh();
  expect(other.registry.has(seller)).toBe(true);
  expect((await other.registry.accountsOf([seller])).get(seller)?.endpoints).toHaveLength(1);
});

test("the registry has accounts with an enabled endpoint only", async () => {
  const { store, registry } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const settings = { url: "https://tickets.example/", events: ["ticket.created" as const] };
  const has = async () => {
    await registry.refresh();
    return registry.has(seller);
  };
  expect(await has()).toBe(true);
  await store.update(seller, id, undefined, settings, "disabled");
  expect(await has()).toBe(false);
  await store.update(seller, id, undefined, settings, "enabled");
  expect(await has()).toBe(true);
  await store.remove(seller, id);
  expect(await has()).toBe(false);
});

test("while nothing changes, a refresh is one read, also for many at once", async () => {
  const { sidecar, registry } = await setUp();
  sidecar.reads = 0;
  await registry.refresh();
  expect(sidecar.reads).toBe(1);
  await Promise.all(Array.from({ length: 10 }, () => registry.refresh()));
  expect(sidecar.reads).toBe(2);
});

test("an account that has changed is read again", async () => {
  const { store, registry } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  await registry.refresh();
  await registry.accountsOf([seller]);
  await store.update(seller, id, undefined, { url: "https://tickets.example/b", events: ["ticket.deleted"] }, undefined);
  await registry.refresh();
  expect((await registry.accountsOf([seller])).get(seller)?.endpoints[0]?.events).toEqual(["ticket.deleted"]);
});

test("an endpoint that is made after the last one was removed is found", async () => {
  const { store, registry } = await setUp();
  const first = await addEndpoint(store, seller, ["ticket.created"]);
  await registry.refresh();
  await registry.accountsOf([seller]);
  await store.remove(seller, first);
  const second = await addEndpoint(store, seller, ["ticket.deleted"]);
  await registry.refresh();
  expect((await registry.accountsOf([seller])).get(seller)?.endpoints.map(({ id }) => id)).toEqual([second]);
});

test("accounts that are forgotten to make room for others are still returned", async () => {
  const { store, documents } = await setUp();
  await addEndpoint(store, seller, ["order.completed"]);
  await addEndpoint(store, stranger, ["order.completed"]);
  const registry = new Registry(documents, 0, 1);
  await registry.refresh();
  await registry.accountsOf([seller]);
  const accounts = await registry.accountsOf([seller, stranger]);
  expect([seller, stranger].map((id) => accounts.get(id)?.endpoints.length)).toEqual([1, 1]);
});

test("a key makes one endpoint, and its answer comes again", async () => {
  const { store } = await setUp();
  const make = (fingerprint: string) =>
    store.create(
      seller,
      { url: "https://tickets.example/", events: ["ticket.created"] },
      { key: "k", fingerprint },
      ({ id, secret }) => ({
        status: 201,
        location: "/api/webhooks/" + id,
        etag: '"1"',
        body: { id, secret },
      }),
    );
  const [first, second] = await Promise.all([make("a"), make("a")]);
  expect([first.replayed, second.replayed].sort()).toEqual([false, true]);
  expect(second.answer).toEqual(first.answer);
  expect((await store.account(seller)).endpoints).toHaveLength(1);
  await expect(make("b")).rejects.toThrow(/with another body/);
});

test("the endpoints of another user cannot be changed", async () => {
  const { store } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const settings = { url: "https://tickets.example/", events: ["ticket.created" as const] };
  for (const work of [
    () => store.update(stranger, id, undefined, settings, undefined),
    () => rotateSecret(store, stranger, id),
    () => store.remove(stranger, id),
    () => testEndpoint(store, stranger, id),
    () => store.redeliver(stranger, id, "msg_x"),
  ]) {
    await expect(work()).rejects.toThrow(/nothing with this id/);
  }
});

test("a delivery of another endpoint cannot be sent again", async () => {
  const { store, clock } = await setUp();
  const theirs = await addEndpoint(store, stranger, ["ticket.created"]);
  const mine = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(theirs, "e", clock, stranger);
  await store.add(delivery);
  await expect(store.redeliver(seller, mine, delivery.id)).rejects.toThrow(/nothing with this id/);
});

test("a repeat of an event makes no second delivery", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const other = await newReplica(sidecar, clock, "two");
  const added = await Promise.all([
    store.add(deliveryOf(id, "e", clock)),
    store.add(deliveryOf(id, "e", clock)),
    other.store.add(deliveryOf(id, "e", clock)),
  ]);
  expect(added.filter((each) => each !== undefined)).toHaveLength(1);
  expect((await store.list(id, 50, undefined)).deliveries).toHaveLength(1);
});

test("a delivery whose process has ended is found by a sweep, once its lease has ended", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(id, "e", clock);
  await store.add(delivery);
  requireSlots(sidecar);
  clock.advance(30_000);
  expect(await sweep(store)).toEqual([]);
  clock.advance(11_000);
  const other = await newReplica(sidecar, clock, "two");
  expect(await sweep(other.store)).toEqual([delivery.id]);
  requireSlots(sidecar);
  expect(await sweep(store)).toEqual([]);
});

test("a job takes the deliveries of its slot once, also if it fires at two replicas", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const other = await newReplica(sidecar, clock, "two");
  const deliveries = Array.from({ length: 200 }, (_, n) => deliveryOf(id, `e${n}`, clock));
  await Promise.all(deliveries.map((delivery, n) => (n % 2 === 0 ? store : other.store).add(delivery)));
  const due = deliveries[0]?.due ?? 0;
  expect([...sidecar.jobs.keys()]).toContain(`due-${due}`);
  clock.advance(30_000);
  const begun: string[] = [];
  const begin = (delivery: Delivery) => begun.push(delivery.id);
  await Promise.all([store.fire(due, room, begin), other.store.fire(due, room, begin)]);
  expect(begun.sort()).toEqual(deliveries.map((delivery) => delivery.id).sort());
  expect(sidecar.keys(`due/${due}/`)).toEqual([]);
  requireSlots(sidecar);
});

test("without room a delivery is put off, and not lost", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(id, "e", clock);
  await store.add(delivery);
  clock.advance(30_000);
  await store.fire(
    delivery.due ?? 0,
    () => false,
    () => expect.fail("there is no room"),
  );
  requireSlots(sidecar);
  expect((await store.list(id, 1, undefined)).deliveries[0]).toMatchObject({ status: "pending", attempts: 0 });
  clock.advance(71_000);
  expect(await sweep(store)).toEqual([delivery.id]);
});

test("many deliveries of an endpoint without room are written rarely", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  await Promise.all(Array.from({ length: 100 }, (_, n) => store.add(deliveryOf(id, `e${n}`, clock))));
  let writes = 0;
  sidecar.before = (items) => (writes += items.filter(({ key }) => key.startsWith("delivery/")).length);
  for (let minute = 0; minute < 60; minute++) {
    clock.advance(60_000);
    await store.sweep(
      () => false,
      () => expect.fail("there is no room"),
    );
  }
  expect(writes).toBeGreaterThan(100 * 6);
  expect(writes).toBeLessThan(100 * 16);
  requireSlots(sidecar);
});

test("what was put off is taken before its time, once", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(id, "e", clock);
  await store.add(delivery);
  clock.advance(30_000);
  const putOff: Delivery[] = [];
  await store.fire(
    delivery.due ?? 0,
    () => false,
    () => expect.fail("there is no room"),
    (each) => putOff.push(each),
  );
  expect(putOff).toMatchObject([{ id: delivery.id, putOff: 1 }]);
  const begun: string[] = [];
  await store.take(putOff, room, (each) => begun.push(each.id));
  expect(begun).toEqual([delivery.id]);
  requireSlots(sidecar);
  await store.record(delivery, answered);
  await store.take(putOff, room, () => expect.fail("it was delivered"));
  clock.advance(100_000);
  expect(await sweep(store)).toEqual([]);
});

test("a delivery whose lease ends in the slot being fired, because a clock was set back, is not lost", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(id, "e", clock);
  await store.add(delivery);
  clock.advance(30_000);
  clock.advance(-30_000);
  await store.fire(delivery.due ?? 0, room, () => undefined);
  requireSlots(sidecar);
  clock.advance(41_000);
  expect(await sweep(store)).toEqual([delivery.id]);
  requireSlots(sidecar);
});

test("while the scheduler is away, nothing waits for it", async () => {
  const { sidecar, store, clock } = await setUp();
  sidecar.schedulerAway = true;
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  await store.add(deliveryOf(id, "e", clock));
  clock.advance(41_000);
  expect(await sweep(store)).toHaveLength(1);
});

test("a sweep finds slots after a long outage of everything", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  await store.add(deliveryOf(id, "e", clock));
  clock.advance(10 * 60_000);
  expect(await sweep(store)).toHaveLength(1);
  const swept = sidecar.value<{ before: number }>("swept")?.before ?? 0;
  expect(swept * 1000).toBe(clock.now().getTime() - 60_000);
});

test("a slot that a slow process writes late is found", async () => {
  const { store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const late = deliveryOf(id, "e", clock);
  clock.advance(60_000);
  expect(await sweep(store)).toEqual([]);
  await store.add(late);
  clock.advance(5_000);
  expect(await sweep(store)).toEqual([late.id]);
});

test("a delivery in a slot that no sweep reads again is taken when its event comes again", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const late = deliveryOf(id, "e", clock);
  clock.advance(10 * 60_000);
  expect(await sweep(store)).toEqual([]);
  await store.add(late); // as if the store had held the transaction back until now
  expect(await sweep(store)).toEqual([]);
  expect(await store.add(deliveryOf(id, "e", clock))).toMatchObject({ id: late.id, status: "pending" });
  requireSlots(sidecar);
  expect(await store.add(deliveryOf(id, "e", clock))).toBeUndefined();
  expect((await store.list(id, 50, undefined)).deliveries).toHaveLength(1);
  clock.advance(41_000);
  expect(await sweep(store)).toEqual([late.id]);
});

test("a secret is replaced once, although the answer of the store is lost", async () => {
  const { sidecar, store } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const before = (await store.account(seller)).endpoints[0]?.secret;
  sidecar.after = () => {
    // Another replica changes the account meanwhile, so that the decision is made again.
    sidecar.after = () => undefined;
    const account = sidecar.value<Account>("account/" + seller);
    sidecar.set("account/" + seller, { ...account, version: 99 });
    throw new Error("the answer is lost");
  };
  const secret = await rotateSecret(store, seller, id);
  expect((await store.account(seller)).endpoints[0]).toMatchObject({ secret, previousSecrets: [{ secret: before }] });
});

test("a test is in a slot, and is one although the answer of the store is lost", async () => {
  const { sidecar, store } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  sidecar.after = () => {
    // Another replica changes the index meanwhile, so that the decision is made again.
    sidecar.after = () => undefined;
    const index = "deliveries/" + id;
    sidecar.set(index, { ...sidecar.value<object>(index), other: true });
    throw new Error("the answer is lost");
  };
  const tested = await testEndpoint(store, seller, id);
  expect(tested.begun).toEqual([tested.id]);
  expect((await store.list(id, 10, undefined)).deliveries.map((each) => each.id)).toEqual([tested.id]);
  requireSlots(sidecar);
});

test("what the owner sends again meanwhile is not ended with what was disabled before", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(id, "e", clock);
  await store.add(delivery);
  clock.advance(2_000);
  const again = await store.redeliver(seller, id, delivery.id);
  await store.abandon(delivery);
  expect(sidecar.value<Delivery>("delivery/" + delivery.id)?.status).toBe("pending");
  await store.abandon(again);
  expect(sidecar.value<Delivery>("delivery/" + delivery.id)?.status).toBe("failed");
});

test("a success ends a delivery and the failures of its endpoint", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const [one, two] = [deliveryOf(id, "1", clock), deliveryOf(id, "2", clock)];
  await store.add(one);
  await store.add(two);
  const failing = await store.record(one, failed);
  requireSlots(sidecar);
  expect(failing).toMatchObject({ status: "pending", attempts: 1, failures: 1 });
  expect((await store.account(seller)).endpoints[0]?.failingSince).toBe(noon.toISOString());
  await store.record(two, answered);
  expect((await store.account(seller)).endpoints[0]).not.toHaveProperty("failingSince");
  requireSlots(sidecar);
});

test("five days of failures disable the endpoint for all replicas", async () => {
  const { sidecar, store, registry, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(id, "1", clock);
  await store.add(delivery);
  for (let hours = 0; hours < 5 * 24; hours += 6) {
    await store.record(delivery, failed);
    clock.advance(6 * 3_600_000);
  }
  expect((await store.account(seller)).endpoints[0]).toMatchObject({ status: "enabled" });
  const last = deliveryOf(id, "2", clock);
  await store.add(last);
  const recorded = await store.record(last, failed);
  expect((await store.account(seller)).endpoints[0]).toMatchObject({ status: "disabled", disabledReason: "failing" });
  await registry.refresh();
  expect(registry.has(seller)).toBe(false);
  await store.abandon(recorded);
  expect(sidecar.value<Delivery>("delivery/" + last.id)).toMatchObject({ status: "failed" });
});

test("a list has the newest first, over many pages", async () => {
  const { store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  for (let n = 0; n < 250; n += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, i) => store.add(deliveryOf(id, `e${n + i}`, clock))));
  }
  const seen: string[] = [];
  let before: number | undefined;
  do {
    const { deliveries, next } = await store.list(id, 30, before);
    expect(deliveries.length).toBeLessThanOrEqual(30);
    seen.push(...deliveries.map((delivery) => delivery.eventId));
    before = next;
  } while (before !== undefined);
  expect(seen).toEqual(Array.from({ length: 250 }, (_, n) => `e${249 - n}`));
});

test("a list goes on when entries are added meanwhile", async () => {
  const { store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  for (const n of [1, 2, 3]) {
    await store.add(deliveryOf(id, `e${n}`, clock));
  }
  const first = await store.list(id, 2, undefined);
  await store.add(deliveryOf(id, "e4", clock));
  const second = await store.list(id, 2, first.next);
  expect([...first.deliveries, ...second.deliveries].map((delivery) => delivery.eventId)).toEqual(["e3", "e2", "e1"]);
});

test("a delivery can be sent again, and a disabled endpoint gets none", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = deliveryOf(id, "e", clock);
  await store.add(delivery);
  await store.record(delivery, answered);
  clock.advance(3_600_000);
  expect(await store.redeliver(seller, id, delivery.id)).toMatchObject({ status: "pending", attempts: 1 });
  requireSlots(sidecar);
  await store.update(seller, id, undefined, { url: "https://tickets.example/", events: ["ticket.created"] }, "disabled");
  await expect(store.redeliver(seller, id, delivery.id)).rejects.toThrow(/disabled/);
  await expect(testEndpoint(store, seller, id)).rejects.toThrow(/disabled/);
});

test("what is kept of deliveries ends by itself", async () => {
  const { sidecar, store, clock } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  await store.add(deliveryOf(id, "e", clock));
  const kept = [...sidecar.documents].filter(([key]) => /^(delivery|deliveries|due)\//.test(key));
  expect(kept).toHaveLength(3);
  for (const [key, { ttlSeconds }] of kept) {
    expect(ttlSeconds, key).toBe(30 * 24 * 3600);
  }
});

test("an account that was deleted has no endpoints and no document", async () => {
  const { sidecar, store, registry } = await setUp();
  await addEndpoint(store, seller, ["ticket.created"]);
  await store.removeAccount(seller);
  await store.removeAccount(seller);
  await registry.refresh();
  expect(registry.has(seller)).toBe(false);
  expect(sidecar.value<Account>("account/" + seller)).toBeUndefined();
});

test("the account of a deleted user gets no endpoint, at any replica", async () => {
  const { sidecar, clock, store } = await setUp();
  const other = await newReplica(sidecar, clock, "two");
  await store.removeAccount(seller);
  await expect(addEndpoint(other.store, seller, ["ticket.created"])).rejects.toThrow(/signed out/);
  await addEndpoint(store, stranger, ["ticket.created"]);
  expect(sidecar.documents.get("deleted/" + seller)?.ttlSeconds).toBe(24 * 60 * 60);
});

test("an endpoint that is made while its account is deleted at another replica is refused", async () => {
  const { sidecar, clock, store } = await setUp();
  const other = await newReplica(sidecar, clock, "two");
  let removed: Promise<void> | undefined;
  const transact = sidecar.transact.bind(sidecar);
  sidecar.transact = async (writes) => {
    // The decision has found no account, and the other replica is faster.
    if (!removed && writes.some(({ key }) => key === "account/" + seller)) {
      removed = other.store.removeAccount(seller);
      await removed;
    }
    await transact(writes);
  };
  await expect(addEndpoint(store, seller, ["ticket.created"])).rejects.toThrow(/signed out/);
  expect(sidecar.value<Account>("account/" + seller)).toBeUndefined();
});

test("the repeated event of a deletion changes nothing", async () => {
  const { sidecar, store } = await setUp();
  await store.removeAccount(seller);
  const { transactions } = sidecar;
  await store.removeAccount(seller);
  expect(sidecar.transactions).toBe(transactions);
});
