import { expect, test } from "vitest";
import * as rules from "../src/delivery.ts";
import type { MarketEvent } from "../src/delivery.ts";
import * as endpoints from "../src/endpoint.ts";
import { noAccount, type Account, type EventType } from "../src/endpoint.ts";
import { buyer, noon, orderData, seller, stranger, ticketData } from "./fixtures.ts";

const hour = 3_600_000;
const day = 24 * hour;
const later = (ms: number) => new Date(noon.getTime() + ms);
const settings = { url: "https://tickets.example/", events: ["order.completed"] as EventType[] };

function accountWith(...ids: string[]): Account {
  return ids.reduce((account, id) => endpoints.addEndpoint(account, id, "whsec_" + id, settings, noon), noAccount);
}

function event(type: EventType, data: Record<string, unknown>, republished = false): MarketEvent {
  return { id: `${type}:x:1`, type, at: noon, data, republished };
}

function aDelivery(): rules.Delivery {
  return rules.newDelivery("e", seller, { id: "order.completed:x:1", type: "order.completed", at: noon }, "{}", noon);
}

const failed: rules.Attempt = { at: noon.toISOString(), durationMs: 5, status: 500 };
const answered: rules.Attempt = { at: noon.toISOString(), durationMs: 5, status: 204 };

test("an account has at most five endpoints", () => {
  const full = accountWith("1", "2", "3", "4", "5");
  expect(() => endpoints.addEndpoint(full, "6", "", settings, noon)).toThrow(/cannot have more/);
  expect(endpoints.addEndpoint(endpoints.removeEndpoint(full, "3"), "6", "", settings, noon).endpoints).toHaveLength(5);
});

test("a stale version is refused, and every change is a new version", () => {
  const account = endpoints.changeEndpoint(accountWith("1"), "1", 1, settings, undefined, noon);
  expect(account.endpoints[0]?.version).toBe(2);
  expect(() => endpoints.changeEndpoint(account, "1", 1, settings, undefined, noon)).toThrow(/version is 2, not 1/);
  expect(() => endpoints.changeEndpoint(account, "2", undefined, settings, undefined, noon)).toThrow(/nothing with this id/);
});

test.each(["", " ", " \u00a0 "])("the description %j is none", (description) => {
  expect(endpoints.addEndpoint(noAccount, "1", "", { ...settings, description }, noon).endpoints[0]).not.toHaveProperty(
    "description",
  );
});

test("a change without a description removes it", () => {
  const described = endpoints.changeEndpoint(
    accountWith("1"),
    "1",
    undefined,
    { ...settings, description: "a" },
    undefined,
    noon,
  );
  expect(described.endpoints[0]?.description).toBe("a");
  const without = endpoints.changeEndpoint(described, "1", undefined, settings, undefined, noon);
  expect(without.endpoints[0]).not.toHaveProperty("description");
});

test("the owner disables an endpoint and enables it again", () => {
  const off = endpoints.changeEndpoint(accountWith("1"), "1", undefined, settings, "disabled", noon);
  expect(off.endpoints[0]).toMatchObject({ status: "disabled", disabledReason: "user", disabledAt: noon.toISOString() });
  expect(endpoints.isLive(off)).toBe(false);
  const on = endpoints.changeEndpoint(off, "1", undefined, settings, "enabled", noon);
  expect(on.endpoints[0]).toMatchObject({ status: "enabled" });
  expect(on.endpoints[0]).not.toHaveProperty("disabledReason");
});

/** The account after failures every six hours, the first at noon and the last one less than six hours before the end. */
function failing(account: Account, end: number): Account {
  for (let at = 0; at < end; at += 6 * hour) {
    account = endpoints.noteFailure(account, "1", later(at));
  }
  return account;
}

