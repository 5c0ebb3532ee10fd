// Sell: announce a show with a picture, list its seats, change and withdraw listings, see what was earned.
import { readFile } from "node:fs/promises";
import { deflateSync } from "node:zlib";

import type { Locator, Page } from "@playwright/test";

import { Account, eventually, inDays, showWithSeats } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { settled } from "./pages.ts";
import { storefrontUrl } from "./stacks.ts";

/** A picture of one colour, as a PNG file. */
function picture(width: number, height: number): Buffer {
  const line = Buffer.concat([Buffer.from([0]), Buffer.alloc(width * 3, Buffer.from([200, 80, 40]))]);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(Buffer.concat(Array.from({ length: height }, () => line)))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function chunk(type: string, content: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type), content]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(content.length);
  let crc = 0xffffffff;
  for (const byte of body) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    }
  }
  sum.writeUInt32BE(~crc >>> 0);
  return Buffer.concat([length, body, sum]);
}

const field = (page: Page, name: string) => page.locator(`main [name="${name}"]`);

test("a show is announced with a picture, and its seats are listed", async ({ page, context, signedIn, visit }) => {
  await signedIn(context);
  const name = `Opening night ${Date.now()}`;
  await page.goto("/");
  await page.getByRole("link", { name: "Sell" }).first().click();
  await page.locator('main a[href="/sell?new=show"]').click();
  await field(page, "name").fill(name);
  await field(page, "category").selectOption("theatre");
  await field(page, "venue").fill("Stadttheater");
  await field(page, "city").fill("Freiburg");
  await field(page, "country").selectOption("DE");
  await field(page, "startsAt").fill("2028-05-04T19:30");
  await field(page, "timeZone").selectOption("Europe/Berlin");
  await field(page, "description").fill("With music.");
  await field(page, "maxMarkup").fill("20");
  await page.locator("input[type=file]").setInputFiles({ name: "poster.png", mimeType: "image/png", buffer: picture(640, 360) });
  await expect(page.locator("img.image-preview")).toBeVisible();
  await page.locator("main form button[type=submit]").click();

  await expect(page).toHaveURL(/\/sell\?show=/);
  await field(page, "section").fill("Stalls");
  await field(page, "row").fill("C");
  await field(page, "places").fill("1-4, 7");
  await field(page, "price").fill("45.50");
  await expect(page.getByText("$227.50")).toBeVisible();
  await page.locator("main form button[type=submit]").click();
  await expect(page.getByRole("status").getByText(/5/).first()).toBeVisible();
  await page.getByRole("status").getByRole("link", { name: /show/i }).click();

  await expect(page.getByRole("heading", { level: 1 })).toHaveText(name);
  const visitor = await (await visit()).newPage();
  await visitor.goto(page.url());
  await expect(visitor.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(5);
  await expect(visitor.getByRole("main")).toContainText("$45.50");
  const image = visitor.getByRole("main").locator("img").first();
  await expect(image).toHaveJSProperty("complete", true);
  expect(await image.evaluate((element: HTMLImageElement) => element.naturalWidth)).toBeGreaterThan(100);
});

test("what is missing in a form is named at its field, which gets the focus", async ({ page, context, signedIn }) => {
  await signedIn(context);
  await page.goto("/sell?new=ticket");
  await field(page, "price").fill("12");
  await page.locator("main form button[type=submit]").click();
  await expect(field(page, "title")).toBeFocused();
  await expect(field(page, "title")).toHaveAttribute("aria-invalid", "true");
  await field(page, "title").fill("Festival wristband");
  await page.locator("main form button[type=submit]").click();
  await expect(page.getByRole("status").getByText("Festival wristband")).toBeVisible();
  await page.goto("/listings");
  await expect(page.getByRole("main")).toContainText("Festival wristband");
  await expect(page.getByRole("main")).toContainText("$12.00");
});

test("all that is missing or wrong in a show is named at once", async ({ page, context, signedIn }) => {
  await signedIn(context);
  await page.goto("/sell?new=show");
  await field(page, "city").fill("Freiburg");
  await field(page, "maxMarkup").fill("much");
  await page.locator("main form button[type=submit]").click();
  await expect(field(page, "name")).toBeFocused();
  for (const name of ["name", "venue", "startsAt", "maxMarkup"]) {
    await expect(field(page, name)).toHaveAttribute("aria-invalid", "true");
  }
  await expect(field(page, "city")).not.toHaveAttribute("aria-invalid");
  await expect(page.getByText("Please enter a date and a time.")).toBeVisible();
  await expect(page.getByText("Please enter a whole number from 0 to 1000, or nothing.")).toBeVisible();

  await page.goto("/sell?new=ticket");
  await page.locator("main form button[type=submit]").click();
  await expect(field(page, "title")).toBeFocused();
  await expect(field(page, "price")).toHaveAttribute("aria-invalid", "true");
});

test("with its country, a show gets the time zone", async ({ visit }) => {
  const context = await visit({ locale: "en-US" });
  await signIn(context, await Account.signUp(storefrontUrl, "seller"));
  const page = await context.newPage();
  await page.goto("/sell?new=show");
  await expect(field(page, "country")).toHaveValue(""); // this device's clock is that of Berlin
  await expect(field(page, "timeZone")).toHaveValue("Europe/Berlin");
  await field(page, "country").selectOption("JP");
  await expect(field(page, "timeZone")).toHaveValue("Asia/Tokyo");
});

test("a seller's shows are by date, and each leads to its listings, by their places", async ({ page, context }) => {
  const owner = await Account.signUp(storefrontUrl, "owner");
  const [late, soon] = [await owner.announce({ startsAt: inDays(60) }), await owner.announce({ startsAt: inDays(20) })];
  const last = await owner.announce({ startsAt: inDays(90) });
  for (const number of ["10", "9", "11"]) {
    await owner.list(late, { section: "Stalls", row: "A", number });
    await owner.list(soon, { section: "Balcony", row: "B", number });
  }
  await signIn(context, owner);
  await page.goto("/listings?tab=shows");
  const rows = page.locator("li.row");
  await expect(rows.locator("strong")).toHaveText([soon.name, late.name, last.name]);
  await rows.nth(1).getByRole("link", { name: "Tickets", exact: true }).click();

  const places = ["9", "10", "11"].map((number) => `Stalls, row A, seat ${number}`);
  await expect(rows.locator("strong")).toHaveText(places);
  await expect(page.getByRole("heading", { level: 2 })).toHaveText([late.name]);
  await page.getByLabel("Tickets of").selectOption(last.id);
  await expect(page.getByRole("heading", { name: "You have listed no tickets of this show" })).toBeVisible();
  await page.getByLabel("Tickets of").selectOption("");
  await expect(page.getByRole("heading", { level: 2 })).toHaveText([soon.name, late.name]);
  await expect(rows).toHaveCount(6);
});

test("a listing gets another price, and is withdrawn", async ({ page, context, visit }) => {
  const { owner, show } = await showWithSeats(storefrontUrl, 2);
  await signIn(context, owner);
  const visitor = await (await visit()).newPage();
  await visitor.goto(`/shows/${show.id}`);
  await page.goto("/listings");
  const listing = page.locator("li.row", { has: page.getByText(/seat 1$/) });

  await listing.getByRole("button").first().click();
  await page.getByRole("dialog").locator("[name=price]").fill("39");
  await page.getByRole("dialog").locator("button[type=submit]").click();
  await expect(listing).toContainText("$39.00");
  await expect(visitor.getByRole("main")).toContainText("$39.00");

  await listing.getByRole("button").last().click();
  await page
    .getByRole("dialog")
    .getByRole("button", { name: /withdraw/i })
    .click();
  await expect(listing).toHaveCount(0);
  await expect(visitor.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(1);
});

test("a seller sees what was sold and earned, and saves it as a file", async ({ page, context }) => {
  const { owner, tickets } = await showWithSeats(storefrontUrl, 2);
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  for (const ticket of tickets) {
    await buyer.buy(ticket);
  }
  await eventually(async () => ((await owner.call<unknown[]>("GET", "/api/orders/sales")).length === 2 ? true : undefined));
  await signIn(context, owner);
  await page.goto("/listings?tab=sales");
  await settled(page);
  await expect(page.getByText("$90.00")).toBeVisible();

  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "All sales as a CSV file" }).click();
  const file = await download;
  expect(file.suggestedFilename()).toBe("sales.csv");
  const [columns, ...rows] = (await readFile(await file.path(), "utf8")).trimEnd().split("\r\n");
  expect(columns).toContain(",amount,currency,");
  expect(rows).toHaveLength(2);
  for (const row of rows) {
    expect(row).toContain(",45.00,usd,complete,"); // as people write it, not in cents
  }
});

