// The files of src/generated follow from the contracts beside this package. `npm run generate` writes them again.
import { readFile } from "node:fs/promises";

import openapiTS, { astToString } from "openapi-typescript";
import { format, resolveConfig } from "prettier";
import { expect, test } from "vitest";
import { parse } from "yaml";

import manifest from "../package.json" with { type: "json" };

const contracts = new URL("../../", import.meta.url);
const generated = new URL("../src/generated/", import.meta.url);

/** Compares a file of src/generated with its text, or writes it. */
async function expectGenerated(file: string, source: string, text: string): Promise<void> {
  const path = new URL(file, generated).pathname;
  const whole = `// Generated from services/contracts/${source} by: npm run generate\n\n${text}`;
  await expect(await format(whole, { ...(await resolveConfig(path)), filepath: path })).toMatchFileSnapshot(path);
}

interface Document {
  info: { version: string };
  "x-codes": Record<string, { status: number[]; means: string; do: string }>;
}

const document = parse(await readFile(new URL("openapi.yaml", contracts), "utf8")) as Document;

test("the types of the REST API are those of the OpenAPI document", async () => {
  await expectGenerated("api.ts", "openapi.yaml", astToString(await openapiTS(new URL("openapi.yaml", contracts))));
});

test("the codes are those of the OpenAPI document", async () => {
  const codes = Object.entries(document["x-codes"]).map(
    ([code, { status, means, do: advice }]) => `/** ${means}. What to do: ${advice}. */\n${code}: ${status.join(" | ")};`,
  );
  await expectGenerated(
    "codes.ts",
    "openapi.yaml",
    `/** The codes of problems, each with the statuses that it occurs with. */
export interface Codes {\n${codes.join("\n")}\n}\n
/** A code of the API. */
export type Code = keyof Codes;\n`,
  );
});

test("the package has the version of the OpenAPI document", () => {
  expect(manifest.version).toBe(document.info.version);
});
