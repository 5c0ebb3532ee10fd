import { Webhook } from "standardwebhooks";
import { expect, test, vi } from "vitest";
import { newDelivery, type Attempt, type Delivery } from "../src/delivery.ts";
import { Dispatcher, bounds } from "../src/dispatcher.ts";
import { Metrics } from "../src/metrics.ts";
import { addEndpoint, buyer, Clock, logTo, newReplica, rotateSecret, seller, stranger } from "./fixtures.ts";
import { MemorySidecar } from "./sidecar.ts";

/** A receiver that answers when the test lets it. */
class Receiver {
  readonly open: { url: string; headers: Record<string, string>; body: string; answer: (status: number) => void }[] = [];

  attempt(url: string, headers: Record<string, string>, body: string): Promise<Attempt> {
    return new Promise((resolve) => {
      const answer = (status: number) => {
        resolve({ at: new Date().toISOString(), durationMs: 1, status });
      };
      this.open.push({ url, headers, body, answer });
    });
  }
}

async function setUp() {
  const sidecar = new MemorySidecar();
  const clock = new Clock();
  clock.at = new Date();
  const { store } = await newReplica(sidecar, clock);
  const receiver = new Receiver();
  const dispatcher = new Dispatcher(store, receiver, new Metrics(), logTo([]));
  const add = async (endpointId: string, event: string, userId = seller): Promise<Delivery> => {
    const delivery = newDelivery(
      endpointId,
      userId,
      { id: event, type: "ticket.created", at: clock.now() },
      `{"n":"${event}"}`,
      clock.now(),
    );
    await store.add(delivery);
    return delivery;
  };
  const stored = (delivery: Delivery) => sidecar.value<Delivery>("delivery/" + delivery.id);
  return { sidecar, store, receiver, dispatcher, add, stored };
}

/** Waits until an assertion holds: far longer than anything takes on a busy machine. */
const eventually = (assertion: () => void) => vi.waitFor(assertion, { timeout: 20_000, interval: 5 });

const openAre = (receiver: Receiver, n: number) =>
  eventually(() => {
    expect(receiver.open).toHaveLength(n);
  });

test("an attempt is signed with the endpoint's secrets, and recorded", async () => {
  const { store, receiver, dispatcher, add, stored } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const old = (await store.account(seller)).endpoints[0]?.secret ?? "";
  const secret = await rotateSecret(store, seller, id);
  const delivery = await add(id, "e");
  dispatcher.begin(delivery);
  await openAre(receiver, 1);
  const [request] = receiver.open;
  expect(request?.headers["webhook-id"]).toBe(delivery.id);
  for (const each of [old, secret]) {
    expect(new Webhook(each).verify(request?.body ?? "", request?.headers ?? {})).toEqual({ n: "e" });
  }
  request?.answer(200);
  await eventually(() => {
    expect(stored(delivery)).toMatchObject({ status: "delivered", attempts: 1 });
  });
});

test("a slow receiver has a bounded number of attempts, and delays nobody else", async () => {
  const { store, receiver, dispatcher, add } = await setUp();
  const slow = await addEndpoint(store, seller, ["ticket.created"], "https://slow.example/");
  const fast = await addEndpoint(store, buyer, ["ticket.created"], "https://fast.example/");
  for (let n = 0; n < 20; n++) {
    dispatcher.begin(await add(slow, `e${n}`));
  }
  await openAre(receiver, bounds.perEndpoint);
  dispatcher.begin(await add(fast, "e", buyer));
  await openAre(receiver, bounds.perEndpoint + 1);
  expect(receiver.open.at(-1)?.url).toBe("https://fast.example/");
  receiver.open[0]?.answer(200);
  await openAre(receiver, bounds.perEndpoint + 2);
});

