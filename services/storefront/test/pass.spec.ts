// Passes: at the door, by typing and by camera; and after a resale.
import { Account, eventually, type Order, send, type Ticket } from "./api.ts";
import { browserWithCamera } from "./camera.ts";
import { type Pass, sold, type } from "./door.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { settled } from "./pages.ts";
import { storefrontUrl } from "./stacks.ts";

test("a pass admits once: typed at the door, and then used already", async ({ page, context }) => {
  const { owner, show, pass } = await sold();
  await signIn(context, owner);
  await page.goto(`/checkin/${show.id}`);
  await settled(page);
  const verdict = page.locator("[data-outcome]").first();

  await type(page, pass.code);
  await expect(verdict).toHaveAttribute("data-outcome", "admitted");
  await expect(verdict).toContainText("Stalls");
  await type(page, pass.code);
  await expect(verdict).toHaveAttribute("data-outcome", "used");
  await type(page, `${pass.code.slice(0, -8)}AAAAAAAA`);
  await expect(verdict).toHaveAttribute("data-outcome", "invalid");
  const other = await sold();
  await type(page, other.pass.code);
  await expect(verdict).toHaveAttribute("data-outcome", "wrong");
});

test("when a pass was used is shown on the clock of the show", async ({ page, context, visit }) => {
  const { owner, show, buyer, order, pass } = await sold({ timeZone: "Asia/Kolkata" }); // the browser is in Berlin
  await owner.call("POST", `/api/shows/${show.id}/checkins`, { code: pass.code });
  const { usedAt } = await eventually(async () => {
    const now = await buyer.call<Order>("GET", `/api/orders/${order.id}`);
    return now.usedAt === undefined ? undefined : { usedAt: now.usedAt };
  });
  const clock = new Date(usedAt).toLocaleTimeString("en-GB", { timeZone: "Asia/Kolkata", hour: "2-digit", minute: "2-digit" });

  await signIn(context, buyer);
  for (const path of [`/orders/${order.id}`, `/orders/${order.id}/pass`]) {
    await page.goto(path);
    await expect(page.getByRole("main")).toContainText(clock);
  }
  await page.goto("/orders");
  await expect(page.getByText("Used", { exact: true })).toBeVisible();
  const door = await visit();
  await signIn(door, owner);
  const checkin = await door.newPage();
  await checkin.goto(`/checkin/${show.id}`);
  await settled(checkin);
  await type(checkin, pass.code);
  await expect(checkin.locator("[data-outcome]").first()).toContainText(`It was used at ${clock}.`);
});

test("a code that two people show before its answer is there admits one", async ({ page, context }) => {
  const { owner, show, pass } = await sold();
  await signIn(context, owner);
  await page.goto(`/checkin/${show.id}`);
  await settled(page);
  let send: () => void = () => undefined;
  const both = new Promise<void>((resolve) => {
    send = resolve;
  });
  await page.route("**/checkins", async (route) => {
    await both;
    await route.continue();
  });
  const verdict = page.locator("[data-outcome]").first();

  await type(page, pass.code);
  await type(page, pass.code);
  send();
  await expect(verdict).toHaveAttribute("data-outcome", "admitted");
  await type(page, pass.code);
  await expect(verdict).toHaveAttribute("data-outcome", "used");
  await expect(page.locator(".tally dd")).toHaveText(["1", "1"]);
});

test("a pass admits once: held into the camera, and then used already", async ({ page, context, browser }, info) => {
  const { owner, show, buyer, order } = await sold();
  await signIn(context, buyer);
  await page.goto(`/orders/${order.id}/pass`);
  await expect(page.locator(".pass-code img")).toBeVisible();
  const svg = await context.request.get(`${storefrontUrl}/api/orders/${order.id}/pass?format=svg`);
  expect(svg.headers()["content-type"]).toContain("image/svg+xml");

  const door = await browserWithCamera(browser, await svg.text(), info.outputPath("camera.y4m"));
  const atDoor = await door.newContext({ baseURL: storefrontUrl, locale: "en-GB", permissions: ["camera"] });
  await signIn(atDoor, owner);
  const scanner = await atDoor.newPage();
  const violations: string[] = [];
  scanner.on("console", (message) => {
    if (/violat/i.test(message.text())) {
      violations.push(message.text());
    }
  });
  await scanner.goto(`/checkin/${show.id}`);
  await settled(scanner);
  const start = scanner.getByRole("button", { name: "Start the camera" });
  await start.click();

  await expect(scanner.locator("[data-outcome]").first()).toHaveAttribute("data-outcome", "admitted");
  expect(await buyer.call<Pass>("GET", `/api/orders/${order.id}/pass`)).toMatchObject({ status: "used" });
  await scanner.reload();
  await settled(scanner);
  await start.click();
  await expect(scanner.locator("[data-outcome]").first()).toHaveAttribute("data-outcome", "used");
  expect(violations).toEqual([]);
  await door.close();

  await page.reload();
  await expect(page.getByText("This pass was used and does not admit again.")).toBeVisible();
});

test("only the show's owner checks passes in", async ({ page, context }) => {
  const { show, buyer } = await sold();
  await signIn(context, buyer);
  await page.goto(`/checkin/${show.id}`);
  await expect(page.getByText("This show belongs to somebody else.")).toBeVisible();
});

test("a pass is resold: the old one is void, and the buyer has a new one", async ({ page, context, visit }) => {
  const { owner, show, buyer, order, pass } = await sold();
  await signIn(context, buyer);
  await page.goto(`/orders/${order.id}/pass`);
  await page.locator(".resale [name=price]").fill("44");
  await page.getByRole("button", { name: "Offer for sale" }).click();
  await expect(page.locator(".resale").getByRole("status")).toContainText("$44.00");
  const change = page.getByRole("button", { name: "Change the price" });
  await change.click();
  await page.getByRole("dialog").locator("[name=price]").fill("40");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await expect(change).toBeFocused();
  await expect(page.locator(".resale").getByRole("status")).toContainText("$44.00");
  await eventually(async () => {
    const left = await send<Ticket[]>(storefrontUrl, "GET", `/api/catalogue/shows/${show.id}/tickets`);
    return left.some(({ price }) => price === 4400) || undefined;
  });

  const second = await visit();
  const next = await Account.signUp(storefrontUrl, "next");
  await signIn(second, next);
  const buying = await second.newPage();
  await buying.goto(`/shows/${show.id}`);
  await buying.getByRole("button", { name: /Reserve/, disabled: false }).click();
  await buying.locator("[value=pm_card_visa]").check();
  await buying.getByRole("button", { name: /^Pay/ }).click();
  await buying.getByRole("link", { name: /pass/i }).click();
  await expect(buying.locator(".pass-code img")).toBeVisible();

  await page.goto(`/orders/${order.id}/pass`);
  await expect(page.getByText("This pass is no longer valid.")).toBeVisible();
  await expect(page.locator(".pass-code img")).toHaveCount(0);

  const door = await visit();
  await signIn(door, owner);
  const checkin = await door.newPage();
  await checkin.goto(`/checkin/${show.id}`);
  await settled(checkin);
  await type(checkin, pass.code);
  await expect(checkin.locator("[data-outcome]").first()).toHaveAttribute("data-outcome", "void");
  const renewed = await next.call<Pass>("GET", `/api/orders/${new URL(buying.url()).pathname.split("/")[2] ?? ""}/pass`);
  await type(checkin, renewed.code);
  await expect(checkin.locator("[data-outcome]").first()).toHaveAttribute("data-outcome", "admitted");
});