test("an endpoint that fails for five days is disabled, and a success in between begins anew", () => {
  let account = failing(accountWith("1"), 5 * day);
  expect(account.endpoints[0]).toMatchObject({ status: "enabled", failingSince: noon.toISOString() });
  expect(endpoints.noteFailure(account, "1", later(5 * day - 1)).endpoints[0]?.status).toBe("enabled");
  expect(endpoints.noteFailure(account, "1", later(5 * day)).endpoints[0]).toMatchObject({
    status: "disabled",
    disabledReason: "failing",
    version: 2,
  });
  account = endpoints.noteSuccess(account, "1");
  expect(account.endpoints[0]).not.toHaveProperty("failingSince");
  account = endpoints.noteFailure(account, "1", later(5 * day));
  expect(account.endpoints[0]).toMatchObject({ status: "enabled", failingSince: later(5 * day).toISOString() });
});

test("a failure after a quiet time begins anew", () => {
  const account = failing(accountWith("1"), day);
  const last = day - 6 * hour;
  const soon = endpoints.noteFailure(account, "1", later(last + 12 * hour - 1));
  expect(soon.endpoints[0]).toMatchObject({ failingSince: noon.toISOString() });
  for (const at of [later(last + 12 * hour), later(30 * day)]) {
    const anew = endpoints.noteFailure(account, "1", at);
    expect(anew.endpoints[0]).toMatchObject({ status: "enabled", failingSince: at.toISOString() });
    expect(anew.version).toBe(account.version); // which event goes where has not changed
  }
});

test("the longest pause between two attempts is no quiet time", () => {
  const longest = rules.pauseAfter(100, 1);
  let account = endpoints.noteFailure(accountWith("1"), "1", noon);
  for (let at = hour - 1; at < 5 * day + longest; at += longest) {
    account = endpoints.noteFailure(account, "1", later(at));
  }
  expect(account.endpoints[0]).toMatchObject({ status: "disabled", disabledReason: "failing" });
});

test("failures within an hour change the account once", () => {
  const account = endpoints.noteFailure(accountWith("1"), "1", noon);
  expect(endpoints.noteFailure(account, "1", later(hour - 1))).toBe(account);
  expect(endpoints.noteFailure(account, "1", later(hour))).not.toBe(account);
});

test("another URL has not failed yet, and other changes keep what has", () => {
  const account = failing(accountWith("1"), day);
  const events = ["ticket.created"] as EventType[];
  const same = endpoints.changeEndpoint(account, "1", undefined, { ...settings, events }, "enabled", later(day));
  expect(same.endpoints[0]).toMatchObject({ events, failingSince: noon.toISOString() });
  const other = { ...settings, url: "https://tickets.example/corrected" };
  const corrected = endpoints.changeEndpoint(account, "1", undefined, other, undefined, later(day));
  expect(corrected.endpoints[0]).toMatchObject({ url: other.url, status: "enabled" });
  expect(corrected.endpoints[0]).not.toHaveProperty("failingSince");
  expect(corrected.endpoints[0]).not.toHaveProperty("lastFailure");
});

test("an old secret signs for a day", () => {
  const rotated = endpoints.findEndpoint(endpoints.rotateSecret(accountWith("1"), "1", "whsec_new", noon), "1");
  expect(endpoints.secretsOf(rotated, later(day - 1))).toEqual(["whsec_new", "whsec_1"]);
  expect(endpoints.secretsOf(rotated, later(day))).toEqual(["whsec_new"]);
});

test("after a second rotation each old secret signs until its own day has ended", () => {
  const once = endpoints.rotateSecret(accountWith("1"), "1", "whsec_2", noon);
  const twice = endpoints.findEndpoint(endpoints.rotateSecret(once, "1", "whsec_3", later(hour)), "1");
  expect(endpoints.secretsOf(twice, later(day - 1))).toEqual(["whsec_3", "whsec_2", "whsec_1"]);
  expect(endpoints.secretsOf(twice, later(day))).toEqual(["whsec_3", "whsec_2"]);
  expect(endpoints.secretsOf(twice, later(day + hour))).toEqual(["whsec_3"]);
});

