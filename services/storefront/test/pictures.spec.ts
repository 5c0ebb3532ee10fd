// The pictures that READMEs show, on a desktop and a phone, in light and dark. UPDATE=1 writes them to the folder pictures. Otherwise they
// are compared loosely: fonts, dates and posters may differ, and a page without styles, without content or in the wrong colours does not pass.
import { readFile, writeFile } from "node:fs/promises";

import type { BrowserContext, Page } from "@playwright/test";

import { Account, send, type Show } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { settled } from "./pages.ts";
import { hastyUrl, storefrontUrl } from "./stacks.ts";

const devices = {
  desktop: { width: 1040, height: 680 },
  phone: { width: 390, height: 780 },
};

/** Takes the pictures of a page. */
async function take(page: Page, name: string, address: string): Promise<void> {
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
      const path = new URL(`../pictures/${name}-${device}-${colorScheme}.png`, import.meta.url);
      const picture = await page.screenshot();
      if (process.env["UPDATE"] === "1") {
        await writeFile(path, picture);
      }
      expect(await difference(page.context(), picture, await readFile(path)), path.pathname).toBeLessThan(0.1);
    }
  }
}

/** How different two pictures are, in coarse pixels: 0 are equal ones, 1 are black and white. */
async function difference(context: BrowserContext, ...pictures: Buffer[]): Promise<number> {
  const page = await context.newPage();
  const [one = [], other = []] = await page.evaluate(
    (sources) =>
      Promise.all(
        sources.map(async (source) => {
          const image = new Image();
          image.src = `data:image/png;base64,${source}`;
          await image.decode();
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [40, Math.round((40 * image.height) / image.width)];
          const drawing = canvas.getContext("2d");
          drawing?.drawImage(image, 0, 0, canvas.width, canvas.height);
          return [...(drawing?.getImageData(0, 0, canvas.width, canvas.height).data ?? [])];
        }),
      ),
    pictures.map((picture) => picture.toString("base64")),
  );
  await page.close();
  expect(one).toHaveLength(other.length);
  return one.reduce((sum, value, index) => sum + Math.abs(value - (other[index] ?? 0)), 0) / one.length / 255;
}

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
