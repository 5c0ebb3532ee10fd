// The pictures that READMEs show, on a desktop and a phone, in light and dark. UPDATE=1 writes them to the folder pictures. Otherwise they
// are compared loosely: dates, codes and letters may differ, and an empty page, another page, or the other colours do not pass (a test below).
import { readdir, readFile, stat, writeFile } from "node:fs/promises";

import type { Page } from "@playwright/test";

import { Account, send, type Show } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { settled } from "./pages.ts";
import { hastyUrl, storefrontUrl } from "./stacks.ts";

const devices = {
  desktop: { width: 1040, height: 680 },
  phone: { width: 390, height: 780 },
};

/** The file of a stored picture. */
function file(name: string, device: string, colorScheme: string): URL {
  return new URL(`../pictures/${name}-${device}-${colorScheme}.png`, import.meta.url);
}

/** Takes the pictures of a page, and compares them with the stored ones. */
async function take(page: Page, name: string, address: string): Promise<void> {
  const comparing = await page.context().newPage(); // the page itself allows no images of other addresses
  for (const [device, viewport] of Object.entries(devices)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.goto(address);
      await settled(page);
      // Images below are loaded when they are needed.
      const missing = () =>
        page.evaluate(
          () => [...document.images].filter((i) => !i.complete && i.getBoundingClientRect().top < innerHeight).length,
        );
      await expect.poll(missing).toBe(0);
      const path = file(name, device, colorScheme);
      const picture = await page.screenshot();
      if (process.env["UPDATE"] === "1") {
        await writeFile(path, picture);
      }
      const stored = await coarse(comparing, await readFile(path));
      expect.soft(change(stored, await coarse(comparing, picture)), path.pathname).toBeLessThan(tolerance);
    }
  }
  await comparing.close();
}

/** A picture in coarse cells, each with the means of its colours, from 0 to 255. */
interface Coarse {
  columns: number;
  /** Red, green and blue of each cell, row by row. */
  values: number[];
}

/** The side of a cell, in pixels: a line of text is grey, and so is a QR code. */
const cell = 13;

/** What two pictures of one page may differ by, as a part of what a picture without anything on it differs by. */
const tolerance = 1 / 3;

/** Makes a picture coarse. */
async function coarse(page: Page, picture: Buffer): Promise<Coarse> {
  return page.evaluate(
    async ([source, cell]) => {
      const image = new Image();
      image.src = `data:image/png;base64,${source}`;
      await image.decode();
      const [columns, rows] = [Math.round(image.width / cell), Math.round(image.height / cell)];
      const canvas = new OffscreenCanvas(columns, rows);
      const drawing = canvas.getContext("2d");
      if (drawing === null) {
        throw new Error("there is no canvas");
      }
      drawing.imageSmoothingQuality = "high";
      drawing.drawImage(image, 0, 0, columns, rows);
      const { data } = drawing.getImageData(0, 0, columns, rows);
      return { columns, values: [...data].filter((_, index) => index % 4 !== 3) };
    },
    [picture.toString("base64"), cell] as const,
  );
}

/** The mean difference of the colours of two pictures. */
function difference(one: Coarse, other: Coarse): number {
  expect(one.values).toHaveLength(other.values.length);
  return one.values.reduce((sum, value, index) => sum + Math.abs(value - (other.values[index] ?? 0)), 0) / one.values.length;
}

/** The same picture with its background alone, which is the most frequent colour at its left edge; or from a row on. */
function blank({ columns, values }: Coarse, from = 0): Coarse {
  const counts = new Map<string, number>();
  for (let index = 0; index < values.length; index += 3 * columns) {
    const colour = values.slice(index, index + 3).join();
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const [[background] = [""]] = [...counts].sort(([, a], [, b]) => b - a);
  const colour = background.split(",").map(Number);
  return { columns, values: values.map((value, index) => (index < 3 * columns * from ? value : (colour[index % 3] ?? 0))) };
}

/** How different a picture is from the stored one: 0 is equal, and 1 is as different as a blank one. */
function change(stored: Coarse, picture: Coarse): number {
  return difference(stored, picture) / difference(stored, blank(stored));
}

test("the README shows every picture, and none is large", async () => {
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const folder = new URL("../pictures/", import.meta.url);
  for (const name of await readdir(folder)) {
    expect.soft(readme).toContain(`src="pictures/${name}"`);
    expect.soft((await stat(new URL(name, folder))).size, name).toBeLessThan(250_000);
  }
});

test("the comparison of pictures notices an empty page, another page, and the other colours", async ({ page }) => {
  const pages = ["shows", "show", "order", "pass", "checkin"];
  const stored = new Map<string, Coarse>();
  for (const device of Object.keys(devices)) {
    for (const name of pages) {
      for (const scheme of ["light", "dark"]) {
        stored.set(`${name}-${device}-${scheme}`, await coarse(page, await readFile(file(name, device, scheme))));
      }
    }
  }
  for (const [name, picture] of stored) {
    expect(change(picture, picture), name).toBe(0);
    expect.soft(change(picture, blank(picture)), `${name} without anything`).toBeGreaterThan(tolerance);
    expect.soft(change(picture, blank(picture, 6)), `${name} with its header alone`).toBeGreaterThan(tolerance);
    for (const [other, wrong] of stored) {
      if (other !== name && wrong.columns === picture.columns) {
        expect.soft(change(picture, wrong), `${other} in the place of ${name}`).toBeGreaterThan(tolerance);
      }
    }
  }
});

test("pictures of the sample programme", async ({ page }) => {
  await take(page, "shows", `${hastyUrl}/`);
  const { shows } = await send<{ shows: Show[] }>(hastyUrl, "GET", "/api/catalogue/shows?category=theatre");
  await take(page, "show", `${hastyUrl}/shows/${shows[0]?.id ?? ""}`);
});

test("pictures of a buyer's pages", async ({ page, context }) => {
  const owner = await Account.signUp(storefrontUrl, "owner");
  const show = await owner.announce({
    name: "Winter songs",
    venue: "Konzerthaus",
    startsAt: "2028-02-12T19:00:00Z",
    category: "music",
  });
  const paid = await owner.list(show, { section: "Balcony", row: "C", number: "11" }, 4200);
  const open = await owner.list(show, { section: "Balcony", row: "C", number: "12" }, 4200);
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  const complete = await buyer.buy(paid);
  const order = await buyer.reserve(open);
  await signIn(context, buyer);
  await take(page, "order", `/orders/${order.id}`);
  await take(page, "pass", `/orders/${complete.id}/pass`);
  await signIn(context, owner);
  await take(page, "checkin", `/checkin/${show.id}`);
});
