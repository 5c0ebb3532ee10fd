import { createClient, paginate, Problem } from "@boxoffice/client";
import { expect, test } from "vitest";

import { Gateway } from "./gateway.ts";

function titlesOf(gateway: Gateway) {
  const api = createClient({ baseUrl: "http://gateway", fetch: gateway.fetch });
  return paginate((page) => api.GET("/api/tickets", { params: { query: { limit: 2, ...page } } }));
}

const next = (cursor: string) => ({ Link: `</api/tickets?cursor=${encodeURIComponent(cursor)}&limit=2>; rel="next"` });

test("it yields the items of all pages in their order", async () => {
  const gateway = new Gateway();
  gateway
    .answer(200, [{ title: "a" }, { title: "b" }], next("a/b="))
    .answer(200, [], next("c"))
    .answer(200, [{ title: "c" }]);

  const titles = [];
  for await (const ticket of titlesOf(gateway)) {
    titles.push(ticket.title);
  }

  expect(titles).toEqual(["a", "b", "c"]);
  expect(gateway.requests.map((request) => new URL(request.url).search)).toEqual([
    "?limit=2",
    "?limit=2&cursor=a%2Fb%3D",
    "?limit=2&cursor=c",
  ]);
});

test("it reads no page that nobody asks for", async () => {
  const gateway = new Gateway().answer(200, [{ title: "a" }, { title: "b" }], next("b"));

  for await (const ticket of titlesOf(gateway)) {
    expect(ticket.title).toBe("a");
    break;
  }

  expect(gateway.requests).toHaveLength(1);
});

test("it throws the problem of a page", async () => {
  const gateway = new Gateway().answer(200, [{ title: "a" }], next("b")).refuse(400, "invalid");
  const tickets = titlesOf(gateway);

  await tickets.next();

  await expect(tickets.next()).rejects.toThrow(Problem);
});

test.each([
  ["other relations", '</api/tickets?cursor=x>; rel="prev"'],
  ["no cursor", '</api/tickets>; rel="next"'],
  ["no link", "none"],
])("a list ends without a next page: %s", async (_, link) => {
  const gateway = new Gateway().answer(200, [{ title: "a" }], { Link: link });
  const tickets = titlesOf(gateway);

  await tickets.next();

  expect((await tickets.next()).done).toBe(true);
});
