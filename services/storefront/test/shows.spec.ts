// What is on, and a show with its tickets.
import { Account, eventually, send, showWithSeats, type Show, type Ticket } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { openLine } from "./line.ts";
import { settled } from "./pages.ts";
import { storefrontUrl } from "./stacks.ts";

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false });

  test("what is on can be searched, and a show read", async ({ page }) => {
    const { show } = await showWithSeats(storefrontUrl, 2, { city: "Heidelberg", description: "With a trumpet." });
    await page.goto("/");
    await page.getByRole("searchbox").fill(show.name);
    await page.getByRole("button", { name: "Search" }).click();

    await expect(page).toHaveURL(/[?&]q=Concert/);
    const card = page.getByRole("main").getByRole("link", { name: show.name, exact: true });
    await expect(card).toHaveCount(1);
    await card.click();

    await expect(page).toHaveURL(`/shows/${show.id}`);
    await expect(page.getByRole("heading", { level: 1 })).toHaveText(show.name);
    const main = page.getByRole("main");
    await expect(main).toContainText("Konzerthaus");
    await expect(main).toContainText("Heidelberg");
    await expect(main).toContainText("With a trumpet.");
    await expect(main).toContainText("$45.00");
    await expect(main).toContainText("2 tickets left");
  });

  test("facets and dates are links and forms", async ({ page }) => {
    const { show } = await showWithSeats(storefrontUrl, 1, { city: "Tübingen", category: "comedy" });
    await page.goto(`/?q=${encodeURIComponent(show.name)}`);

    await page
      .getByRole("link", { name: /Tübingen/ })
      .first()
      .click();

    await expect(page).toHaveURL(/city=T/);
    await expect(page.getByRole("main").getByRole("link", { name: show.name, exact: true })).toHaveCount(1);
    await page.goto(`/?q=${encodeURIComponent(show.name)}&city=Ulm`);
    await expect(page.getByRole("main").getByRole("link", { name: show.name, exact: true })).toHaveCount(0);
    await page.goto(`/?q=${encodeURIComponent(show.name)}&from=2039-01-01`);
    await expect(page.getByRole("main").getByRole("link", { name: show.name, exact: true })).toHaveCount(0);
  });
});

test("two browsers after one seat: one gets it, the other sees it go and reads why", async ({
  page,
  visit,
  signedIn,
  context,
}) => {
  const { show } = await showWithSeats(storefrontUrl, 2);
  await signedIn(context);
  const other = await visit();
  await signedIn(other);
  const rival = await other.newPage();
  await Promise.all([page.goto(`/shows/${show.id}`), rival.goto(`/shows/${show.id}`)]);
  const seat = { name: /Reserve .*seat 1\b/i, disabled: false };
  await expect(rival.getByRole("button", seat)).toBeVisible();

  // The rival's browser gets no updates any more, so that it still offers the seat.
  const late = await visit();
  await signedIn(late);
  await late.route("**/api/catalogue/live**", (route) => route.abort());
  const blind = await late.newPage();
  await blind.goto(`/shows/${show.id}`);
  await expect(blind.getByRole("button", seat)).toBeVisible();

  await page.getByRole("button", seat).click();

  await expect(page).toHaveURL(/\/orders\/[0-9a-f-]+$/);
  await expect(rival.getByRole("button", seat)).toHaveCount(0);
  await expect(rival.getByRole("main")).toContainText("1 ticket left");
  await blind.getByRole("button", seat).click();
  await expect(blind.getByText("Somebody else has just reserved this ticket.")).toBeVisible();
  await expect(blind).toHaveURL(`/shows/${show.id}`);
});

