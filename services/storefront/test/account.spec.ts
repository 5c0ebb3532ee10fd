// Accounts: sign up, in and out, a new password.
import { randomUUID } from "node:crypto";

import { Account, password } from "./api.ts";
import { expect, signIn, test } from "./fixtures.ts";
import { storefrontUrl } from "./stacks.ts";

test("somebody signs up, out, and in again", async ({ page }) => {
  const email = `visitor-${randomUUID()}@example.com`;
  await page.goto("/");
  await page.getByRole("link", { name: "Sign in" }).first().click();
  await page.getByRole("link", { name: "Create an account" }).click();
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("main").getByRole("button", { name: "Create the account" }).click();

  await expect(page.getByRole("link", { name: "Account" })).toBeVisible();
  await page.getByRole("link", { name: "Account" }).click();
  await expect(page.getByRole("main")).toContainText(email);
  await page
    .getByRole("main")
    .getByRole("button", { name: /sign out/i })
    .first()
    .click();

  await expect(page.getByRole("link", { name: "Sign in" }).first()).toBeVisible();
  await expect(page.getByRole("link", { name: "Account" })).toBeHidden();
  await page.getByRole("link", { name: "Sign in" }).first().click();
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("link", { name: "Account" })).toBeVisible();
});

test("the form explains a wrong password and a taken email", async ({ page }) => {
  const account = await Account.signUp(storefrontUrl);
  await page.goto("/signin");
  await page.getByLabel("Email").fill(account.email);
  await page.getByLabel("Password", { exact: true }).fill("not the password");
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByText("Email or password is wrong.")).toBeVisible();

  await page.goto("/signup");
  await page.getByLabel("Email").fill(account.email);
  await page.getByLabel("Password", { exact: true }).fill("another password");
  await page.getByRole("main").getByRole("button", { name: "Create the account" }).click();
  await expect(page.getByText("This email address already has an account.")).toBeVisible();
  await expect(page.getByLabel("Email")).toBeFocused();
});

test("an error of the sign-in moves no field, and its wait is in minutes if it is long", async ({ page }) => {
  await page.goto("/signin");
  const email = page.getByLabel("Email");
  const top = (): Promise<number> => email.evaluate((field) => field.getBoundingClientRect().top);
  const before = await top();
  await email.fill("nobody@example.com");
  await page.getByLabel("Password", { exact: true }).fill("not the password");
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByText("Email or password is wrong.")).toBeVisible();
  expect(await top()).toBe(before);

  const problem = { title: "Too Many Requests", status: 429, errors: [{ code: "too_many_attempts", message: "Too many." }] };
  await page.route("**/api/users/signin", (route) =>
    route.fulfill({
      status: 429,
      headers: { "Retry-After": "850" },
      contentType: "application/problem+json",
      body: JSON.stringify(problem),
    }),
  );
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByText("Try again in 15 minutes.")).toBeVisible();
});

test("password managers find the account of each password", async ({ page, signedIn, context }) => {
  const account = await signedIn(context);
  await page.goto("/account");
  await page.getByRole("button", { name: "Delete the account" }).click();
  const usernames = page.locator("form:has([type=password]) [autocomplete=username]");
  await expect(usernames).toHaveCount(2);
  for (const username of await usernames.all()) {
    await expect(username).toHaveValue(account.email);
  }
});

test("a new password ends the sessions of other devices, and keeps this one", async ({ page, visit, signedIn, context }) => {
  const account = await signedIn(context);
  const other = await visit();
  await signIn(other, account);
  await page.goto("/account");
  await page.getByLabel("Current password", { exact: true }).fill(password);
  await page.getByLabel("New password", { exact: true }).fill("a completely new one");
  await page.getByRole("button", { name: "Change the password" }).click();
  await expect(page.getByText("The password is changed.")).toBeVisible();

  await page.goto("/orders");
  await expect(page).toHaveURL("/orders");
  const elsewhere = await other.newPage();
  await elsewhere.goto("/account");
  await expect(elsewhere).toHaveURL(/\/signin\?next=%2Faccount$/);
  await elsewhere.getByLabel("Email").fill(account.email);
  await elsewhere.getByLabel("Password", { exact: true }).fill("a completely new one");
  await elsewhere.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await expect(elsewhere).toHaveURL("/account");
});