test("the endpoints of an account share a bound and take turns, and delay no other account", async () => {
  const { store, receiver, dispatcher, add } = await setUp();
  const urls = ["https://one.example/", "https://two.example/", "https://three.example/"];
  for (const url of urls) {
    const id = await addEndpoint(store, seller, ["ticket.created"], url);
    for (let n = 0; n < 2 * bounds.perEndpoint; n++) {
      dispatcher.begin(await add(id, `${url}${n}`));
    }
  }
  await openAre(receiver, bounds.perAccount);
  const fast = await addEndpoint(store, buyer, ["ticket.created"], "https://fast.example/");
  dispatcher.begin(await add(fast, "e", buyer));
  await openAre(receiver, bounds.perAccount + 1);
  expect(receiver.open.map(({ url }) => url)).toEqual([
    ...Array.from({ length: bounds.perEndpoint }, () => urls[0]),
    ...Array.from({ length: bounds.perEndpoint }, () => urls[1]),
    "https://fast.example/",
  ]);
  // Attempts to the first one end. The third one waits for a place since before, and the first one from now on.
  const next: (string | undefined)[] = [];
  for (let n = 0; n < 4; n++) {
    receiver.open[n]?.answer(200);
    await openAre(receiver, bounds.perAccount + 2 + n);
    next.push(receiver.open.at(-1)?.url);
  }
  expect(next).toEqual([urls[2], urls[2], urls[0], urls[2]]);
});

test("while slow receivers have all places, others take the next ones that become free", async () => {
  const { store, receiver, dispatcher, add } = await setUp();
  const { inFlight } = bounds;
  bounds.inFlight = 2 * bounds.perEndpoint;
  try {
    for (const [userId, url] of [
      [seller, "https://slow.example/"],
      [stranger, "https://slower.example/"],
    ] as const) {
      const id = await addEndpoint(store, userId, ["ticket.created"], url);
      for (let n = 0; n < 20; n++) {
        dispatcher.begin(await add(id, `${url}${n}`, userId));
      }
    }
    await openAre(receiver, bounds.inFlight);
    const fast = await addEndpoint(store, buyer, ["ticket.created"], "https://fast.example/");
    for (let n = 0; n < 3; n++) {
      dispatcher.begin(await add(fast, `e${n}`, buyer));
    }
    const next: (string | undefined)[] = [];
    for (let n = 0; n < 4; n++) {
      receiver.open[n]?.answer(200);
      await openAre(receiver, bounds.inFlight + 1 + n);
      next.push(receiver.open.at(-1)?.url);
    }
    const [fastOne, slowOne] = ["https://fast.example/", "https://slow.example/"];
    expect(next).toEqual([fastOne, fastOne, slowOne, fastOne]);
  } finally {
    bounds.inFlight = inFlight;
  }
});

test("an endpoint that fails gets one attempt at a time", async () => {
  const { store, receiver, dispatcher, add, stored } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const deliveries: Delivery[] = [];
  for (let n = 0; n < 12; n++) {
    deliveries.push(await add(id, `e${n}`));
  }
  deliveries.forEach((delivery) => {
    dispatcher.begin(delivery);
  });
  await openAre(receiver, 8);
  receiver.open.forEach(({ answer }) => {
    answer(500);
  });
  await openAre(receiver, 9);
  await eventually(() => {
    expect(deliveries.slice(0, 8).map((each) => stored(each)?.failures)).toEqual(Array.from({ length: 8 }, () => 1));
  });
  expect(receiver.open).toHaveLength(9);
});

test("few deliveries wait for an endpoint that fails, and those that were put off are taken after a success", async () => {
  const { store, receiver, dispatcher, add, stored } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  dispatcher.begin(await add(id, "first"));
  await openAre(receiver, 1);
  receiver.open[0]?.answer(500);
  const deliveries: Delivery[] = [];
  for (let n = 0; n < 150; n++) {
    deliveries.push(await add(id, `e${n}`));
  }
  let taken = 0;
  for (const delivery of deliveries) {
    if (dispatcher.hasRoom(id)) {
      dispatcher.begin(delivery);
      taken++;
    } else {
      dispatcher.putOff(delivery);
    }
  }
  expect(taken).toBe(bounds.waitingWhileFailing + 1);
  await openAre(receiver, 2);
  await eventually(() => {
    receiver.open.forEach(({ answer }) => {
      answer(200);
    });
    expect(deliveries.filter((each) => stored(each)?.status === "delivered")).toHaveLength(150);
  });
});

