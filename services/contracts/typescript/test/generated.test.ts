// The files of src/generated follow from the contracts beside this package. `npm run generate` writes them again.
import { readdir, readFile } from "node:fs/promises";

import { compile, type JSONSchema } from "json-schema-to-typescript";
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

test("the types of the events are those of the JSON Schemas", async () => {
  const parts: string[] = [];
  const numbersOf = new Map<string, string[]>();
  for (const file of (await readdir(new URL("schemas/", contracts))).sort()) {
    const [, type = "", number = ""] = /^(.+)\.(\d+)\.json$/.exec(file) ?? [];
    const schema = JSON.parse(await readFile(new URL(`schemas/${file}`, contracts), "utf8")) as JSONSchema;
    const title = type === "envelope" ? "Envelope" : (schema.title ?? "").replace(/\d+$/, "") + number;
    // Members that a schema does not name are allowed and ignored, so the types have none.
    const options = { bannerComment: "", additionalProperties: false, format: false, enableConstEnums: false };
    parts.push(await compile({ ...schema, title }, title, options));
    if (type !== "envelope") {
      numbersOf.set(type, [...(numbersOf.get(type) ?? []), title]);
    }
  }
  const events = [...numbersOf].map(([type, titles]) => `"${type}": ${titles.join(" | ")};`);
  parts.push(
    `/** The \`data\` of each type of event, in all its numbers: \`dataschema\` ends with the number. */
export interface Events {\n${events.join("\n")}\n}\n
/** A type of events. */
export type EventType = keyof Events;\n`,
  );
  await expectGenerated("events.ts", "schemas", parts.join("\n"));
});

test("the package has the version of the OpenAPI document", () => {
  expect(manifest.version).toBe(document.info.version);
});