test("no script can read a token", async ({ page, signedIn, context }) => {
  await signedIn(context);
  await page.goto("/account");
  await expect(page.getByRole("main")).toContainText("@example.com");

  const readable = await page.evaluate(() =>
    [document.cookie, ...[localStorage, sessionStorage].map((storage) => JSON.stringify(Object.entries(storage)))].join("\n"),
  );
  expect(readable).not.toMatch(/eyJ|jwt|refresh=/);
  const cookies = await context.cookies();
  const secrets = cookies.filter(({ name }) => ["jwt", "refresh"].includes(name));
  expect(secrets).toHaveLength(2);
  for (const { name, httpOnly, sameSite } of secrets) {
    expect({ httpOnly, sameSite }, name).toEqual({ httpOnly: true, sameSite: name === "jwt" ? "Lax" : "Strict" });
  }
});

test("a session goes on when its token has expired, also in two tabs at once", async ({ page, signedIn, context }) => {
  await signedIn(context);
  await page.goto("/account");
  await expect(page.getByRole("main")).toContainText("@example.com");
  const second = await context.newPage();

  await context.clearCookies({ name: "jwt" });
  await Promise.all([page.goto("/orders"), second.goto("/listings")]);

  await expect(page.getByRole("heading", { level: 1 })).toHaveText("My tickets");
  await expect(second.getByRole("heading", { level: 1 })).toHaveText("My listings");
  await expect.poll(async () => (await context.cookies()).map(({ name }) => name)).toContain("jwt");
  await expect(page).toHaveURL("/orders");
  await expect(second).toHaveURL("/listings");
});

test("a session goes on when its token has expired, in a browser without Web Locks", async ({ page, signedIn, context }) => {
  await signedIn(context);
  await page.addInitScript(() => {
    Reflect.deleteProperty(Navigator.prototype, "locks");
  });
  await page.goto("/account");
  await expect(page.getByRole("main")).toContainText("@example.com");

  await context.clearCookies({ name: "jwt" });
  let refreshes = 0;
  const refused = page.waitForResponse((response) => response.status() === 401);
  await page.route("**/api/users/refresh", async (route) => {
    refreshes += 1;
    await refused;
    await route.continue();
  });
  await page.goto("/listings"); // the header and the page both need a token

  await expect(page.getByRole("heading", { level: 1 })).toHaveText("My listings");
  await expect.poll(async () => (await context.cookies()).map(({ name }) => name)).toContain("jwt");
  expect(refreshes).toBe(1);
});

test("who goes back after a sign-out does not see the page as it was", async ({ page, signedIn, context }) => {
  await signedIn(context);
  await page.goto("/account");
  await expect(page.getByRole("main")).toContainText("@example.com");
  const second = await context.newPage();
  await second.goto("/account");
  await second.getByRole("button", { name: "Sign out here" }).click();
  await expect(second).toHaveURL("/");

  // Playwright turns the browser's cache of pages off. This is what a page in it gets.
  await page.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
  await expect(page).toHaveURL("/signin?next=%2Faccount");
});

test("pages for somebody who is signed in lead to the sign-in and back", async ({ page }) => {
  const account = await Account.signUp(storefrontUrl);
  for (const path of ["/orders", "/sell", "/listings", "/account"]) {
    await page.goto("about:blank"); // the last page would lead to the sign-in as well, and interrupt this one
    await page.context().clearCookies();
    await page.goto(path);
    await expect(page).toHaveURL(`/signin?next=${encodeURIComponent(path)}`);
    await page.getByLabel("Email").fill(account.email);
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
    await expect(page).toHaveURL(path);
  }
});

test("the sign-in leads to no other site", async ({ page, signedIn, context }) => {
  await signedIn(context);
  for (const next of ["https://example.com/", "//example.com/", "/\\example.com", "javascript:alert(1)", "/%2f/example.com"]) {
    const account = await Account.signUp(storefrontUrl);
    await page.goto(`/signin?next=${encodeURIComponent(next)}`);
    await page.getByLabel("Email").fill(account.email);
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL((url) => url.pathname !== "/signin");
    expect(new URL(page.url()).origin).toBe(storefrontUrl);
  }
});

test("the language is the browser's, until a reader chooses another", async ({ visit }) => {
  const german = await visit({ locale: "de-AT" });
  const page = await german.newPage();
  await page.goto("/signin");
  await expect(page.locator("html")).toHaveAttribute("lang", "de");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(/Anmelden/);

  await page.getByRole("contentinfo").getByRole("link", { name: "English" }).click();
  await expect(page.locator("html")).toHaveAttribute("lang", "en");
  await page.goto("/");
  await expect(page.locator("html")).toHaveAttribute("lang", "en");

  const other = await (await visit({ locale: "fr-FR" })).newPage();
  await other.goto("/");
  await expect(other.locator("html")).toHaveAttribute("lang", "en");
});
