// A show with a guest, and its door.
import type { Locator, Page } from "@playwright/test";

import { Account, type Show, showWithSeats } from "./api.ts";
import { storefrontUrl } from "./stacks.ts";

export interface Pass {
  code: string;
  status: string;
}

/** A show with its owner, and a buyer who has a pass for it. */
export async function sold(members: Partial<Show> = {}) {
  const { owner, show, ticket } = await showWithSeats(storefrontUrl, 1, members);
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  const order = await buyer.buy(ticket);
  const pass = await buyer.call<Pass>("GET", `/api/orders/${order.id}/pass`);
  return { owner, show, ticket, buyer, order, pass };
}

/** Types a code at the door. */
export async function type(page: Page, code: string): Promise<void> {
  await page.getByLabel("Code of the pass").fill(code);
  await page.getByLabel("Code of the pass").press("Enter");
}

/** The last result at the door. */
export function verdictOf(page: Page): Locator {
  return page.locator(".verdict");
}
