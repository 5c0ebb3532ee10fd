// The gateway's pages that describe the API and its events. As in every test, nothing that their content security policy forbids may
// happen: Swagger UI must do without inline styles.
import { showWithSeats } from "./api.ts";
import { expect, test } from "./fixtures.ts";
import { storefrontUrl } from "./stacks.ts";

interface Document {
  paths: Record<string, Record<string, { operationId?: string }>>;
  webhooks: object;
  "x-codes": object;
}

test("the page of the REST API shows every operation and code, and sends requests", async ({ page }) => {
  const { show } = await showWithSeats(storefrontUrl, 1);
  const document = (await (await page.request.get("/api/openapi.json")).json()) as Document;
  const operations = Object.values(document.paths)
    .flatMap((item) => Object.values(item))
    .filter(({ operationId }) => operationId !== undefined);

  await page.goto("/api/docs");
  await expect(page.locator(".opblock[id^=operations-]")).toHaveCount(operations.length + Object.keys(document.webhooks).length);
  await expect(page.locator("#codes tbody tr")).toHaveCount(Object.keys(document["x-codes"]).length);

  const listShows = page.locator("#operations-shows-listShows");
  await listShows.getByRole("button", { name: "GET /api/shows All shows" }).click();
  await listShows.getByRole("button", { name: "Try it out" }).click();
  await listShows.getByRole("button", { name: "Execute" }).click();

  const answer = listShows.locator(".live-responses-table .response");
  await expect(answer.locator(".response-col_status")).toHaveText(/^200/);
  await expect(answer).toContainText(show.id);
});

test("the page of the events shows each of them", async ({ page }) => {
  await page.goto("/api/docs/events");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("Box office events");
  const links = page.getByRole("navigation").getByRole("link");
  for (const href of await links.evaluateAll((all) => all.map((link) => link.getAttribute("href") ?? ""))) {
    await expect(page.locator(`[id="${href.slice(1)}"]`)).toBeVisible();
  }
  await page.getByRole("link", { name: "REST API" }).click();
  await expect(page).toHaveURL("/api/docs");
  await expect(page.locator("#operations .opblock").first()).toBeVisible();
});
