// Checks of a page as it is now: its accessibility, and whether it fits.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import type { Page } from "@playwright/test";
import type axe from "axe-core";

import { expect } from "./fixtures.ts";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Checks the page as it is now against the rules of WCAG 2.2 AA that a program can check, and axe's best practices. */
export async function expectAccessible(page: Page, situation: string): Promise<void> {
  if (!(await page.evaluate(() => "axe" in globalThis))) {
    await page.evaluate(source);
  }
  // A colour that is changing just now is none of the page's. When a change ends, what inherits from it may change in turn.
  await page.evaluate(async () => {
    const frame = (): Promise<unknown> => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const changes = (): Animation[] => document.getAnimations().filter((each) => each instanceof CSSTransition);
    await frame();
    for (let running = changes(); running.length > 0; running = changes()) {
      await Promise.allSettled(running.map(({ finished }) => finished));
      await frame();
    }
  });
  const violations = await page.evaluate(async () => {
    const results = await (globalThis as unknown as { axe: typeof axe }).axe.run(document, {
      resultTypes: ["violations"],
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return results.violations.map(({ id, help, nodes }) => ({
      id,
      help,
      nodes: nodes.map(({ html, failureSummary }) => ({ html, failureSummary })),
    }));
  });
  expect.soft(violations, `${situation}: ${page.url()}`).toEqual([]);
}

/** What does not fit: elements that reach over the right edge of the page. */
export function tooWide(page: Page): Promise<string[]> {
  return page.evaluate(() =>
    document.documentElement.scrollWidth <= innerWidth
      ? []
      : [...document.querySelectorAll("body *")]
          .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
          .map((element) => element.outerHTML.slice(0, 120)),
  );
}
