// Two groups of tests: unit, of single modules in Node; and browser, of the whole in Chromium, on the stacks that browser_test.go starts.
import { defineConfig } from "@playwright/test";

import { chromiumOptions } from "./chromium.ts";
import { storefrontUrl } from "./stacks.ts";

export default defineConfig({
  outputDir: "../../../.build/browser",
  forbidOnly: Boolean(process.env["CI"]),
  fullyParallel: true,
  workers: 2,
  reporter: process.env["CI_OUTPUT"] === "short" ? "dot" : "list",
  timeout: Number(process.env["TEST_TIMEOUT"] ?? 180_000),
  // Far more than anything takes on a busy machine.
  expect: { timeout: Number(process.env["EXPECT_TIMEOUT"] ?? 20_000) },
  projects: [
    { name: "unit", testMatch: "unit/*.test.ts" },
    {
      name: "browser",
      testMatch: "*.spec.ts",
      use: {
        baseURL: storefrontUrl,
        launchOptions: chromiumOptions(),
        locale: "en-GB",
        timezoneId: "Europe/Berlin",
        viewport: { width: 1280, height: 800 },
        trace: "retain-on-failure",
      },
    },
  ],
});
