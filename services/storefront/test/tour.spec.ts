// What holds for every page: each test visits all of them.
import type { Page } from "@playwright/test";

import { expectAccessible } from "./axe.ts";
import { expect, test } from "./fixtures.ts";
import { fillPages, settled } from "./pages.ts";
import { storefrontUrl } from "./stacks.ts";

test.setTimeout(180_000);

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

for (const locale of ["en-GB", "de-DE"]) {
  test.describe(locale, () => {
    test.use({ locale });

    test("every page is accessible, in light and dark", async ({ page }) => {
      const titles = new Set<string>();
      await tour(page, async (name) => {
        await expect(page.locator("html")).toHaveAttribute("lang", locale.slice(0, 2));
        for (const colorScheme of ["light", "dark"] as const) {
          await page.emulateMedia({ colorScheme });
          await expectAccessible(page, `${name}, ${colorScheme}`);
        }
        titles.add(await page.title());
        // No text is missing, and no value in a text.
        const text = await page.locator("body").innerText();
        expect.soft(text, name).not.toMatch(/undefined|NaN|Invalid Date|\{\w+\}|\b[a-z]+\.[a-z]+[A-Z]\w*\b/);
      });
      expect(titles.size).toBeGreaterThan(10);
    });
  });
}

test("every page fits on 320 pixels and on 4K, and shows nothing wider", async ({ page }) => {
  await tour(page, async (name) => {
    for (const viewport of [
      { width: 320, height: 640 },
      { width: 3840, height: 2160 },
    ]) {
      await page.setViewportSize(viewport);
      const wide = await page.evaluate(() =>
        document.documentElement.scrollWidth <= innerWidth
          ? []
          : [...document.querySelectorAll("body *")]
              .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
              .map((element) => element.outerHTML.slice(0, 120)),
      );
      expect.soft(wide, `${name}, ${viewport.width} pixels`).toEqual([]);
    }
  });
});

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

test("no page moves what it has shown, or needs more than 60 kB of scripts", async ({ page }) => {
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
  await tour(page, async (name) => {
    const shifts = await page.evaluate(
      () =>
        new Promise((resolve) => {
          // The observer gets the shifts of a frame after it.
          requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => { resolve((globalThis as unknown as { shifts: string[] }).shifts); }))); // prettier-ignore
        }),
    );
    expect.soft(shifts, name).toEqual([]);
    const scripts = await page.evaluate(() =>
      (performance.getEntriesByType("resource") as PerformanceResourceTiming[])
        .filter(({ name }) => new URL(name).pathname.endsWith(".js"))
        .map(({ encodedBodySize }) => encodedBodySize),
    );
    const sum = scripts.reduce((all, size) => all + size, 0);
    expect.soft(sum, name).toBeLessThan(60_000);
  });
});