test("an endpoint that is disabled or removed gets nothing, and its deliveries have failed", async () => {
  const { store, receiver, dispatcher, add, stored } = await setUp();
  const off = await addEndpoint(store, seller, ["ticket.created"]);
  const gone = await addEndpoint(store, seller, ["ticket.created"]);
  const deliveries = [await add(off, "e"), await add(gone, "e")];
  await store.update(seller, off, undefined, { url: "https://tickets.example/", events: ["ticket.created"] }, "disabled");
  await store.remove(seller, gone);
  deliveries.forEach((delivery) => {
    dispatcher.begin(delivery);
  });
  await eventually(() => {
    expect(deliveries.map((each) => stored(each)?.status)).toEqual(["failed", "failed"]);
  });
  expect(receiver.open).toEqual([]);
});

test("a delivery that waits until its lease ends is dropped here, and stays pending", async () => {
  const { store, receiver, dispatcher, add, stored } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = await add(id, "e");
  dispatcher.begin({ ...delivery, due: Math.floor(Date.now() / 1000) + 10 });
  expect(receiver.open).toEqual([]);
  expect(stored(delivery)?.status).toBe("pending");
});

test("there is a bound of deliveries that wait", async () => {
  const { store, receiver, dispatcher, add } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = await add(id, "e");
  for (let n = 0; n < bounds.perEndpoint + bounds.waitingPerEndpoint; n++) {
    expect(dispatcher.hasRoom(id)).toBe(true);
    dispatcher.begin({ ...delivery, id: `msg_${n}` });
  }
  expect(dispatcher.hasRoom(id)).toBe(false);
  expect(dispatcher.hasRoom("another")).toBe(true);
  await openAre(receiver, bounds.perEndpoint);
});

test("an attempt is recorded although the store is away for a moment", async () => {
  const { sidecar, store, receiver, dispatcher, add, stored } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = await add(id, "e");
  dispatcher.begin(delivery);
  await openAre(receiver, 1);
  let away = 2;
  sidecar.before = () => {
    if (away-- > 0) {
      throw new Error("away");
    }
  };
  receiver.open[0]?.answer(200);
  await eventually(() => {
    expect(stored(delivery)?.status).toBe("delivered");
  });
});

test("a stop waits for the running attempts, and begins none", async () => {
  const { store, receiver, dispatcher, add, stored } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const deliveries: Delivery[] = [];
  for (let n = 0; n < 10; n++) {
    deliveries.push(await add(id, `e${n}`));
  }
  deliveries.forEach((delivery) => {
    dispatcher.begin(delivery);
  });
  await openAre(receiver, 8);
  let stopped = false;
  const stopping = dispatcher.stop(60_000).then(() => (stopped = true));
  expect(dispatcher.hasRoom(id)).toBe(false);
  receiver.open.slice(1).forEach(({ answer }) => {
    answer(200);
  });
  await eventually(() => {
    expect(deliveries.slice(7, 8).map((each) => stored(each)?.status)).toEqual(["delivered"]);
  });
  expect(stopped).toBe(false);
  receiver.open[0]?.answer(200);
  await stopping;
  expect(receiver.open).toHaveLength(8);
  expect(deliveries.map((each) => stored(each)?.status).filter((status) => status === "pending")).toHaveLength(2);
});

test("a stop does not wait for an attempt without end", async () => {
  const { store, receiver, dispatcher, add, stored } = await setUp();
  const id = await addEndpoint(store, seller, ["ticket.created"]);
  const delivery = await add(id, "e");
  dispatcher.begin(delivery);
  await openAre(receiver, 1);
  await dispatcher.stop(1);
  expect(stored(delivery)).toMatchObject({ status: "pending", due: delivery.due });
});
