// Pages of other origins cannot act for somebody who is signed in. A foreign page at the same host is of the same site, because ports do
// not count: browsers send its requests the cookies. At another name of this machine it is of another site.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import type { BrowserContext } from "@playwright/test";

import { Account, showWithSeats, type Order, type Ticket } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { storefrontUrl } from "./stacks.ts";

let server: Server;
let port: number;

test.beforeAll(async () => {
  server = createServer((request, response) => {
    const form = new URL(request.url ?? "/", "http://localhost").searchParams;
    const body = form.has("action")
      ? `<form method="post" action="${form.get("action") ?? ""}" enctype="${form.get("enctype") ?? ""}">
          <input name='${form.get("name") ?? ""}' value='${form.get("value") ?? ""}'><button>Send</button></form>`
      : `<iframe title="framed" src="${form.get("frame") ?? "about:blank"}"></iframe>`;
    response.setHeader("Content-Type", "text/html").end(`<!doctype html><title>A foreign page</title>${body}`);
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  ({ port } = server.address() as AddressInfo);
});

test.afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** A victim who is signed in at a browser, with a listing and an order. */
async function victim(context: BrowserContext) {
  const account = await Account.signUp(storefrontUrl, "victim");
  await signIn(context, account);
  const ticket = await account.call<Ticket>("POST", "/api/tickets", { title: "Front row", price: 4500 });
  const { ticket: seat } = await showWithSeats(storefrontUrl, 1);
  const order = await account.reserve(seat);
  return { account, ticket, order };
}

/** Everything is as it was. */
async function untouched({ account, ticket, order }: Awaited<ReturnType<typeof victim>>, context: BrowserContext) {
  expect(await account.call<Ticket>("GET", `/api/tickets/${ticket.id}`)).toMatchObject({
    version: ticket.version,
    status: "available",
  });
  expect(await account.call<Order>("GET", `/api/orders/${order.id}`)).toMatchObject({ status: "created" });
  const mine = await account.call<Ticket[]>("GET", "/api/tickets?seller=me");
  expect(mine.map(({ id }) => id)).toEqual([ticket.id]);
  const current = await context.request.get(`${storefrontUrl}/api/users/currentuser`);
  expect(await current.json()).toMatchObject({ currentUser: { id: account.id } });
}

for (const [site, host] of [
  ["the same site", new URL(storefrontUrl).hostname],
  ["another site", new URL(storefrontUrl).hostname === "localhost" ? "127.0.0.1" : "localhost"],
] as const) {
  test(`forms of ${site} are refused`, async ({ browser }) => {
    const context = await browser.newContext();
    const prey = await victim(context);
    const page = await context.newPage();

    const forms = [
      { action: "/api/users/signout-everywhere", enctype: "application/x-www-form-urlencoded", name: "a", value: "b" },
      { action: "/api/tickets", enctype: "text/plain", name: '{"title":"Forged","price":100,"ignored":"', value: '"}' },
      { action: "/api/orders", enctype: "multipart/form-data", name: "ticketId", value: prey.ticket.id },
      {
        action: "/api/payments",
        enctype: "text/plain",
        name: `{"orderId":"${prey.order.id}","paymentMethod":"pm_card_visa","i":"`,
        value: '"}',
      },
    ];
    for (const form of forms) {
      const query = new URLSearchParams({ ...form, action: storefrontUrl + form.action });
      await page.goto(`http://${host}:${port}/?${query.toString()}`);
      const answer = page.waitForResponse((response) => response.url() === storefrontUrl + form.action);
      await page.getByRole("button").click();
      const response = await answer;
      expect(response.status(), form.action).toBe(403);
      expect(await response.text()).toContain('"cross_origin"');
      await page.waitForLoadState();
    }

    await untouched(prey, context);
    await context.close();
  });

  test(`scripts of ${site} are refused`, async ({ browser }) => {
    const context = await browser.newContext();
    const prey = await victim(context);
    const page = await context.newPage();
    await page.goto(`http://${host}:${port}/`);

    await page.evaluate((url) => navigator.sendBeacon(url, '{"title":"Forged","price":100}'), `${storefrontUrl}/api/tickets`);
    const requests: [string, string, RequestInit][] = [
      ["POST", "/api/users/signout-everywhere", { mode: "no-cors" }],
      ["POST", "/api/tickets", { mode: "no-cors", body: '{"title":"Forged","price":100}' }],
      ["POST", "/api/tickets", { headers: { "Content-Type": "application/json" }, body: '{"title":"Forged","price":100}' }],
      ["DELETE", `/api/orders/${prey.order.id}`, {}],
      ["DELETE", `/api/tickets/${prey.ticket.id}`, { headers: { "If-Match": '"1"' } }],
      ["PUT", `/api/tickets/${prey.ticket.id}`, { headers: { "If-Match": '"1"' }, body: '{"title":"Forged","price":1}' }],
      ["GET", "/api/users/currentuser", {}],
    ];
    for (const [method, path, init] of requests) {
      const read = await page.evaluate(
        async ([url, options]) => {
          try {
            const response = await fetch(url, options);
            return response.type === "opaque" ? "" : await response.text();
          } catch {
            return "";
          }
        },
        [storefrontUrl + path, { method, credentials: "include", ...init }] as const,
      );
      expect(read, `${method} ${path}`).toBe("");
    }
    await untouched(prey, context);
    await context.close();
  });
}

test("no page shows in a frame of another origin", async ({ browser }) => {
  const context = await browser.newContext();
  const page = await context.newPage();
  for (const path of ["/", "/signin", "/account"]) {
    const refused = page.waitForEvent("console", (message) => message.text().includes("frame-ancestors"));
    await page.goto(`http://localhost:${port}/?${new URLSearchParams({ frame: storefrontUrl + path }).toString()}`);
    await refused;
    await expect(page.frameLocator("iframe").getByRole("main")).toHaveCount(0);
  }
  await context.close();
});
