// Pages on which something went wrong, is asked, or is not there are accessible and not too wide. The tour (tour.spec.ts) visits pages
// as they open.
import type { Page } from "@playwright/test";

import { Account, eventually, send, showWithSeats, type Ticket } from "./api.ts";
import { expectAccessible, tooWide } from "./axe.ts";
import { type Pass, verdictOf } from "./door.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { long, longPlace, settled } from "./pages.ts";
import { storefrontUrl } from "./stacks.ts";

// A trace takes a fifth of the time; what these tests find is in their messages.
test.use({ trace: "off", screenshot: "only-on-failure" });

const narrow = { width: 320, height: 720 };
const wide = { width: 1280, height: 720 };

// The two languages share the combinations of widths and colours.
for (const { locale, views } of [
  { locale: "en-GB", views: [{ ...narrow, colorScheme: "light" as const }, { ...wide, colorScheme: "dark" as const }] }, // prettier-ignore
  { locale: "de-DE", views: [{ ...narrow, colorScheme: "dark" as const }, { ...wide, colorScheme: "light" as const }] }, // prettier-ignore
]) {
  test.describe(locale, () => {
    test.use({ locale, viewport: wide });

    /** Checks the page as it is now. */
    const check = (page: Page, situation: string): Promise<void> =>
      test.step(situation, async () => {
        for (const { colorScheme, ...viewport } of views) {
          await page.setViewportSize(viewport);
          await page.emulateMedia({ colorScheme });
          await expectAccessible(page, `${situation}, ${colorScheme}, ${viewport.width} pixels`);
          expect.soft(await tooWide(page), `${situation}, ${viewport.width} pixels`).toEqual([]);
        }
        await page.setViewportSize(wide);
      });

    /** Opens a page. */
    const open = async (page: Page, path: string): Promise<void> => {
      await page.goto(path);
      await settled(page);
    };

    test("errors and questions about an account are accessible and fit", async ({ page, context }) => {
      const account = await Account.signUp(storefrontUrl);
      const submit = page.locator("main form").first().locator("[type=submit]");
      const error = page.locator("main .alert.error, main [aria-invalid=true]").first();

      await open(page, "/signin");
      await page.locator("[name=email]").fill(account.email);
      await page.locator("[name=password]").fill("not the password");
      await submit.click();
      await expect(error).toBeVisible();
      await check(page, "a wrong password");

      await open(page, "/signup");
      await page.locator("[name=email]").fill("nobody");
      await page.locator("[name=password]").fill("short");
      await submit.click();
      await expect(page.locator("[aria-invalid=true]")).toHaveCount(2);
      await check(page, "two wrong fields");

      await signIn(context, account);
      await open(page, "/account");
      await page.locator("[name=oldPassword]").fill("not the password");
      await page.locator("[name=newPassword]").fill("another password");
      await submit.click();
      await expect(error).toBeVisible();
      await check(page, "a password that is not changed");
      await page.locator("main .button.danger").first().click();
      const dialog = page.getByRole("dialog");
      await dialog.locator("[name=password]").fill("not the password");
      await dialog.locator("[type=submit]").click();
      await expect(dialog.locator(".alert.error, [aria-invalid=true]").first()).toBeVisible();
      await check(page, "an account that is not deleted");
    });

    test("lists without anything, and lists that cannot be read, are accessible and fit", async ({ page, context }) => {
      await signIn(context, await Account.signUp(storefrontUrl));
      const paths = ["/orders", "/listings", "/listings?tab=shows", "/listings?tab=sales", "/checkin", "/sell"];
      for (const path of paths) {
        await open(page, path);
        await check(page, `nothing on ${path}`);
      }
      await page.route(/\/api\/(?!users)/, (route) => route.fulfill({ status: 500, json: {} }));
      for (const path of paths) {
        await open(page, path);
        await expect(page.locator(".alert.error").first()).toBeVisible();
        await check(page, `an error on ${path}`);
      }
    });

    test("errors and dialogs of sellers are accessible and fit", async ({ page, context }) => {
      const { owner, show } = await showWithSeats(storefrontUrl, 1, long);
      await owner.list(show, { ...longPlace, number: "2047" });
      await signIn(context, owner);
      const dialog = page.getByRole("dialog");

      for (const path of ["/sell?new=show", "/sell?new=ticket", `/sell?show=${show.id}`]) {
        await open(page, path);
        await page.locator("main form [type=submit]").click();
        await expect(page.locator("[aria-invalid=true]").first()).toBeVisible();
        await check(page, `what is missing on ${path}`);
      }
      await open(page, "/listings");
      const listing = page.locator("li.row", { hasText: "2047" });
      await listing.getByRole("button").first().click();
      await dialog.locator("[name=price]").fill("-1");
      await dialog.locator("[type=submit]").click();
      await expect(dialog.locator("[aria-invalid=true]")).toBeVisible();
      await check(page, "a listing that is changed");
      await page.keyboard.press("Escape");
      await listing.getByRole("button").last().click();
      await check(page, "a listing that is withdrawn");
      await open(page, "/listings?tab=shows");
      await page.locator("li.row button").click();
      await check(page, "a show that is cancelled");
    });

    test("an order, its payment and its pass are accessible and fit in each state", async ({ page, context }) => {
      const { owner, show } = await showWithSeats(storefrontUrl, 1, { ...long, maxMarkup: 20 });
      const list = (number: string): Promise<Ticket> => owner.list(show, { ...longPlace, number });
      const buyer = await Account.signUp(storefrontUrl, "buyer");
      await signIn(context, buyer);
      const order = await buyer.reserve(await list("2047"));
      const pay = async (card: string): Promise<void> => {
        await page.locator(`[value=${card}]`).check();
        await page.locator("form.pay [type=submit]").click();
      };

      await open(page, `/orders/${order.id}`);
      await page.locator(".cancel button").click();
      await check(page, "a question before an order is cancelled");
      await pay("pm_card_chargeDeclinedInsufficientFunds");
      await expect(page.locator("form.pay .alert.error")).toBeVisible();
      await check(page, "a declined card");
      await context.setOffline(true);
      await expect(page.locator("main .alert.warning")).toBeVisible();
      await check(page, "an order without a connection");
      await context.setOffline(false);
      await expect(page.locator("main .alert.warning")).toBeHidden();
      await pay("pm_card_authenticationRequired");
      await expect(page.locator("[name=outcome]")).toHaveCount(2);
      await check(page, "the bank");
      await page.goBack();
      await expect(page.locator(".phase-bank")).toBeVisible();
      await check(page, "an order that waits for the bank");
      await page.locator(".phase-bank .button").first().click();
      await page.locator("[name=outcome][value=succeed]").click();
      await expect(page.locator(`a[href="/orders/${order.id}/pass"]`)).toBeVisible();

      await open(page, `/orders/${order.id}/pass`);
      await page.locator(".resale [name=price]").fill("1000");
      await page.locator(".resale [type=submit]").click();
      await expect(page.locator(".resale [aria-invalid=true]")).toBeVisible();
      await check(page, "a price above the cap");
      await page.locator(".resale [name=price]").fill("44");
      await page.locator(".resale [type=submit]").click();
      await page.locator(".resale .button.secondary").click();
      await expect(page.getByRole("dialog")).toBeVisible();
      await check(page, "a resale whose price is changed");

      const used = await buyer.buy(await list("2048"));
      const { code } = await buyer.call<Pass>("GET", `/api/orders/${used.id}/pass`);
      await owner.call("POST", `/api/shows/${show.id}/checkins`, { code });
      await open(page, `/orders/${used.id}/pass`);
      await expect(page.locator(".pass.used")).toBeVisible();
      await check(page, "a pass that was used");
      await page.route("**/api/orders/*/pass", (route) => route.fulfill({ status: 500, json: {} }));
      await open(page, `/orders/${used.id}/pass`);
      await check(page, "a pass that cannot be read");
    });

    test("a show whose tickets go is accessible and fits", async ({ page, context }) => {
      const { show, ticket, tickets } = await showWithSeats(storefrontUrl, 2, long);
      const buyer = await Account.signUp(storefrontUrl, "buyer");
      const rival = await Account.signUp(storefrontUrl, "rival");
      await signIn(context, buyer);
      await page.route("**/api/catalogue/live**", (route) => route.abort()); // the page offers what is gone
      await open(page, `/shows/${show.id}`);
      const stubs = page.locator(".stub button");
      await expect(stubs).toHaveCount(2);
      await rival.reserve(ticket);
      await stubs.first().click();
      await expect(page.locator(".alert.error")).toBeVisible();
      await expect(page.locator(".stub.gone")).toHaveCount(1);
      await context.setOffline(true);
      await expect(page.locator(".live.off")).toBeVisible();
      await check(page, "a ticket that somebody else has, without a connection");
      await context.setOffline(false);

      for (const other of tickets.slice(1)) {
        await rival.reserve(other);
      }
      await eventually(async () => {
        const left = await send<Ticket[]>(storefrontUrl, "GET", `/api/catalogue/shows/${show.id}/tickets`);
        return left.length === 0 || undefined;
      });
      await open(page, `/shows/${show.id}`);
      await check(page, "a show that is sold out");
    });

    test("the results at the door are accessible and fit", async ({ page, context }) => {
      const { owner, show } = await showWithSeats(storefrontUrl, 1, long);
      const buyer = await Account.signUp(storefrontUrl, "buyer");
      const order = await buyer.buy(await owner.list(show, { ...longPlace, number: "2047" }));
      const { code } = await buyer.call<Pass>("GET", `/api/orders/${order.id}/pass`);
      await signIn(context, owner);
      await open(page, `/checkin/${show.id}`);
      const verdict = verdictOf(page);
      const type = async (what: string, outcome: string): Promise<void> => {
        await page.locator("#code").fill(what);
        await page.locator("#code").press("Enter");
        await expect(verdict).toHaveAttribute("data-outcome", outcome);
        await check(page, `a pass that is ${outcome}`);
      };

      await type(code, "admitted");
      await type(code, "used");
      await type("nothing", "invalid");
      await page.route("**/checkins", (route) => route.fulfill({ status: 500, json: {} }));
      await type("another", "failed");
      await page.locator(".scanner button").click();
      await expect(page.locator(".scanner [role=alert]")).toBeVisible(); // this browser has no camera
      await check(page, "a door without a camera");
    });
  });
}
