// What becomes of the list of a show's tickets when others buy and sell.
import { expect, test } from "@playwright/test";

import { apply, type Line, mark, type Tickets } from "../../src/show/tickets.ts";

const line = (id: string, price: number): Line => ({ id, price, currency: "usd", place: { section: "Stalls", number: id } });
const tickets: Tickets = {
  lines: [line("a", 100), line("b", 200), line("c", 300)],
  left: 3,
  sections: [],
  next: undefined,
  position: undefined,
};
const change = (
  ticketId: string,
  name: "new" | "changed" | "reserved" | "free" | "sold" | "withdrawn",
  price = 100,
  left = 2,
  section = "Stalls",
) => ({
  ticketId,
  change: name,
  price,
  left,
  currency: "usd",
  showId: "show",
  seat: { section },
});
const ids = (of: Tickets): string[] => of.lines.map(({ id }) => id);

for (const gone of ["reserved", "sold", "withdrawn"] as const) {
  test(`a ticket that is ${gone} keeps its line`, () => {
    const after = apply(tickets, change("b", gone, 200), undefined);
    expect(ids(after)).toEqual(["a", "b", "c"]);
    expect(after.lines[1]?.gone).toBe(gone);
    expect(after.left).toBe(2);
    expect(apply(after, change("b", gone, 200), undefined)).toEqual(after); // the same event again
    expect(apply(after, change("b", "free", 200, 3), undefined).lines[1]?.gone).toBeUndefined();
  });
}

test("a new ticket has its place by price, once", () => {
  const after = apply(tickets, change("d", "new", 200, 4), undefined);
  expect(ids(after)).toEqual(["a", "b", "d", "c"]);
  expect(after.lines[2]?.fresh).toBe(true);
  expect(ids(apply(after, change("d", "new", 200, 4), undefined))).toEqual(["a", "b", "d", "c"]);
  expect(ids(apply(tickets, change("d", "free", 900), undefined))).toEqual(["a", "b", "c", "d"]);
});

test("a ticket of a later page waits for that page", () => {
  const paged = { ...tickets, next: "cursor" };
  expect(ids(apply(paged, change("d", "new", 300), undefined))).toEqual(["a", "b", "c"]);
  expect(ids(apply(paged, change("d", "new", 250), undefined))).toEqual(["a", "b", "d", "c"]);
});

test("a section lists its own tickets, and counts all that are left", () => {
  const after = apply(tickets, change("d", "new", 100, 9, "Balcony"), "Stalls");
  expect(ids(after)).toEqual(["a", "b", "c"]);
  expect(after.left).toBe(9);
});

test("a ticket that is not listed and goes changes only what is left", () => {
  expect(apply(tickets, change("z", "sold", 100, 1), undefined)).toEqual({ ...tickets, left: 1 });
});

test("a price that its seller changed is the new one", () => {
  expect(apply(tickets, change("a", "changed", 150), undefined).lines[0]?.price).toBe(150);
});

test("a refused reservation marks the ticket", () => {
  expect(mark(tickets, "c", "sold").lines[2]?.gone).toBe("sold");
});
