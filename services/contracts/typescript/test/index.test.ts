import { expect, test } from "vitest";

import { apiVersion } from "../src/index.ts";
import manifest from "../package.json" with { type: "json" };

test("the package has the version of the API", () => {
  expect(manifest.version).toBe(apiVersion);
});