test("a ticket that is free again comes back by itself", async ({ page }) => {
  const { show, ticket } = await showWithSeats(storefrontUrl, 1);
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  await page.goto(`/shows/${show.id}`);
  await expect(page.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(1);

  const order = await buyer.reserve(ticket);
  await expect(page.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(0);
  await expect(page.getByText("Reserved by somebody else")).toBeVisible();
  await buyer.call("DELETE", `/api/orders/${order.id}`);

  await expect(page.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(1);
});

test("what happens while the reader is offline is there when the connection is back", async ({ page, context }) => {
  const { show, ticket } = await showWithSeats(storefrontUrl, 2);
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  const reserve = page.getByRole("button", { name: /Reserve/, disabled: false });
  const offline = page.getByText("Offline: this may be out of date");
  const line = await openLine(storefrontUrl);
  await page.route("**/api/catalogue/live**", async (route) => {
    const { pathname, search } = new URL(route.request().url());
    await route.continue({ url: line.url + pathname + search });
  });
  const stream = page.waitForResponse((response) => response.url().includes("/api/catalogue/live"));
  await page.goto(`/shows/${show.id}`);
  expect((await stream).status()).toBe(200);
  await expect(reserve).toHaveCount(2);

  const broken = page.waitForEvent("requestfailed", (request) => request.url().includes("/api/catalogue/live"));
  await context.setOffline(true);
  line.cut();
  await broken;
  await expect(offline).toBeVisible();
  await buyer.reserve(ticket);
  await eventually(async () => {
    const left = await send<Ticket[]>(storefrontUrl, "GET", `/api/catalogue/shows/${show.id}/tickets`);
    return left.length === 1 || undefined;
  });
  await expect(reserve).toHaveCount(2);

  line.mend();
  await context.setOffline(false);
  await expect(reserve).toHaveCount(1);
  await expect(page.getByRole("main")).toContainText("1 ticket left");
  await expect(offline).toBeHidden();
  line.close();
});

test("changes are announced to screen readers", async ({ page }) => {
  const { show, ticket } = await showWithSeats(storefrontUrl, 2);
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  await page.goto(`/shows/${show.id}`);
  await expect(page.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(2);

  await buyer.reserve(ticket);

  await expect(page.getByRole("status").filter({ hasText: "Stalls, row A, seat 1 was reserved. 1 ticket left" })).toHaveCount(1);
});

test("somebody who is not signed in signs in, and is back at the show", async ({ page }) => {
  const { show } = await showWithSeats(storefrontUrl, 1);
  const account = await Account.signUp(storefrontUrl, "buyer");
  await page.goto(`/shows/${show.id}`);
  await page.getByRole("button", { name: /Reserve/, disabled: false }).click();

  await expect(page).toHaveURL(`/signin?next=${encodeURIComponent(`/shows/${show.id}`)}`);
  await page.getByLabel("Email").fill(account.email);
  await page.getByLabel("Password", { exact: true }).fill("correct horse battery");
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();

  await expect(page).toHaveURL(`/shows/${show.id}`);
  await page.getByRole("button", { name: /Reserve/, disabled: false }).click();
  await expect(page).toHaveURL(/\/orders\/[0-9a-f-]+$/);
});

test("what users write is text, never HTML", async ({ page, context }) => {
  const evil = `<img src=x onerror="document.title='broken'"> "'><script>document.title='broken'</script>`;
  const {
    owner,
    show,
    ticket: first,
  } = await showWithSeats(storefrontUrl, 1, {
    name: evil,
    venue: evil,
    city: evil.slice(0, 60),
    description: evil,
  });
  const ticket = await owner.list(show, { section: "<b>Stalls</b>", row: "<i>A</i>", number: "<u>1</u>" });
  await signIn(context, owner);
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  await buyer.buy(first);
  const buys = await context.browser()?.newContext({ baseURL: storefrontUrl });
  if (buys === undefined) {
    throw new Error("there is no browser");
  }
  await signIn(buys, buyer);
  const order = await buyer.reserve(ticket);

  const visits: [typeof page, string][] = [
    [page, `/?q=${encodeURIComponent(evil)}`],
    [page, `/shows/${show.id}`],
    [page, "/listings"],
    [page, `/checkin/${show.id}`],
  ];
  const other = await buys.newPage();
  visits.push([other, "/orders"], [other, `/orders/${order.id}`]);
  for (const [visitor, path] of visits) {
    await visitor.goto(path);
    await settled(visitor);
    await expect(visitor.getByText("<img src=x").filter({ visible: true }).first(), path).toBeVisible();
    expect(await visitor.locator("img[src=x], main b, main u, main script:not([src])").count(), path).toBe(0);
    expect(await visitor.title(), path).not.toBe("broken");
  }
  await buys.close();
});

test("a cancelled show is marked, also while somebody reads it", async ({ page }) => {
  const { owner, show } = await showWithSeats(storefrontUrl, 1);
  await page.goto(`/shows/${show.id}`);
  await expect(page.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(1);

  await owner.call("DELETE", `/api/shows/${show.id}`);

  await expect(page.getByText("This show is cancelled")).toBeVisible();
  await expect(page.getByRole("button", { name: /Reserve/, disabled: false })).toHaveCount(0);
  await page.reload();
  await expect(page.getByText("This show is cancelled")).toBeVisible();
});

test("the page of a show has the time at its place", async ({ page }) => {
  const owner = await Account.signUp(storefrontUrl, "owner");
  const show = await owner.announce({
    city: "New York",
    country: "US",
    timeZone: "America/New_York",
    startsAt: "2028-12-24T00:30:00Z",
  });
  await eventually(async () => (await send<Show>(storefrontUrl, "GET", `/api/shows/${show.id}`)).id);

  await page.goto(`/shows/${show.id}`);

  await expect(page.getByRole("main")).toContainText("Saturday, 23 December 2028");
  await expect(page.getByRole("main")).toContainText(/19:30|7:30/);
});
