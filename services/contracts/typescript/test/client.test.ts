import { createClient, Problem, type Schemas } from "@boxoffice/client";
import { expect, expectTypeOf, test } from "vitest";

import { Gateway } from "./gateway.ts";

const ticket = { id: "01a21a09-ee13-745f-b12d-814fb25d6512", title: "Front row", price: 4500 };

function setUp(options: Partial<Parameters<typeof createClient>[0]> = {}) {
  const gateway = new Gateway();
  return { gateway, api: createClient({ baseUrl: "http://gateway", fetch: gateway.fetch, ...options }) };
}

async function problemOf(call: Promise<unknown>): Promise<Problem> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Problem);
  return error as Problem;
}

test("a call sends its parameters and body, and returns the data with its type", async () => {
  const { gateway, api } = setUp({ token: "secret" });
  gateway.answer(201, ticket, { Location: `/api/tickets/${ticket.id}` });

  const { data, response } = await api.POST("/api/tickets", {
    params: { header: { "Idempotency-Key": "key-1" } },
    body: { title: "Front row", price: 4500 },
  });

  expectTypeOf(data).toEqualTypeOf<Schemas["Ticket"]>();
  expect(data.title).toBe("Front row");
  expect(response.headers.get("Location")).toBe(`/api/tickets/${ticket.id}`);
  const [request] = gateway.requests;
  expect(request?.method).toBe("POST");
  expect(request?.url).toBe("http://gateway/api/tickets");
  expect(request?.headers.get("Authorization")).toBe("Bearer secret");
  expect(request?.headers.get("Idempotency-Key")).toBe("key-1");
  expect(await request?.json()).toEqual({ title: "Front row", price: 4500 });
});

test("ids are written into the path", async () => {
  const { gateway, api } = setUp();
  gateway.answer(200, ticket);

  await api.GET("/api/tickets/{ticketId}", { params: { path: { ticketId: ticket.id } } });

  expect(gateway.requests[0]?.url).toBe(`http://gateway/api/tickets/${ticket.id}`);
  expect(gateway.requests[0]?.headers.has("Authorization")).toBe(false);
});

test("an answer without a body has no data", async () => {
  const { gateway, api } = setUp();
  gateway.does(() => new Response(null, { status: 204 }));

  const { data } = await api.DELETE("/api/tickets/{ticketId}", { params: { path: { ticketId: ticket.id } } });

  expect(data).toBeUndefined();
});

test("the token is read before each call", async () => {
  const tokens = ["first", "second"];
  const { gateway, api } = setUp({ token: () => Promise.resolve(tokens.shift()) });
  gateway.answer(200, []).answer(200, []).answer(200, []);

  await api.GET("/api/orders");
  await api.GET("/api/orders");
  await api.GET("/api/orders");

  expect(gateway.requests.map((request) => request.headers.get("Authorization"))).toEqual([
    "Bearer first",
    "Bearer second",
    null,
  ]);
});

test("what is not an answer of success is thrown as a problem with its code", async () => {
  const { gateway, api } = setUp();
  gateway.answer(
    409,
    { status: 409, errors: [{ message: "You hold it.", code: "own_reservation" }], orderId: "o-1", requestId: "r-1" },
    { "Retry-After": "7" },
  );

  const problem = await problemOf(api.POST("/api/orders", { body: { ticketId: ticket.id } }));

  expect(problem).toMatchObject({
    status: 409,
    code: "own_reservation",
    message: "You hold it.",
    requestId: "r-1",
    retryAfter: 7,
  });
  expect(problem.members["orderId"]).toBe("o-1");
  expect(problem.has("own_reservation")).toBe(true);
  expect(problem.has("ticket_sold")).toBe(false);
});

test("a problem of two fields has both", async () => {
  const { gateway, api } = setUp();
  const errors = [
    { message: "Too short.", field: "title", code: "required" },
    { message: "Too low.", field: "price", code: "min" },
  ];
  gateway.answer(400, { status: 400, errors });

  const problem = await problemOf(api.POST("/api/tickets", { body: { title: "", price: 0 } }));

  expect(problem.errors).toEqual(errors);
  expect(problem.message).toBe("Too short. Too low.");
  expect(problem.has("min")).toBe(true);
});

test.each([
  ["a page of a proxy", "<html>", "text/html"],
  ["nothing", "", "text/plain"],
  ["an array", "[1]", "application/json"],
  ["other members", '{"errors": "none"}', "application/json"],
  ["strange errors", '{"errors": [null, 1, {"code": "x"}]}', "application/json"],
])("an answer that is not the gateway's is a problem without a code: %s", async (_, body, type) => {
  const { gateway, api } = setUp();
  gateway.does(() => new Response(body, { status: 502, headers: { "Content-Type": type } }));

  const problem = await problemOf(api.GET("/api/tickets"));

  expect(problem).toMatchObject({
    status: 502,
    code: undefined,
    message: "HTTP 502 without a description",
    retryAfter: undefined,
  });
});

test("a date in Retry-After is a number of seconds", () => {
  const inAMinute = new Date(Date.now() + 60_000).toUTCString();
  const after = (value: string) =>
    new Problem(new Response(null, { status: 503, headers: { "Retry-After": value } }), {}).retryAfter;

  expect(after(inAMinute)).toBeGreaterThan(50);
  expect(after(inAMinute)).toBeLessThanOrEqual(60);
  expect(after("-5")).toBe(0);
  expect(after("soon")).toBeUndefined();
  expect(after("")).toBeUndefined();
});

/** An answer that never comes: the request ends by its signal. */
function never(gateway: Gateway): void {
  gateway.does(
    () =>
      new Promise((_, reject) => {
        const signal = gateway.requests.at(-1)?.signal;
        const end = () => {
          reject(signal?.reason as Error);
        };
        signal?.addEventListener("abort", end);
        if (signal?.aborted) {
          end();
        }
      }),
  );
}

test("a call ends after the timeout of its client", async () => {
  const { gateway, api } = setUp({ timeout: 20 });
  never(gateway);

  await expect(api.GET("/api/tickets")).rejects.toMatchObject({ name: "TimeoutError" });
});

test("a call ends with the signal that it was given", async () => {
  const { gateway, api } = setUp();
  never(gateway);
  const stop = new AbortController();

  const call = api.GET("/api/tickets", { signal: stop.signal });
  stop.abort(new Error("the user went on"));

  await expect(call).rejects.toThrow("the user went on");
  never(gateway);
  await expect(api.GET("/api/tickets", { signal: stop.signal })).rejects.toThrow("the user went on");
});

test("of several forms of an answer, the data has the type of the JSON, or of the form that is asked for", async () => {
  const { gateway, api } = setUp();
  const path = { orderId: "01a21ace-2299-758c-a1fb-9853670f37a8" };
  gateway.answer(200, { code: "a.b.c", status: "valid" });
  gateway.answer(200, [], { "Content-Type": "text/csv" });
  gateway.answer(204, undefined);

  const { data: pass } = await api.GET("/api/orders/{orderId}/pass", { params: { path } });
  expectTypeOf(pass).toEqualTypeOf<Schemas["Pass"]>();
  expect(pass.code).toBe("a.b.c");

  const { data: file } = await api.GET("/api/orders/sales", { params: { query: { format: "csv" } }, parseAs: "text" });
  expectTypeOf(file).toEqualTypeOf<string>();
  expect(file).toBe("[]");

  const { data: nothing } = await api.DELETE("/api/orders/{orderId}", { params: { path } });
  expectTypeOf(nothing).toEqualTypeOf<undefined>();
  expect(nothing).toBeUndefined();
});