test("the five newest secrets sign, and none is kept longer than it signs", () => {
  let account = accountWith("1");
  for (let n = 2; n <= 7; n++) {
    account = endpoints.rotateSecret(account, "1", `whsec_${n}`, noon);
  }
  const all = ["whsec_7", "whsec_6", "whsec_5", "whsec_4", "whsec_3"];
  expect(endpoints.secretsOf(endpoints.findEndpoint(account, "1"), noon)).toEqual(all);
  const anew = endpoints.findEndpoint(endpoints.rotateSecret(account, "1", "whsec_8", later(day)), "1");
  expect(anew.previousSecrets).toMatchObject([{ secret: "whsec_7" }]);
});

test("events go to the seller and the buyer, and to nobody else", () => {
  expect(rules.audienceOf(event("ticket.updated", ticketData()))).toEqual(new Map([[seller, "seller"]]));
  expect(rules.audienceOf(event("order.completed", orderData()))).toEqual(
    new Map([
      [seller, "seller"],
      [buyer, "buyer"],
    ]),
  );
});

test("seller and buyer get what becomes of a pass", () => {
  const used = event("order.updated", { ...orderData(3), usedAt: noon.toISOString(), resoldAt: noon.toISOString() });
  expect([...rules.audienceOf(used).keys()]).toEqual([seller, buyer]);
  const { data } = JSON.parse(rules.messageOf(used, "seller")) as { data: Record<string, unknown> };
  expect(data).toMatchObject({ usedAt: noon.toISOString(), resoldAt: noon.toISOString() });
  expect(data).not.toHaveProperty("userId");
});

test("an order of an earlier release has no seller, and goes to the buyer alone", () => {
  const { sellerId, ...data } = orderData();
  expect(sellerId).toBe(seller);
  expect(rules.audienceOf(event("order.created", data))).toEqual(new Map([[buyer, "buyer"]]));
});

test("a message has the show and the place of a ticket", () => {
  const ofShow = { showId: "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7", seat: { section: "Stalls", row: "C", number: "12" } };
  const ticket = {
    ...ticketData(),
    ...ofShow,
    faceValue: 4500,
    salesEndAt: "2026-12-24T18:30:00.000Z",
    revoked: true,
    showOwnerId: stranger,
    resaleOf: { ticketId: "0197a1b2-c3d4-7e5f-8a9b-0000000000cc", orderId: "0197a1b2-c3d4-7e5f-8a9b-0000000000dd" },
  };
  expect(JSON.parse(rules.messageOf(event("ticket.deleted", ticket), "seller"))).toMatchObject({ data: ticket });
  const order = { ...orderData(), ticket: { ...(orderData()["ticket"] as object), ...ofShow } };
  expect(JSON.parse(rules.messageOf(event("order.created", order), "seller"))).toMatchObject({ data: { ticket: ofShow } });
});

test("a seller does not learn who the buyer is", () => {
  const sent = event("order.completed", orderData());
  expect(rules.messageOf(sent, "seller")).not.toContain(buyer);
  expect(JSON.parse(rules.messageOf(sent, "seller"))).toMatchObject({
    type: "order.completed",
    timestamp: noon.toISOString(),
    role: "seller",
    data: { sellerId: seller },
  });
  expect(JSON.parse(rules.messageOf(sent, "buyer"))).toMatchObject({ role: "buyer", data: { userId: buyer } });
  expect(JSON.parse(rules.messageOf(event("ticket.created", ticketData()), "seller"))).toMatchObject({
    data: { userId: seller },
  });
});

test("only enabled endpoints get events, and only those that they asked for", () => {
  const account = endpoints.changeEndpoint(accountWith("1", "2"), "2", undefined, settings, "disabled", noon);
  expect(rules.recipientsOf(account, event("order.completed", orderData())).map(({ id }) => id)).toEqual(["1"]);
  expect(rules.recipientsOf(account, event("order.created", orderData()))).toEqual([]);
});

test("an event that is published again does not go to an endpoint that is younger", () => {
  const account = accountWith("1");
  const old = { ...orderData(), updatedAt: later(-1).toISOString(), createdAt: later(-1).toISOString() };
  expect(rules.recipientsOf(account, event("order.completed", old, true))).toEqual([]);
  expect(rules.recipientsOf(account, event("order.completed", orderData(), true))).toHaveLength(1);
  expect(rules.recipientsOf(account, event("order.completed", old))).toHaveLength(1);
});

