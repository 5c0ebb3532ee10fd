// What sellers type: amounts, numbers of seats, and times at the place of a show.
import { expect, test } from "@playwright/test";

import type { Ticket } from "../../src/lib/api.ts";
import { editAmount, parseAmount } from "../../src/lib/amount.ts";
import { mostTickets, NumbersError, parseNumbers } from "../../src/selling/numbers.ts";
import { byShow } from "../../src/selling/groups.ts";
import { momentOf, wallOf, zoneIn } from "../../src/selling/zone.ts";

const amounts: [text: string, locale: string, currency: string, minor: number | undefined][] = [
  ["45", "en", "usd", 4500],
  ["45.5", "en", "usd", 4550],
  ["$45.50", "en", "usd", 4550],
  ["USD 12", "en", "usd", 1200],
  ["1,234", "en", "usd", 123_400],
  ["1,234.50", "en", "usd", 123_450],
  ["45,50", "en", "usd", 4550], // no group of thousands: a decimal comma
  ["45,50", "de", "eur", 4550],
  ["45.50", "de", "eur", 4550], // no group of thousands: a decimal point
  ["1.234,50 €", "de", "eur", 123_450],
  ["1 234,50", "de", "eur", 123_450],
  ["1.234", "de", "eur", 123_400],
  ["12,", "de", "eur", 1200],
  ["500", "en", "jpy", 500],
  ["500.5", "en", "jpy", undefined],
  ["1.234", "en", "usd", undefined], // more digits than the currency has
  ["1,23,4", "en", "usd", undefined],
  ["1.2.3", "en", "usd", undefined],
  ["-5", "en", "usd", undefined],
  ["ten", "en", "usd", undefined],
  ["", "en", "usd", undefined],
];

for (const [text, locale, currency, minor] of amounts) {
  test(`"${text}" in ${locale} is ${minor ?? "no amount"} of ${currency}`, () => {
    expect(parseAmount(text, locale, currency)).toBe(minor);
  });
}

test("an amount in a field is read as it was written", () => {
  for (const locale of ["en", "de"]) {
    for (const minor of [0, 5, 50, 4500, 123_456_789]) {
      expect(parseAmount(editAmount(minor, locale, "eur"), locale, "eur")).toBe(minor);
    }
  }
});

test("numbers of seats are single ones and ranges", () => {
  expect(parseNumbers("1-3, 5, A1–A2; 07 - 09\n5")).toEqual(["1", "2", "3", "5", "A1", "A2", "07", "08", "09"]);
  expect(parseNumbers(" , ")).toEqual([]);
  for (const wrong of ["3-1", "1-", "-2", "A1-B3", "5, 2-"]) {
    expect(() => parseNumbers(wrong), wrong).toThrow(NumbersError);
  }
});

test("there is a limit of seats", () => {
  expect(parseNumbers(`1-${mostTickets}`)).toHaveLength(mostTickets);
  expect(() => parseNumbers(`1-${mostTickets + 1}`)).toThrow(NumbersError);
});

const times: [wall: string, zone: string, moment: string][] = [
  ["2027-12-24T19:30", "Europe/Berlin", "2027-12-24T18:30:00.000Z"],
  ["2027-07-01T20:00", "America/New_York", "2027-07-02T00:00:00.000Z"],
  ["2027-01-01T00:00", "Asia/Kolkata", "2026-12-31T18:30:00.000Z"],
  ["2027-01-01T00:00", "UTC", "2027-01-01T00:00:00.000Z"],
  ["2027-10-31T02:30", "Europe/Berlin", "2027-10-31T00:30:00.000Z"], // the hour that occurs twice: the first one
];

for (const [wall, zone, moment] of times) {
  test(`${wall} in ${zone} is ${moment}`, () => {
    expect(momentOf(wall, zone)?.toISOString()).toBe(moment);
    expect(wallOf(moment, zone)).toBe(wall);
  });
}

test("an hour that the clocks skip is an hour later", () => {
  expect(momentOf("2027-03-28T02:30", "Europe/Berlin")?.toISOString()).toBe("2027-03-28T01:30:00.000Z");
});

test("what is no time is none", () => {
  expect(momentOf("", "UTC")).toBeUndefined();
  expect(momentOf("tomorrow", "UTC")).toBeUndefined();
  expect(momentOf("2027-13-45T99:99", "UTC")).toBeUndefined();
});

const zones: [country: string, chosen: string, zone: string][] = [
  ["AT", "UTC", "Europe/Vienna"],
  ["DE", "America/Chicago", "Europe/Berlin"], // two zones, which have the same time
  ["US", "America/Chicago", "America/Chicago"],
  ["US", "Europe/Berlin", "Europe/Berlin"], // nobody knows which one
  ["", "Europe/Berlin", "Europe/Berlin"],
];

for (const [country, chosen, zone] of zones) {
  test(`for ${country || "no country"} after ${chosen} the zone is ${zone}`, () => {
    expect(zoneIn(country, chosen)).toBe(zone);
  });
}

test("listings are together by their show, and in a show by their place", () => {
  const listing = (id: string, showId?: string, seat?: Ticket["seat"]) =>
    ({ id, ...(showId && { showId }), ...(seat && { seat }) }) as Ticket;
  const groups = byShow([
    listing("1", "b", { section: "Stalls", row: "A", number: "10" }),
    listing("2", "a", { section: "Bar" }),
    listing("3", "b", { section: "Stalls", row: "A", number: "2" }),
    listing("4"),
    listing("5", "b", { section: "Balcony", row: "C", number: "30" }),
  ]);
  expect(groups.map(({ showId, tickets }) => [showId, tickets.map(({ id }) => id)])).toEqual([
    ["b", ["5", "3", "1"]],
    ["a", ["2"]],
    [undefined, ["4"]],
  ]);
});
