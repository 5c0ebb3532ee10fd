// The server's clock is found from whole seconds of several responses.
import { expect, test } from "@playwright/test";

import { noteServerTime, serverNow } from "../../src/lib/clock.ts";

/** A response that the server wrote at a time of its clock, in milliseconds. */
const written = (at: number): Response =>
  new Response(null, { headers: { Date: new Date(Math.floor(at / 1000) * 1000).toUTCString() } });

test("each response makes the difference to the device's clock more exact", () => {
  const ahead = Date.parse("2040-01-01T00:00:00Z"); // the server's clock at performance.now() 0
  const errorAfter = (moment: number): number => {
    noteServerTime(written(ahead + moment), moment, moment);
    const before = performance.now();
    const now = serverNow() - ahead;
    return Math.max(0, before - now, now - performance.now());
  };
  expect(errorAfter(10_500)).toBeLessThanOrEqual(500);
  expect(errorAfter(11_990)).toBeLessThanOrEqual(500);
  expect(errorAfter(13_010)).toBeLessThanOrEqual(20);
  // A response that took long, or has no date, makes it no worse.
  noteServerTime(written(ahead + 20_000), 15_000, 25_000);
  noteServerTime(new Response(null), 26_000, 26_000);
  expect(errorAfter(27_500)).toBeLessThanOrEqual(20);
});

test("a clock that was set is followed", () => {
  const set = serverNow() + 3_600_000;
  noteServerTime(written(set), performance.now(), performance.now());
  expect(serverNow()).toBeGreaterThan(set - 3_000);
});
