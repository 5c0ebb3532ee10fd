// The door: the decoders of a camera, and a connection that breaks.
import type { Browser, BrowserContext, Page } from "@playwright/test";

import type { Account } from "./api.ts";
import { browserWithCamera } from "./camera.ts";
import { type Pass, sold, type, verdictOf } from "./door.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { settled } from "./pages.ts";
import { storefrontUrl } from "./stacks.ts";

const emptyPicture = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>';

/** Opens the door of a show in a browser with a camera. */
async function openDoor(door: Browser, owner: Account, showId: string, prepare: (context: BrowserContext) => Promise<unknown>) {
  const context = await door.newContext({ baseURL: storefrontUrl, locale: "en-GB", permissions: ["camera"] });
  await prepare(context);
  await signIn(context, owner);
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("console", (message) => {
    if (/violat/i.test(message.text())) {
      problems.push(message.text());
    }
  });
  page.on("pageerror", (error) => problems.push(error.message));
  const scripts: string[] = [];
  page.on("request", (request) => scripts.push(new URL(request.url()).pathname));
  await page.goto(`/checkin/${showId}`);
  await settled(page);
  await page.getByRole("button", { name: "Start the camera" }).click();
  return { page, problems, hasLoadedDecoder: () => scripts.some((path) => /jsqr[^/]*\.js$/.test(path)) };
}

test("a browser that reads QR codes itself does so, and loads no decoder", async ({ browser }, info) => {
  const { owner, show, buyer, order, pass } = await sold();
  // The camera sees nothing: only the browser's decoder can have the code.
  const door = await browserWithCamera(browser, emptyPicture, info.outputPath("camera.y4m"));
  const { page, problems, hasLoadedDecoder } = await openDoor(door, owner, show.id, (context) =>
    context.addInitScript((code) => {
      let calls = 0;
      class BarcodeDetector {
        static getSupportedFormats() {
          return Promise.resolve(["ean_13", "qr_code"]);
        }
        constructor({ formats }: { formats: string[] }) {
          if (formats.join() !== "qr_code") {
            throw new TypeError("other formats");
          }
        }
        detect(source: unknown) {
          Object.assign(globalThis, { detected: ++calls });
          return calls > 1 && source instanceof HTMLVideoElement && source.videoWidth > 0
            ? Promise.resolve([{ rawValue: code }])
            : Promise.reject(new DOMException("there is no picture yet", "InvalidStateError"));
        }
      }
      Object.assign(globalThis, { BarcodeDetector });
    }, pass.code),
  );

  await expect(verdictOf(page)).toHaveAttribute("data-outcome", "admitted");
  expect(await buyer.call<Pass>("GET", `/api/orders/${order.id}/pass`)).toMatchObject({ status: "used" });
  // The code stays in the picture, and is not checked once more.
  const detected = () => page.evaluate(() => (globalThis as unknown as { detected: number }).detected);
  const before = await detected();
  await expect.poll(detected).toBeGreaterThan(before + 3);
  await expect(page.locator(".tally dd")).toHaveText(["1", "0"]);
  expect(hasLoadedDecoder()).toBe(false);
  expect(problems).toEqual([]);
  await door.close();
});

test("a browser whose decoder cannot read QR codes loads one that can", async ({ browser, context }, info) => {
  const { owner, show, buyer, order } = await sold();
  await signIn(context, buyer);
  const svg = await context.request.get(`${storefrontUrl}/api/orders/${order.id}/pass?format=svg`);
  const door = await browserWithCamera(browser, await svg.text(), info.outputPath("camera.y4m"));
  const detectors = {
    "none at all": undefined,
    "fails when it is asked": "throw new DOMException('no service', 'NotSupportedError')",
    "has other formats": "return ['ean_13']",
  };
  let outcome = "admitted";
  for (const [what, formats] of Object.entries(detectors)) {
    await test.step(what, async () => {
      const { page, problems, hasLoadedDecoder } = await openDoor(door, owner, show.id, (context) =>
        context.addInitScript(
          formats === undefined
            ? "delete globalThis.BarcodeDetector"
            : `globalThis.BarcodeDetector = class { static async getSupportedFormats() { ${formats} } detect() { throw new Error("was used"); } }`,
        ),
      );
      await expect(verdictOf(page)).toHaveAttribute("data-outcome", outcome);
      expect(hasLoadedDecoder()).toBe(true);
      expect(problems).toEqual([]);
      await page.context().close();
    });
    outcome = "used"; // the code was read before
  }
  await door.close();
});

/** Opens the door in the browser of a test, where codes are typed. */
async function typing(page: Page) {
  const guest = await sold();
  await signIn(page.context(), guest.owner);
  await page.goto(`/checkin/${guest.show.id}`);
  await settled(page);
  return guest;
}

test("without a connection a pass is not checked, and is when the connection is back", async ({ page, context }) => {
  const { buyer, order, pass } = await typing(page);
  const verdict = verdictOf(page);
  const tally = page.locator(".tally dd");

  await context.setOffline(true);
  await type(page, pass.code);
  await expect(verdict).toHaveAttribute("data-outcome", "failed");
  await expect(verdict).toContainText("You are offline.");
  await expect(tally).toHaveText(["0", "0"]);
  expect(await buyer.call<Pass>("GET", `/api/orders/${order.id}/pass`)).toMatchObject({ status: "valid" });

  await context.setOffline(false);
  await page.getByRole("button", { name: "Check it again" }).click();
  await expect(verdict).toHaveAttribute("data-outcome", "admitted");
  await expect(tally).toHaveText(["1", "0"]);
});

test("a pass whose answer was lost is admitted, not used", async ({ page }) => {
  const { buyer, order, pass } = await typing(page);
  let requests = 0;
  await page.route("**/checkins", async (route) => {
    requests += 1;
    if (requests > 1) {
      await route.continue();
      return;
    }
    expect((await route.fetch()).status()).toBe(200);
    await route.abort("connectionreset");
  });

  await type(page, pass.code);
  await expect(verdictOf(page)).toHaveAttribute("data-outcome", "admitted");
  await expect(page.locator(".tally dd")).toHaveText(["1", "0"]);
  expect(requests).toBe(2);
  expect(await buyer.call<Pass>("GET", `/api/orders/${order.id}/pass`)).toMatchObject({ status: "used" });
  await type(page, pass.code);
  await expect(verdictOf(page)).toHaveAttribute("data-outcome", "used");
});

test("a pass that was opened with a connection works without one", async ({ page, context }) => {
  const { buyer, order } = await sold();
  await signIn(context, buyer);
  await page.goto(`/orders/${order.id}/pass`);
  const code = page.locator(".pass-code img");
  await expect(code).toHaveJSProperty("complete", true);

  await context.setOffline(true);
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange"))); // the telephone was in a pocket
  await expect(page.getByText("You are offline.")).toBeVisible();
  await expect(code).toBeVisible();
  expect(await code.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(100);

  await context.setOffline(false);
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await expect(page.getByText("You are offline.")).toBeHidden();
});
