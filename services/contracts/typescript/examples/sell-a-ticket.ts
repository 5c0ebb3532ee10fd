// Sells a ticket to itself: a client in ten minutes. With Node 22.18 or later, after npm install @boxoffice/client:
//
//   node sell-a-ticket.ts http://localhost:8080
import { setTimeout } from "node:timers/promises";

import { createClient, paginate, Problem, retry, type Client } from "@boxoffice/client";

/** Signs up somebody new, and returns a client of that user. */
async function signUp(baseUrl: string, name: string): Promise<Client> {
  const body = { email: `${name}-${crypto.randomUUID()}@example.com`, password: "correct horse" };
  const nobody = createClient({ baseUrl });
  const { data } = await retry((key) =>
    nobody.POST("/api/users/signup", { params: { header: { "Idempotency-Key": key } }, body }),
  );
  return createClient({ baseUrl, token: data.token });
}

/** Pays with one of Stripe's test cards. */
async function pay(buyer: Client, orderId: string, paymentMethod: string) {
  const { data } = await retry((key) =>
    buyer.POST("/api/payments", { params: { header: { "Idempotency-Key": key } }, body: { orderId, paymentMethod } }),
  );
  return data;
}

export async function main(baseUrl: string, print: (line: string) => void): Promise<void> {
  const seller = await signUp(baseUrl, "seller");
  const buyer = await signUp(baseUrl, "buyer");

  const { data: ticket } = await retry((key) =>
    seller.POST("/api/tickets", {
      params: { header: { "Idempotency-Key": key } },
      body: { title: "Front row", price: 4500 }, // 45 dollars
    }),
  );
  print(`listed: ${ticket.id}`);

  // A new ticket may not be known at once: 503 not_yet_known, which retry repeats.
  let { data: order } = await retry((key) =>
    buyer.POST("/api/orders", { params: { header: { "Idempotency-Key": key } }, body: { ticketId: ticket.id } }),
  );
  print(`reserved until: ${order.expiresAt}`);

  try {
    await pay(buyer, order.id, "pm_card_chargeDeclined");
  } catch (error) {
    if (!(error instanceof Problem && error.status === 402)) {
      throw error;
    }
    print(`declined: ${error.code ?? ""}`);
  }
  const payment = await pay(buyer, order.id, "pm_card_visa");
  print(`paid: ${payment.status}`);

  // The payment is not yet success: only a complete order counts.
  while (order.status === "created") {
    await setTimeout(200);
    ({ data: order } = await buyer.GET("/api/orders/{orderId}", { params: { path: { orderId: order.id } } }));
  }
  print(`order: ${order.status}`);

  for await (const mine of paginate((page) => buyer.GET("/api/orders", { params: { query: { limit: 1, ...page } } }))) {
    print(`bought: ${mine.ticket.title}`);
  }
}

const [, script, baseUrl = "http://localhost:8080"] = process.argv;
if (script !== undefined && import.meta.url.endsWith(script)) {
  await main(baseUrl, console.log);
}
