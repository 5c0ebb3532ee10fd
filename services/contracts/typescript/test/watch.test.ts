import { type LiveEvent, Problem, watch, type WatchOptions } from "@boxoffice/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Gateway } from "./gateway.ts";

const listing = (left: number) => ({ change: "reserved", showId: "s-1", ticketId: "t-1", price: 4500, currency: "usd", left });

/** A stream that ends after some parts, or stays open. */
function stream(parts: string[], end = true): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const part of parts) {
        controller.enqueue(new TextEncoder().encode(part));
      }
      if (end) {
        controller.close();
      }
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
}

const event = (id: string, name: string, data: unknown) => `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`;

async function first(count: number, gateway: Gateway, options: Partial<WatchOptions> = {}): Promise<LiveEvent[]> {
  const all = [];
  for await (const one of watch(["s-1", "s-2"], { baseUrl: "http://gateway/", fetch: gateway.fetch, ...options })) {
    all.push(one);
    if (all.length === count) {
      break;
    }
  }
  return all;
}

/** Waits for a promise while time passes quickly. */
async function soon<Result>(promise: Promise<Result>): Promise<Result> {
  const state = { settled: false };
  const settle = (): void => {
    state.settled = true;
  };
  promise.then(settle, settle);
  while (!state.settled) {
    await vi.advanceTimersByTimeAsync(1000);
  }
  return await promise;
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("it yields events, whatever their bytes arrive in", async () => {
  const text = `retry: 1\n\n${event("7-1-0", "ready", {})}: heartbeat\nid: 7-1-9\n\n${event("7-2-0", "listing", { ...listing(3), seat: { section: "Größe 🎫" } })}`;
  const bytes = new TextEncoder().encode(text);
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      bytes.forEach((byte) => {
        controller.enqueue(Uint8Array.of(byte));
      });
    },
  });
  const gateway = new Gateway().does(() => new Response(body));

  expect(await first(2, gateway)).toEqual([
    { event: "ready", data: {}, id: "7-1-0" },
    { event: "listing", data: { ...listing(3), seat: { section: "Größe 🎫" } }, id: "7-2-0" },
  ]);
  expect(gateway.requests[0]?.url).toBe("http://gateway/api/catalogue/live?show=s-1&show=s-2");
  expect(gateway.requests[0]?.headers.has("Last-Event-ID")).toBe(false);
});

test("it goes on after the last id when the stream ends, and ignores names that it does not know", async () => {
  const gateway = new Gateway()
    .does(() => stream([event("7-1-0", "ready", {}), event("7-2-0", "later", {}), ": heartbeat\r\nid: 7-3-0\r\n\r\n"]))
    .does(() => Promise.reject(new TypeError("no connection")))
    .refuse(503, "too_many_streams", { "Retry-After": "10" })
    .does(() => stream([event("7-3-0", "ready", {}), event("7-3-0", "reset", {}), "data: cut o"]))
    .does(() => stream([event("7-4-0", "show", { change: "cancelled", showId: "s-1" })]));

  expect((await soon(first(4, gateway, { lastEventId: "6-9-9" }))).map((one) => one.event)).toEqual([
    "ready",
    "ready",
    "reset",
    "show",
  ]);
  expect(gateway.requests.map((request) => request.headers.get("Last-Event-ID"))).toEqual([
    "6-9-9",
    "7-3-0",
    "7-3-0",
    "7-3-0",
    "7-3-0",
  ]);
});

test("it connects again if nothing arrives", async () => {
  const gateway = new Gateway()
    .does(() => stream([event("7-1-0", "ready", {})], false))
    .does(() => stream([event("7-1-0", "ready", {})], false));

  expect(await soon(first(2, gateway, { silence: 5_000 }))).toHaveLength(2);
});

test("it throws a refusal that does not pass", async () => {
  const gateway = new Gateway().refuse(400, "invalid");

  await expect(first(1, gateway)).rejects.toThrow(Problem);
});

test("it ends with its signal, also while it waits", async () => {
  const end = new AbortController();
  const gateway = new Gateway().does(() => {
    end.abort();
    return stream([event("7-1-0", "ready", {})], false);
  });
  expect(await soon(first(2, gateway, { signal: end.signal }))).toEqual([]);

  const waiting = new AbortController();
  const busy = new Gateway().refuse(503, "too_many_streams", { "Retry-After": "10" });
  const all = first(1, busy, { signal: waiting.signal });
  await vi.advanceTimersByTimeAsync(5_000);
  expect(busy.requests).toHaveLength(1);
  waiting.abort();
  expect(await all).toEqual([]);
});

test("it closes the connection when the loop ends", async () => {
  const gateway = new Gateway().does(() => stream([event("7-1-0", "ready", {})], false));

  await first(1, gateway);

  expect(gateway.requests[0]?.signal.aborted).toBe(true);
});

test("an error of the loop is the caller's", async () => {
  const gateway = new Gateway().does(() => stream([event("7-1-0", "ready", {})], false));

  await expect(
    (async () => {
      for await (const one of watch(["s-1"], { baseUrl: "http://gateway", fetch: gateway.fetch })) {
        throw new RangeError(one.event);
      }
    })(),
  ).rejects.toThrow(RangeError);
});
