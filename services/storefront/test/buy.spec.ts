// Orders: the countdown, payment with its ways to fail, expiry.
import type { Page } from "@playwright/test";

import { Account, type Show, showWithSeats } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { hastyUrl, storefrontUrl } from "./stacks.ts";

/** Signs a buyer in who has reserved a seat, and opens the order's page. */
async function reserved(page: Page, url = storefrontUrl, members: Partial<Show> = {}) {
  const { show, ticket } = await showWithSeats(url, 1, members);
  const buyer = await Account.signUp(url, "buyer");
  await signIn(page.context(), buyer);
  const order = await buyer.reserve(ticket);
  await page.goto(`${url}/orders/${order.id}`);
  return { show, buyer, order, ticket };
}

/** Chooses one of the test cards, and pays. */
async function pay(page: Page, card: string): Promise<void> {
  await page.locator(`[value=${card}]`).check();
  await page.getByRole("button", { name: /^Pay/ }).click();
}

test("a declined card is explained, and another one pays", async ({ page }) => {
  await reserved(page);

  await pay(page, "pm_card_chargeDeclinedInsufficientFunds");
  await expect(page.getByRole("alert")).toContainText(/money|funds/i);
  await expect(page.getByRole("timer")).toBeVisible();
  await pay(page, "pm_card_visa");

  await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
  await expect(page.getByRole("link", { name: /receipt/i })).toBeVisible();
  await page.reload();
  await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
});

test("the countdown is the server's, whatever the browser's clock, and survives a reload", async ({ page, visit }) => {
  const { buyer, order } = await reserved(page);
  const skewed = await visit();
  await signIn(skewed, buyer);
  await skewed.clock.install({ time: Date.now() + 3 * 60 * 60 * 1000 });
  const late = await skewed.newPage();
  await late.goto(`/orders/${order.id}`);

  const seconds = async (shown: Page): Promise<number> => {
    const [, minutes = "0", rest = "0"] = /(\d+):(\d\d)/.exec(await shown.getByRole("timer").innerText()) ?? [];
    return Number(minutes) * 60 + Number(rest);
  };
  await expect.poll(() => seconds(late)).toBeGreaterThan(0);
  const left = (Date.parse(order.expiresAt) - Date.now()) / 1000;
  expect(Math.abs((await seconds(late)) - left)).toBeLessThan(5);
  expect(Math.abs((await seconds(page)) - left)).toBeLessThan(5);
  await page.reload();
  await expect.poll(() => seconds(page)).toBeGreaterThan(0);
  expect(Math.abs((await seconds(page)) - (Date.parse(order.expiresAt) - Date.now()) / 1000)).toBeLessThan(5);
});

test("a reservation expires before the reader's eyes, and the ticket is free again", async ({ page, visit }) => {
  const { ticket } = await reserved(page, hastyUrl);
  await expect(page.getByRole("timer")).toBeVisible();
  const other = await (await visit()).newPage();
  await other.goto(`${hastyUrl}/shows/${ticket.showId ?? ""}`);

  await expect(page.getByRole("heading", { name: "The time to pay is over" })).toBeVisible();
  await expect(page.getByRole("button", { name: /^Pay/ })).toHaveCount(0);
  await expect(other.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(1);
});

test("3-D Secure at the bank: accepted, the order is complete", async ({ page }) => {
  const { order } = await reserved(page);
  await pay(page, "pm_card_authenticationRequired");
  await page.getByRole("button", { name: "Confirm payment" }).click();

  await expect(page).toHaveURL(`/orders/${order.id}`);
  await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
});

test("3-D Secure at the bank: failed, and another card pays", async ({ page }) => {
  const { order } = await reserved(page);
  await pay(page, "pm_card_authenticationRequired");
  await page.getByRole("button", { name: "Refuse payment" }).click();

  await expect(page).toHaveURL(`/orders/${order.id}`);
  await expect(page.getByRole("alert")).toBeVisible();
  await pay(page, "pm_card_visa");
  await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
});

test("3-D Secure at the bank: the reader goes back, and is asked again", async ({ page }) => {
  const { order } = await reserved(page);
  await pay(page, "pm_card_authenticationRequired");
  await expect(page.getByRole("button", { name: "Confirm payment" })).toBeVisible();
  await page.goBack();

  await expect(page).toHaveURL(`/orders/${order.id}`);
  await page.locator(".phase-bank .button").first().click();
  await page.getByRole("button", { name: "Confirm payment" }).click();
  await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
});

test("an order is cancelled before it is paid", async ({ page }) => {
  const { ticket } = await reserved(page);
  await page.locator(".cancel button").click();
  await expect(page.locator(".cancel button").first()).toBeFocused();
  await page.locator(".cancel button.danger").click();

  await expect(page.getByText(/cancelled/i).first()).toBeVisible();
  await page.goto(`/shows/${ticket.showId ?? ""}`);
  await expect(page.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(1);
});

test("without a connection the page names the problem, and goes on when it is back", async ({ page, context }) => {
  await reserved(page);
  await expect(page.getByRole("button", { name: /^Pay/ })).toBeVisible();
  await context.setOffline(true);
  await pay(page, "pm_card_visa");
  await expect(page.getByText("You are offline.").first()).toBeVisible();

  await context.setOffline(false);

  await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
});

test("an order and its show appear at once, and nothing moves", async ({ page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  const { order, show } = await reserved(page, storefrontUrl, { venue: "The Old Assembly Rooms at the Riverside" });
  let send: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => {
    send = resolve;
  });
  await page.route("**/api/shows/*", async (route) => {
    await asked;
    await route.continue();
  });
  const paymentRead = page.waitForResponse("**/api/payments?*");
  await page.reload();
  await paymentRead;
  await expect(page.locator(".order .skeleton").first()).toBeVisible();
  await expect(page.getByRole("link", { name: order.ticket.title })).toHaveCount(0);

  await page.evaluate(() => {
    const shifts: number[] = [];
    Object.assign(globalThis, { shifts });
    new PerformanceObserver((list) => {
      shifts.push(...list.getEntries().map((entry) => (entry as PerformanceEntry & { value: number }).value));
    }).observe({ type: "layout-shift" });
  });
  send();
  await expect(page.getByText("The Old Assembly Rooms at the Riverside, Freiburg")).toBeVisible();
  await expect(page.getByRole("button", { name: /^Pay/ })).toBeVisible();
  await page.evaluate(
    () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve)))),
  );
  expect(await page.evaluate(() => (globalThis as unknown as { shifts: number[] }).shifts)).toEqual([]);

  // The list of orders has the show of each, too.
  await page.goto("/orders");
  const start = new Date(show.startsAt).toLocaleTimeString("en-GB", {
    timeZone: "Europe/Berlin",
    hour: "2-digit",
    minute: "2-digit",
  });
  await expect(page.getByRole("article")).toContainText(start);
  await expect(page.getByRole("article")).toContainText("The Old Assembly Rooms at the Riverside, Freiburg");
});

test("an order is paid also if its show cannot be read", async ({ page }) => {
  await page.route("**/api/shows/*", (route) => route.abort());
  await reserved(page);
  await pay(page, "pm_card_visa");
  await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
  await page.goto("/orders");
  await expect(page.getByRole("article")).toContainText("ordered");
});

test("somebody else's order is not shown", async ({ page }) => {
  const { order } = await reserved(page);
  await signIn(page.context(), await Account.signUp(storefrontUrl, "other"));
  await page.goto(`/orders/${order.id}`);
  await expect(page.getByText("This order belongs to somebody else.")).toBeVisible();
});
