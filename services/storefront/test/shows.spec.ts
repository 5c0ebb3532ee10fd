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
  const { show, tickets } = await showWithSeats(storefrontUrl, 3);
  const account = await Account.signUp(storefrontUrl, "buyer");
  await page.goto(`/shows/${show.id}`);
  await page.getByRole("button", { name: /Reserve .*seat 2\b/ }).click();

  const next = `/shows/${show.id}#reserve-${tickets[1]?.id ?? ""}`;
  await expect(page).toHaveURL(`/signin?next=${encodeURIComponent(next)}`);
  await page.getByLabel("Email").fill(account.email);
  await page.getByLabel("Password", { exact: true }).fill("correct horse battery");
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();

  await expect(page).toHaveURL(`/shows/${show.id}`);
  const seat = page.getByRole("button", { name: /Reserve .*seat 2\b/ });
  await expect(seat).toBeFocused();
  await expect(seat).toHaveAccessibleDescription("You are signed in. You can reserve this one now.");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/orders\/[0-9a-f-]+$/);
});

test("a ticket that went during the sign-in is not offered after it", async ({ page, signedIn, context }) => {
  const { show, ticket } = await showWithSeats(storefrontUrl, 2);
  await signedIn(context);
  const other = await Account.signUp(storefrontUrl, "other");
  await other.reserve(ticket);
  await eventually(async () => {
    const left = await send<{ id: string }[]>(storefrontUrl, "GET", `/api/catalogue/shows/${show.id}/tickets`);
    return left.length === 1 || undefined;
  });

  await page.goto(`/shows/${show.id}#reserve-${ticket.id}`);

  await expect(page.getByText("You are signed in.", { exact: true })).toBeVisible();
  await expect(page).toHaveURL(`/shows/${show.id}`);
});

test("tickets without a number are one row, with as many as are left", async ({ page, visit, signedIn, context }) => {
  const { owner, show } = await showWithSeats(storefrontUrl, 1);
  await owner.list(show, { section: "Stalls", row: "A", number: "10" });
  await owner.list(show, { section: "Stalls", row: "A", number: "9" });
  const bar = [];
  for (let n = 0; n < 3; n++) {
    bar.push(await owner.list(show, { section: "Bar" }, 1900));
  }
  const buyer = await Account.signUp(storefrontUrl, "buyer");
  await signedIn(context);
  const live = await (await visit()).newPage();
  await page.route("**/api/catalogue/live**", (route) => route.abort());
  await Promise.all([page.goto(`/shows/${show.id}`), live.goto(`/shows/${show.id}`)]);
  const row = (of: typeof page) => of.getByRole("listitem").filter({ has: of.getByRole("button", { name: /Reserve Bar/ }) });
  await expect(row(page).getByRole("button", { name: "Reserve Bar for $19.00, 3 left", disabled: false })).toBeVisible();
  const places = ["Bar · 3 left", "Stalls, row A, seat 1", "Stalls, row A, seat 9", "Stalls, row A, seat 10"];
  await expect(page.locator(".stub .place")).toHaveText(places);
  const plain = await (await visit({ javaScriptEnabled: false })).newPage();
  await plain.goto(`/shows/${show.id}`);
  await expect(plain.locator(".stub .place")).toHaveText(places);

  for (const ticket of bar) {
    await buyer.reserve(ticket);
  }
  await expect(live.getByRole("status").filter({ hasText: "A ticket for Bar was reserved." })).toHaveCount(1);
  await expect(row(live)).toContainText("Reserved by somebody else");
  await row(page).getByRole("button").click();

  await expect(page.getByText("Somebody else has just reserved this ticket.")).toBeVisible();
  await expect(row(page)).toContainText("2 left");
});

test("a row with more tickets than a page is read to its end", async ({ page }) => {
  const { owner, show } = await showWithSeats(storefrontUrl, 1);
  const standing = { showId: show.id, seat: { section: "Bar" }, price: 1900 };
  for (let left = 110; left > 0; left -= 10) {
    await Promise.all(Array.from({ length: 10 }, () => owner.call("POST", "/api/tickets", standing)));
  }
  await eventually(async () => {
    const now = await send<{ left: number }>(storefrontUrl, "GET", `/api/catalogue/shows/${show.id}`);
    return now.left === 111 || undefined;
  });
  await page.goto(`/shows/${show.id}`);
  await expect(page.locator(".stub .place")).toHaveText(["Bar · 50 or more left"]);
  await page.getByRole("button", { name: "Show more" }).click();

  await expect(page.locator(".stub .place")).toHaveText(["Bar · 110 left", "Stalls, row A, seat 1"]);
});

test("a seller's own tickets are not offered to them", async ({ page, context }) => {
  const { owner, show } = await showWithSeats(storefrontUrl, 1);
  await owner.list(show, { section: "Bar" }, 1900);
  await signIn(context, owner);
  await page.goto(`/shows/${show.id}`);

  await expect(page.getByText("Your ticket")).toHaveCount(2);
  await expect(page.getByRole("button", { name: /Reserve/ })).toHaveCount(0);
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