test("who has sold nothing sees no sum and no file", async ({ page, context, signedIn }) => {
  await signedIn(context);
  await page.goto("/listings?tab=sales");
  await expect(page.getByRole("heading", { name: "You have sold nothing yet" })).toBeVisible();
  await expect(page.locator(".earned")).toHaveCount(0);
});

test("a show is cancelled by its owner", async ({ page, context }) => {
  const { owner, show } = await showWithSeats(storefrontUrl, 1);
  await signIn(context, owner);
  await page.goto("/listings?tab=shows");
  await page.getByRole("button", { name: new RegExp(show.name) }).click();
  await page.getByRole("dialog").getByRole("checkbox").check();
  await page.getByRole("dialog").locator("button.danger").click();
  await expect(page.getByRole("status").getByText(show.name)).toBeVisible();
  await page.goto(`/shows/${show.id}`);
  await expect(page.getByText("This show is cancelled")).toBeVisible();
});

test("on a telephone, links and buttons stay in their line", async ({ visit }) => {
  const context = await visit({ locale: "de-DE", viewport: { width: 360, height: 740 } });
  const owner = await Account.signUp(storefrontUrl, "owner");
  const show = await owner.announce();
  await signIn(context, owner);
  const page = await context.newPage();
  const place = async (part: Locator) => part.evaluate((element) => element.getBoundingClientRect().toJSON() as DOMRect);
  await page.goto("/listings");
  await settled(page);
  const links = await page.locator(".site-header li:not(.account, [hidden])").all();
  expect(new Set((await Promise.all(links.map(place))).map(({ top }) => top)).size).toBe(1);
  const title = await place(page.getByRole("heading", { level: 1 }));
  expect((await place(page.locator(".title-line .button"))).top).toBeLessThan(title.bottom);

  await page.goto("/checkin");
  const card = page.locator("a.row", { hasText: show.name });
  const arrow = await place(card.locator(".arrow"));
  expect(arrow.left).toBeGreaterThanOrEqual((await place(card.locator(".row-main"))).right);
  expect(arrow.top).toBeLessThan((await place(card.locator(".row-main"))).bottom);
});
