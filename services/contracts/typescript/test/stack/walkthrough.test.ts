// The client against a running box office, whose gateway is at BOXOFFICE_URL. deploy/proof/e2e starts one and runs this.
import { createClient, paginate, Problem, retry, type Client, type Schemas } from "@boxoffice/client";
import { beforeAll, describe, expect, test, vi } from "vitest";

import { main } from "../../examples/sell-a-ticket.ts";

const baseUrl = process.env["BOXOFFICE_URL"] ?? "http://localhost:8080";
const password = "correct horse";

async function signUp(): Promise<{ api: Client; user: Schemas["User"]; email: string }> {
  const email = `typescript-${crypto.randomUUID()}@example.com`;
  const { data } = await createClient({ baseUrl }).POST("/api/users/signup", { body: { email, password } });
  return { api: createClient({ baseUrl, token: data.token }), user: data.user, email };
}

async function problemOf(call: Promise<unknown>): Promise<Problem> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Problem);
  return error as Problem;
}

async function list(seller: Client, title: string, price: number): Promise<Schemas["Ticket"]> {
  const { data } = await retry((key) =>
    seller.POST("/api/tickets", { params: { header: { "Idempotency-Key": key } }, body: { title, price } }),
  );
  return data;
}

async function reserve(buyer: Client, ticketId: string): Promise<Schemas["Order"]> {
  const { data } = await retry((key) =>
    buyer.POST("/api/orders", { params: { header: { "Idempotency-Key": key } }, body: { ticketId } }),
  );
  return data;
}

/** Waits until something holds, because events arrive a moment later. */
const eventually = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 20_000, interval: 50 });

let seller: Awaited<ReturnType<typeof signUp>>;
let buyer: typeof seller;

beforeAll(async () => {
  [seller, buyer] = [await signUp(), await signUp()];
});

test("the example sells a ticket", async () => {
  const lines: string[] = [];

  await main(baseUrl, (line) => {
    lines.push(line);
  });

  expect(lines).toContain("declined: generic_decline");
  expect(lines.slice(-2)).toEqual(["order: complete", "bought: Front row"]);
});

test("a ticket is listed, reserved, paid and sold", async () => {
  const ticket = await list(seller.api, "Concert", 4200);
  expect(ticket).toMatchObject({ title: "Concert", price: 4200, status: "available", userId: seller.user.id, version: 1 });

  const order = await reserve(buyer.api, ticket.id);
  expect(order).toMatchObject({ status: "created", userId: buyer.user.id, ticket: { id: ticket.id, price: 4200 } });

  const { data: payment } = await buyer.api.POST("/api/payments", { body: { orderId: order.id, paymentMethod: "pm_card_visa" } });
  expect(payment).toMatchObject({ orderId: order.id, amount: 4200 });

  await eventually(async () => {
    const { data } = await buyer.api.GET("/api/orders/{orderId}", { params: { path: { orderId: order.id } } });
    expect(data.status).toBe("complete");
  });
  await eventually(async () => {
    const { data } = await createClient({ baseUrl }).GET("/api/tickets/{ticketId}", {
      params: { path: { ticketId: ticket.id } },
    });
    expect(data).toMatchObject({ status: "sold", orderId: order.id });
  });
  await eventually(async () => {
    const { data } = await buyer.api.GET("/api/payments", { params: { query: { orderId: order.id } } });
    expect(data).toMatchObject([{ id: payment.id, status: "captured" }]);
  });
});

test("a pass lets its holder in once, and its ticket cannot be sold again then", async () => {
  const startsAt = new Date(Date.now() + 24 * 60 * 60 * 1000).toISOString();
  const { data: show } = await seller.api.POST("/api/shows", {
    body: {
      name: "Hamlet",
      venue: "Globe",
      city: "London",
      country: "GB",
      startsAt,
      timeZone: "Europe/London",
      category: "theatre",
    },
  });
  const { data: ticket } = await retry(() => seller.api.POST("/api/tickets", { body: { showId: show.id, price: 4200 } }));
  const order = await reserve(buyer.api, ticket.id);
  await buyer.api.POST("/api/payments", { body: { orderId: order.id, paymentMethod: "pm_card_visa" } });
  let pass: Schemas["Pass"] | undefined;
  await eventually(async () => {
    pass = (await buyer.api.GET("/api/orders/{orderId}/pass", { params: { path: { orderId: order.id } } })).data;
  });
  expect(pass).toMatchObject({ orderId: order.id, ticketId: ticket.id, showId: show.id, title: "Hamlet", status: "valid" });

  const checkIn = () =>
    seller.api.POST("/api/shows/{showId}/checkins", {
      params: { path: { showId: show.id }, header: { "Idempotency-Key": crypto.randomUUID() } },
      body: { code: pass?.code ?? "" },
    });
  const { data: checkedIn } = await checkIn();
  expect(checkedIn.orderId).toBe(order.id);
  const again = await problemOf(checkIn());
  expect(again).toMatchObject({ status: 409, code: "already_used" });
  expect(again.members["usedAt"]).toBe(checkedIn.usedAt);
  await eventually(async () => {
    const resell = buyer.api.POST("/api/tickets", { body: { resaleOf: ticket.id, price: 4200 } });
    expect(await problemOf(resell)).toMatchObject({ status: 409, code: "pass_used" });
  });
});

