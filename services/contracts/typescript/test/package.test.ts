// What npm would publish.
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";

import { expect, test } from "vitest";

const folder = new URL("../", import.meta.url);

test("the package has the built code with its types, and nothing else", async () => {
  const output = execFileSync("npm", ["pack", "--dry-run", "--json"], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });

  const [{ files }] = JSON.parse(output.slice(output.indexOf("[\n"))) as [{ files: { path: string }[] }];
  const paths = files.map((file) => file.path);
  expect(paths).toEqual(expect.arrayContaining(["LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts"]));
  expect(paths.filter((path) => !/^(LICENSE|README\.md|package\.json|dist\/.*\.(js|js\.map|d\.ts))$/.test(path))).toEqual([]);

  // Imports of the built code end in .js, those of its types as well.
  expect(await readFile(new URL("dist/index.js", folder), "utf8")).not.toContain(".ts");
  const built = (await import(new URL("dist/index.js", folder).href)) as Record<string, unknown>;
  expect(Object.keys(built).sort()).toEqual(["Problem", "createClient", "paginate", "retry", "watch"]);
});
