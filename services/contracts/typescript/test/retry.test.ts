import { createClient, Problem, retry, type RetryOptions } from "@boxoffice/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Gateway } from "./gateway.ts";

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const order = { id: "o-1", status: "created" };

/** Reserves with retries, while the time passes by itself. */
async function reserve(gateway: Gateway, options?: RetryOptions) {
  const api = createClient({ baseUrl: "http://gateway", fetch: gateway.fetch });
  const began = Date.now();
  const outcome = retry(
    (key) => api.POST("/api/orders", { params: { header: { "Idempotency-Key": key } }, body: { ticketId: "t-1" } }),
    options,
  ).then(
    ({ data }) => ({ data, error: undefined, after: Date.now() - began }),
    (error: unknown) => ({ data: undefined, error, after: Date.now() - began }),
  );
  await vi.runAllTimersAsync();
  return await outcome;
}

function keysOf(gateway: Gateway): (string | null)[] {
  return gateway.requests.map((request) => request.headers.get("Idempotency-Key"));
}

test("it waits for the Retry-After of the answer, and sends the same key again", async () => {
  const gateway = new Gateway();
  gateway
    .refuse(503, "unavailable", { "Retry-After": "2" })
    .refuse(429, "rate_limited", { "Retry-After": "3" })
    .answer(201, order);

  const { data, after } = await reserve(gateway);

  expect(data).toEqual(order);
  expect(after).toBe(5_000);
  const [key] = keysOf(gateway);
  expect(key).toMatch(/^[0-9a-f-]{36}$/);
  expect(keysOf(gateway)).toEqual([key, key, key]);
});

test("two calls have two keys", async () => {
  const [first, second] = [new Gateway().answer(201, order), new Gateway().answer(201, order)];

  await reserve(first);
  await reserve(second);

  expect(keysOf(first)).not.toEqual(keysOf(second));
});

test("it repeats a request whose answer was lost", async () => {
  const gateway = new Gateway();
  gateway
    .does(() => Promise.reject(new TypeError("fetch failed")))
    .does(() => Promise.reject(new DOMException("too late", "TimeoutError")))
    .answer(201, order);

  const { data, after } = await reserve(gateway);

  expect(data).toEqual(order);
  expect(after).toBe(300); // pauses that double
});

test.each([
  [409, "ticket_sold"],
  [400, "uuid"],
  [500, "internal"],
])("it does not repeat what cannot succeed: %i %s", async (status, code) => {
  const gateway = new Gateway().refuse(status, code, { "Retry-After": "1" });

  const { error, after } = await reserve(gateway);

  expect(error).toBeInstanceOf(Problem);
  expect(error).toMatchObject({ status, code });
  expect(after).toBe(0);
});

test("it does not begin a wait that ends too late", async () => {
  const gateway = new Gateway().refuse(429, "too_many_attempts", { "Retry-After": "3600" });

  const { error, after } = await reserve(gateway);

  expect(error).toMatchObject({ code: "too_many_attempts", retryAfter: 3600 });
  expect(after).toBe(0);
});

test("it ends when its time is up", async () => {
  const gateway = new Gateway();
  gateway.refuse(503, "unavailable", { "Retry-After": "1" }).refuse(503, "unavailable", { "Retry-After": "1" });

  const { error, after } = await reserve(gateway, { within: 1_500 });

  expect(error).toMatchObject({ code: "unavailable" });
  expect(after).toBe(1_000);
  expect(gateway.requests).toHaveLength(2);
});

test("its signal ends a wait", async () => {
  const gateway = new Gateway().refuse(503, "unavailable", { "Retry-After": "30" });
  const stop = new AbortController();
  setTimeout(() => {
    stop.abort(new Error("the user went on"));
  }, 1_000);

  const { error, after } = await reserve(gateway, { signal: stop.signal });

  expect(error).toEqual(new Error("the user went on"));
  expect(after).toBe(1_000);
});

test("nothing is repeated once the signal was given", async () => {
  const gateway = new Gateway().does(() => Promise.reject(new TypeError("fetch failed")));

  const { error } = await reserve(gateway, { signal: AbortSignal.abort() });

  expect(error).toEqual(new TypeError("fetch failed"));
});
