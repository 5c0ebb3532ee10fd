// What holds for every page: each test visits all of them.
import type { Page } from "@playwright/test";

import { expectAccessible, tooWide } from "./axe.ts";
import { expect, test } from "./fixtures.ts";
import { fillPages, settled } from "./pages.ts";
import { storefrontUrl } from "./stacks.ts";

// A trace takes a fifth of the time; what these tests find is in their messages.
test.use({ trace: "off", screenshot: "only-on-failure" });

/** Visits all pages, and reports for each what a check finds. */
async function tour(page: Page, check: (name: string) => Promise<void>): Promise<void> {
  for (const [name, path] of await fillPages(page.context(), storefrontUrl)) {
    await test.step(name, async () => {
      await page.goto(path);
      await settled(page);
      await check(name);
    });
  }
}

/** Keeps what moves, on all pages that are opened from now on. Each answer of the API comes when the one before it is painted: what it moves is seen. */
async function watchShifts(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const shifts: string[] = [];
    Object.assign(globalThis, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & {
        value: number;
        sources: { node?: Node; previousRect: DOMRect; currentRect: DOMRect }[];
      })[]) {
        const moved = entry.sources.map(({ node, previousRect: from, currentRect: to }) => {
          const name = node instanceof Element ? `${node.localName}.${node.className}` : (node?.parentElement?.className ?? "");
          return `${name} ${from.x},${from.y} ${from.width}x${from.height} -> ${to.x},${to.y} ${to.width}x${to.height}`;
        });
        shifts.push(`${entry.value}: ${moved.join("; ")}`);
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  let turn: Promise<unknown> = Promise.resolve();
  await page.route(/\/api\/(?!catalogue\/live)/, (route) => {
    const answered = async (): Promise<void> => {
      await route.continue();
      await (await route.request().response())?.finished();
      await painted(page);
    };
    turn = turn.then(answered).catch(() => undefined); // the page of the request is gone
  });
}

/** Waits until what the page has now is painted, and until its observers have what that moved. */
function painted(page: Page): Promise<unknown> {
  return page.evaluate(
    () =>
      new Promise((resolve) => {
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve)));
      }),
  );
}

/** What has moved on the page. */
async function shifts(page: Page): Promise<string[]> {
  await painted(page);
  return page.evaluate(() => (globalThis as unknown as { shifts: string[] }).shifts);
}

/** The compressed size of all scripts that the page has loaded, in bytes. */
function sizeOfScripts(page: Page): Promise<number> {
  return page.evaluate(() =>
    (performance.getEntriesByType("resource") as PerformanceResourceTiming[])
      .filter(({ name }) => new URL(name).pathname.endsWith(".js"))
      .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
  );
}

for (const locale of ["en-GB", "de-DE"]) {
  for (const width of [320, 1280]) {
    test.describe(`${locale} on ${width} pixels`, () => {
      test.use({ locale, viewport: { width, height: 720 } });

      test("every page is accessible in light and dark, fits, moves nothing, and needs at most 60 kB of scripts", async ({
        page,
      }) => {
        await watchShifts(page);
        const titles = new Set<string>();
        await tour(page, async (name) => {
          expect.soft(await shifts(page), name).toEqual([]);
          expect.soft(await sizeOfScripts(page), name).toBeLessThan(60_000);
          expect.soft(await tooWide(page), name).toEqual([]);
          await expect(page.locator("html")).toHaveAttribute("lang", locale.slice(0, 2));
          for (const colorScheme of ["light", "dark"] as const) {
            await page.emulateMedia({ colorScheme });
            await expectAccessible(page, `${name}, ${colorScheme}`);
          }
          titles.add(await page.title());
          // No text is missing, and no value in a text.
          const text = await page.locator("body").innerText();
          expect.soft(text, name).not.toMatch(/undefined|NaN|Invalid Date|\{\w+\}|\b[a-z]+\.[a-z]+[A-Z]\w*\b/);
          if (width === 1280) {
            await page.setViewportSize({ width: 3840, height: 2160 });
            expect.soft(await tooWide(page), `${name}, on 4K`).toEqual([]);
            await page.setViewportSize({ width, height: 720 });
          }
        });
        expect(titles.size).toBeGreaterThan(10);
      });
    });
  }
}

test("every page survives a reload and the back button", async ({ page }) => {
  let before: { url: string; heading: string } | undefined;
  await tour(page, async (name) => {
    const heading = page.getByRole("heading", { level: 1 });
    const text = await heading.innerText();
    await page.reload();
    await settled(page);
    await expect(heading, name).toHaveText(text);
    if (before !== undefined) {
      await page.goBack();
      await expect(page).toHaveURL(before.url);
      await expect(heading, name).toHaveText(before.heading);
      await page.goForward();
      await expect(heading, name).toHaveText(text);
    }
    before = { url: page.url(), heading: text };
  });
});
