// The keyboard alone buys a ticket.
import type { Locator, Page } from "@playwright/test";

import { Account, password, showWithSeats } from "./api.ts";
import { expect, test } from "./fixtures.ts";
import { storefrontUrl } from "./stacks.ts";

/** An element has an outline, itself or at what it stands for: the card of a link, the label of a choice. */
function hasOutline(element: Element): boolean {
  const around = [element, element.parentElement, element.closest("li, label, article")].filter((each) => each !== null);
  return around.some((each) =>
    [undefined, "::before", "::after"].some((part) => {
      const { outlineStyle, outlineWidth } = getComputedStyle(each, part);
      return outlineStyle !== "none" && Number.parseFloat(outlineWidth) >= 2;
    }),
  );
}

/** Presses Tab until something has the focus, which must be visible on it. */
async function tabTo(page: Page, target: Locator): Promise<void> {
  await expect(target).toBeVisible();
  for (let presses = 0; presses < 120; presses++) {
    if (await target.evaluate((element) => element === document.activeElement)) {
      expect(await target.evaluate(hasOutline), "the focus is visible").toBe(true);
      return;
    }
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab does not reach ${target.toString()}`);
}

test("the keyboard alone buys a ticket", async ({ page }) => {
  const { show } = await showWithSeats(storefrontUrl, 2);
  const account = await Account.signUp(storefrontUrl, "buyer");
  const main = page.getByRole("main");

  await page.goto("/");
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await tabTo(page, page.getByRole("searchbox"));
  await page.keyboard.type(show.name);
  await page.keyboard.press("Enter");
  await tabTo(page, main.getByRole("link", { name: show.name, exact: true }));
  await page.keyboard.press("Enter");

  await expect(page).toHaveURL(`/shows/${show.id}`);
  await tabTo(page, page.getByRole("button", { name: /Reserve .*seat 1\b/i }));
  await page.keyboard.press("Enter");

  await expect(page).toHaveURL(/\/signin/);
  await tabTo(page, page.getByLabel("Email"));
  await page.keyboard.type(account.email);
  await tabTo(page, page.getByLabel("Password", { exact: true }));
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");

  await expect(page).toHaveURL(`/shows/${show.id}`);
  await tabTo(page, page.getByRole("button", { name: /Reserve .*seat 1\b/i }));
  await page.keyboard.press("Space");

  await expect(page).toHaveURL(/\/orders\//);
  const card = page.getByRole("radio").first();
  await tabTo(page, card);
  await page.keyboard.press("Space");
  await expect(card).toBeChecked();
  await tabTo(page, page.getByRole("button", { name: /^Pay/ }));
  await page.keyboard.press("Enter");

  await tabTo(page, page.getByRole("link", { name: /pass/i }));
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/pass$/);
  await expect(page.locator(".pass-code img")).toBeVisible();
});