test("pages together are the whole list", async () => {
  const { api } = await signUp();
  const ids = [];
  for (const title of ["one", "two", "three", "four", "five"]) {
    ids.push((await reserve(api, (await list(seller.api, title, 100)).id)).id);
  }

  const read: string[] = [];
  for await (const order of paginate((page) => api.GET("/api/orders", { params: { query: { limit: 2, ...page } } }))) {
    read.push(order.id);
  }

  expect(read).toEqual(ids.reverse()); // the newest first
});

test("a stale version is refused", async () => {
  const { id: ticketId } = await list(seller.api, "Concert", 4200);
  const edit = (price: number) =>
    seller.api.PUT("/api/tickets/{ticketId}", { params: { path: { ticketId } }, body: { title: "Concert", price, version: 1 } });

  expect((await edit(4300)).data).toMatchObject({ price: 4300, version: 2 });
  expect(await problemOf(edit(4400))).toMatchObject({ status: 409, code: "stale_version" });
});

test("the same key does a request once", async () => {
  const { id: ticketId } = await list(seller.api, "Concert", 4200);
  const key = crypto.randomUUID();
  const send = () =>
    retry(() => buyer.api.POST("/api/orders", { params: { header: { "Idempotency-Key": key } }, body: { ticketId } }));

  const first = await send();
  const second = await send();

  expect(second.data).toEqual(first.data);
  expect(first.response.headers.get("Idempotent-Replayed")).toBeNull();
  expect(second.response.headers.get("Idempotent-Replayed")).toBe("true");
  const other = buyer.api.POST("/api/orders", {
    params: { header: { "Idempotency-Key": key } },
    body: { ticketId: crypto.randomUUID() },
  });
  expect(await problemOf(other)).toMatchObject({ status: 409, code: "idempotency_key_reused" });
});

describe("problems have codes", () => {
  let ticket: Schemas["Ticket"];
  let order: Schemas["Order"];

  beforeAll(async () => {
    ticket = await list(seller.api, "Concert", 4200);
    order = await reserve(buyer.api, ticket.id);
  });

  test("not signed in", async () => {
    const problem = await problemOf(createClient({ baseUrl }).GET("/api/orders"));
    expect(problem).toMatchObject({ status: 401, code: "not_signed_in" });
    expect(problem.requestId).toBeTruthy();
  });

  test("fields that break a rule", async () => {
    const problem = await problemOf(seller.api.POST("/api/tickets", { body: { title: "", price: -1 } }));
    expect(problem.status).toBe(400);
    expect(problem.errors.map(({ field, code }) => `${field ?? ""} ${code ?? ""}`).sort()).toEqual([
      "price min",
      "title required",
    ]);
  });

  test("one's own reservation, with its order", async () => {
    const problem = await problemOf(buyer.api.POST("/api/orders", { body: { ticketId: ticket.id } }));
    expect(problem).toMatchObject({ status: 409, code: "own_reservation" });
    expect(problem.members["orderId"]).toBe(order.id);
  });

  test("another's order", async () => {
    const read = seller.api.GET("/api/orders/{orderId}", { params: { path: { orderId: order.id } } });
    expect(await problemOf(read)).toMatchObject({ status: 403, code: "not_buyer" });
  });

  test("another's ticket", async () => {
    const remove = buyer.api.DELETE("/api/tickets/{ticketId}", { params: { path: { ticketId: ticket.id } } });
    expect(await problemOf(remove)).toMatchObject({ status: 403, code: "not_owner" });
  });

  test("no such ticket", async () => {
    const read = buyer.api.GET("/api/tickets/{ticketId}", { params: { path: { ticketId: crypto.randomUUID() } } });
    expect(await problemOf(read)).toMatchObject({ status: 404, code: "not_found" });
  });

  test("a declined card", async () => {
    const pay = buyer.api.POST("/api/payments", { body: { orderId: order.id, paymentMethod: "pm_card_chargeDeclined" } });
    expect(await problemOf(pay)).toMatchObject({ status: 402, code: "generic_decline" });
  });

  test("a cancelled order", async () => {
    const path = { orderId: order.id };
    expect((await buyer.api.DELETE("/api/orders/{orderId}", { params: { path } })).data).toBeUndefined();
    await eventually(async () => {
      const pay = buyer.api.POST("/api/payments", { body: { orderId: order.id, paymentMethod: "pm_card_visa" } });
      expect(await problemOf(pay)).toMatchObject({ status: 409, code: "order_cancelled" });
    });
  });
});