test("the id of a delivery depends on endpoint and event alone", () => {
  expect(rules.deliveryId("e", "x")).toBe(rules.deliveryId("e", "x"));
  expect(rules.deliveryId("e", "x")).toMatch(/^msg_[A-Za-z0-9_-]{27}$/);
  expect(new Set(["e x", "e y", "f x"].map((pair) => rules.deliveryId(pair[0] ?? "", pair.slice(2)))).size).toBe(3);
});

test("an attempt that is answered with 2xx ends a delivery", () => {
  const delivered = rules.afterAttempt(aDelivery(), answered, noon, 0);
  expect(delivered).toMatchObject({ status: "delivered", attempts: 1, lastAttempt: answered });
  expect(delivered).not.toHaveProperty("due");
});

test.each([199, 301, 302, 307, 400, 404, 410, 429, 500, 503, undefined])("the answer %s is a failure", (status) => {
  const attempt = { at: noon.toISOString(), durationMs: 1, ...(status === undefined ? { error: "x" } : { status }) };
  expect(rules.afterAttempt(aDelivery(), attempt, noon, 0).status).toBe("pending");
});

test("failures are repeated with growing pauses for three days, and then it has failed", () => {
  let delivery = aDelivery();
  let now = noon;
  const pauses: number[] = [];
  while (delivery.status === "pending") {
    delivery = rules.afterAttempt(delivery, failed, now, 0.5);
    if (delivery.due !== undefined) {
      pauses.push(delivery.due * 1000 - now.getTime());
      now = new Date(delivery.due * 1000);
    }
  }
  expect(delivery.status).toBe("failed");
  expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
  expect(pauses[0]).toBeLessThanOrEqual(6000);
  expect(now.getTime()).toBeLessThanOrEqual(noon.getTime() + 3 * day);
  expect(now.getTime()).toBeGreaterThan(noon.getTime() + 3 * day - 8 * hour);
  expect(delivery.attempts).toBeGreaterThan(15);
});

test("pauses differ at random, and are never shorter than they should be", () => {
  expect(rules.pauseAfter(1, 0)).toBe(5000);
  expect(rules.pauseAfter(1, 1)).toBe(6000);
  expect(rules.pauseAfter(100, 0)).toBe(6 * hour);
});

test("the pause of what is put off again and again grows to minutes, and differs at random", () => {
  const pause = (times: number, random: number) => rules.laterSlot(noon, times, random) - noon.getTime() / 1000;
  expect([0, 1, 2, 3, 4, 1000].map((times) => pause(times, 0))).toEqual([30, 60, 120, 240, 240, 240]);
  expect(pause(1000, 1)).toBe(480);
});

test("an attempt and its owner end what is known of a delivery that was put off", () => {
  const delivery = { ...aDelivery(), putOff: 5 };
  expect(rules.afterAttempt(delivery, failed, noon, 0)).not.toHaveProperty("putOff");
  expect(rules.redeliver(delivery, noon)).not.toHaveProperty("putOff");
});

test("a delivery that has failed can be sent again for three more days", () => {
  const ended = { ...rules.abandon(aDelivery()), failures: 18, attempts: 18 };
  const again = rules.redeliver(ended, later(10 * day));
  expect(again).toMatchObject({ status: "pending", failures: 0, attempts: 18 });
  expect(rules.afterAttempt(again, failed, later(10 * day), 0).status).toBe("pending");
});

test("a late failure does not undo a success", () => {
  const delivered = rules.afterAttempt(aDelivery(), answered, noon, 0);
  expect(rules.afterAttempt(delivered, failed, noon, 0)).toMatchObject({ status: "delivered", attempts: 2 });
});

test("an attempt begins only if it can end within the lease", () => {
  const delivery = aDelivery();
  expect(rules.latestBegin(delivery) + rules.attemptTime).toBe((delivery.due ?? 0) * 1000);
  expect(rules.latestBegin(delivery)).toBeGreaterThan(noon.getTime());
});
