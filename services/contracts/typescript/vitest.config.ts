import { defineConfig } from "vitest/config";

// Tests and examples import the package by its name, and get the sources.
const alias = { "@boxoffice/client": new URL("./src/index.ts", import.meta.url).pathname };

export default defineConfig({
  test: {
    projects: [
      { resolve: { alias }, test: { name: "unit", include: ["test/*.test.ts"], testTimeout: 120_000 } },
      // On a running stack, whose gateway is at BOXOFFICE_URL.
      { resolve: { alias }, test: { name: "stack", include: ["test/stack/*.test.ts"], testTimeout: 60_000 } },
    ],
  },
});
