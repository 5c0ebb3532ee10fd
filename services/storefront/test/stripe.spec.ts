// The page of an order with a publishable key: Stripe's Payment Element in a stand-in for Stripe.js, which behaves as Stripe's
// documentation has it (https://docs.stripe.com/js): a form in a frame, and a payment method of what was typed.
import type { Page } from "@playwright/test";

import { Account, showWithSeats } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { stripeUrl } from "./stacks.ts";

const standIn = "https://js.stripe.com";

test.use({ otherOrigins: [standIn] });

const script = `
window.Stripe = (key, { locale } = {}) => {
  if (!key.startsWith("pk_test_")) throw new Error("no publishable key");
  let frame;
  const typed = () => new Promise((resolve) => {
    addEventListener("message", ({ data, origin }) => origin === "${standIn}" && resolve(data), { once: true });
    frame.contentWindow.postMessage("read", "${standIn}");
  });
  return {
    elements: (options) => {
      for (const option of ["mode", "amount", "currency", "captureMethod"]) if (!options[option]) throw new Error("without " + option);
      return {
        create: () => {
          const listeners = {};
          return {
            on: (event, listener) => { listeners[event] = listener; },
            mount: (place) => {
              frame = document.createElement("iframe");
              frame.title = "Secure payment input frame";
              frame.src = "${standIn}/frame";
              frame.onload = () => listeners.ready?.();
              place.append(frame);
            },
            destroy: () => frame.remove(),
          };
        },
        submit: async () => (await typed()) === "" ? { error: { message: "Your card number is incomplete." } } : {},
      };
    },
    createPaymentMethod: async () => {
      const methods = { 4242424242424242: "pm_card_visa", 4000000000000002: "pm_card_chargeDeclined", 4000002760003184: "pm_card_authenticationRequired" };
      return { paymentMethod: { id: methods[await typed()] } };
    },
  };
};`;

const frame = `<!doctype html><html lang="en"><title>Card</title><label>Card number <input></label><script>
addEventListener("message", ({ source, origin }) => source.postMessage(document.querySelector("input").value, origin));
</script>`;

/** A buyer's order, on its page. */
async function reserved(page: Page) {
  const { ticket } = await showWithSeats(stripeUrl, 1);
  const buyer = await Account.signUp(stripeUrl, "buyer");
  await signIn(page.context(), buyer);
  const order = await buyer.reserve(ticket);
  await page.goto(`${stripeUrl}/orders/${order.id}`);
  return order;
}

test.describe("with Stripe.js", () => {
  test.beforeEach(async ({ context }) => {
    await context.route(`${standIn}/**`, (route) =>
      new URL(route.request().url()).pathname === "/frame"
        ? route.fulfill({ contentType: "text/html", body: frame })
        : route.fulfill({ contentType: "text/javascript", body: script }),
    );
  });

  test("a card is declined in Stripe's form, and another one pays", async ({ page }) => {
    await reserved(page);
    const number = page.frameLocator("iframe").getByLabel("Card number");
    const button = page.getByRole("button", { name: /^Pay/ });

    await expect(number).toBeVisible();
    await button.click();
    await expect(page.getByText("Your card number is incomplete.")).toBeVisible();
    await number.fill("4000000000000002");
    await button.click();
    await expect(page.getByRole("alert")).toContainText(/declined/i);
    await number.fill("4242424242424242");
    await button.click();

    await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
  });

  test("3-D Secure leads to the bank and back", async ({ page }) => {
    const order = await reserved(page);
    await page.frameLocator("iframe").getByLabel("Card number").fill("4000002760003184");
    await page.getByRole("button", { name: /^Pay/ }).click();
    await page.getByRole("button", { name: "Confirm payment" }).click();

    await expect(page).toHaveURL(`${stripeUrl}/orders/${order.id}`);
    await expect(page.getByRole("link", { name: /pass/i })).toBeVisible();
  });
});

test("without Stripe.js the page names the problem, and the order can be cancelled", async ({ page, context }) => {
  await context.route(`${standIn}/**`, (route) => route.abort());
  await reserved(page);
  await expect(page.getByRole("alert")).toBeVisible();
  await page.locator(".cancel button").click();
  await page.locator(".cancel button.danger").click();
  await expect(page.getByText(/cancelled/i).first()).toBeVisible();
});

test("only the page of an order may use Stripe's hosts", async ({ context }) => {
  for (const [path, uses] of [
    ["/orders/01900000-0000-7000-8000-000000000000", true],
    ["/", false],
    ["/orders", false],
    ["/signin", false],
  ] as const) {
    const response = await context.request.get(stripeUrl + path);
    const policy = response.headers()["content-security-policy"] ?? "";
    expect(policy, path).toContain("default-src 'none'");
    expect(policy, path).not.toMatch(/unsafe|\*[ ;]/);
    expect(policy.includes("stripe.com"), path).toBe(uses);
    expect((await response.text()).includes("stripe.com"), path).toBe(uses);
  }
});
