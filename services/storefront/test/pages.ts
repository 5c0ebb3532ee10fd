// All pages of the storefront, with something on each, for the tests of what holds for every page.
import type { BrowserContext, Page } from "@playwright/test";

import { Account, eventually, showWithSeats } from "./api.ts";
import { expect, signIn } from "./fixtures.ts";

/** Names that need several lines, with words that are wider than a telephone. */
const long = {
  name: "Galakonzert zum Jubiläum der Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
  venue: "Großer Saal der Kulturstiftung im ehemaligen Rheinpfalzelektrizitätswerk",
  city: "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch",
};
const longPlace = { section: "Zwischenrang links vom Haupteingang, am Orchester", row: "Reihe AA" };

/** Signs somebody in who has bought, sells, and checks passes in. It returns the paths of all pages by their names. */
export async function fillPages(context: BrowserContext, url: string): Promise<Map<string, string>> {
  const { owner, show } = await showWithSeats(url, 1, { ...long, description: "Two hours with a break.", maxMarkup: 20 });
  const [paid, unpaid, cancelled] = await Promise.all(
    ["2047", "2048", "2049"].map((number) => owner.list(show, { ...longPlace, number })),
  );
  if (paid === undefined || unpaid === undefined || cancelled === undefined) {
    throw new Error("tickets are missing");
  }
  const account = await Account.signUp(url, "tour");
  const own = await account.announce(long);
  const sold = await account.list(own, { section: "Balcony", row: "B", number: "7" });
  await account.list(own, { ...longPlace, number: "8" });

  const complete = await account.buy(paid);
  const open = await account.reserve(unpaid);
  const given = await account.reserve(cancelled);
  await account.call("DELETE", `/api/orders/${given.id}`);
  const other = await Account.signUp(url, "guest");
  await other.buy(sold);
  await eventually(async () => {
    const sales = await account.call<unknown[]>("GET", "/api/orders/sales");
    return sales.length > 0 || undefined;
  });
  await signIn(context, account);

  return new Map([
    ["what is on", "/"],
    ["a search without results", "/?q=nothingofthisname"],
    ["a show", `/shows/${complete.ticket.showId ?? ""}`],
    ["a show that is not there", "/shows/01900000-0000-7000-8000-000000000000"],
    ["orders", "/orders"],
    ["an unpaid order", `/orders/${open.id}`],
    ["a complete order", `/orders/${complete.id}`],
    ["a cancelled order", `/orders/${given.id}`],
    ["a pass", `/orders/${complete.id}/pass`],
    ["a receipt", `/orders/${complete.id}/receipt`],
    ["sell", "/sell"],
    ["announce a show", "/sell?new=show"],
    ["list seats", `/sell?show=${own.id}`],
    ["list a ticket", "/sell?new=ticket"],
    ["listings", "/listings"],
    ["shows of the reader", "/listings?tab=shows"],
    ["sales", "/listings?tab=sales"],
    ["check-in", "/checkin"],
    ["check-in of a show", `/checkin/${own.id}`],
    ["account", "/account"],
    ["sign in", "/signin"],
    ["sign up", "/signup"],
    ["a page that is not there", "/nothing"],
  ]);
}

/** Waits until a page has all of its content. */
export async function settled(page: Page): Promise<void> {
  await expect(page.getByRole("heading", { level: 1 })).not.toHaveText(/^\s*$/);
  await expect(page.locator(".skeleton, [aria-busy=true]")).toHaveCount(0);
}
