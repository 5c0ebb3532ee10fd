// What becomes of the list of a show's tickets when others buy and sell.
import { expect, test } from "@playwright/test";

import { apply, type Line, mark, offersOf, sorted, type Tickets } from "../../src/show/tickets.ts";

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
  seat: { section, number: ticketId },
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
  expect(mark(tickets, "c", { gone: "sold" }).lines[2]?.gone).toBe("sold");
});

const standing = (id: string, price: number): Line => ({ id, price, currency: "usd", place: { section: "Bar" } });
const bar: Tickets = {
  ...tickets,
  lines: sorted([...tickets.lines, standing("x", 100), standing("y", 100), standing("z", 100)]),
};
const rows = (of: Tickets): string[] =>
  offersOf(of).map(({ lines, free }) => `${lines.map(({ id }) => id).join("")} ${free.length}`);

test("tickets without a number are one row for each place and price, and the others have their own", () => {
  expect(rows(bar)).toEqual(["xyz 3", "a 1", "b 1", "c 1"]);
  expect(rows({ ...bar, lines: sorted([...bar.lines, standing("v", 250), standing("w", 250)]) })).toEqual([
    "xyz 3",
    "a 1",
    "b 1",
    "vw 2",
    "c 1",
  ]);
  const resold = { ...standing("r", 100), faceValue: 80 };
  expect(rows({ ...bar, lines: sorted([...bar.lines, resold]) })).toEqual(["xyz 3", "r 1", "a 1", "b 1", "c 1"]);
});

test("a row has fewer tickets when one of them goes, and more when one comes", () => {
  const event = (id: string, name: "reserved" | "new", left: number) => ({
    ...change(id, name, 100, left),
    seat: { section: "Bar" },
  });
  const fewer = apply(bar, event("y", "reserved", 5), undefined);
  expect(rows(fewer)).toEqual(["xyz 2", "a 1", "b 1", "c 1"]);
  expect(rows(apply(fewer, event("n", "new", 6), undefined))).toEqual(["xyzn 3", "a 1", "b 1", "c 1"]);
});

test("a ticket with a new price goes to the row of that price", () => {
  const after = apply(bar, { ...change("y", "changed", 300), seat: { section: "Bar" } }, undefined);
  expect(rows(after)).toEqual(["xz 2", "a 1", "b 1", "y 1", "c 1"]);
});

test("only the last row may go on with the next page", () => {
  const lines = sorted([standing("x", 100), standing("y", 100), standing("v", 200), standing("w", 200)]);
  expect(offersOf({ lines, next: "cursor" }).map(({ more }) => more)).toEqual([false, true]);
  expect(offersOf({ lines, next: undefined }).map(({ more }) => more)).toEqual([false, false]);
});

test("tickets of one price are in the order of their places, and 9 is before 10", () => {
  const seat = (id: string, row: string, number: string): Line => ({
    ...line(id, 100),
    place: { section: "Stalls", row, number },
  });
  const mixed = [seat("d", "10", "1"), seat("c", "9", "10"), seat("b", "9", "9"), standing("a", 100), seat("e", "A", "1")];
  expect(sorted(mixed).map(({ id }) => id)).toEqual(["a", "b", "c", "d", "e"]);
});
