// The rules for TypeScript. services/webhooks has them too.
import eslint from "@eslint/js";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  { ignores: ["dist/", "**/generated/"] },
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // Numbers are written into messages and addresses everywhere.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
    },
  },
  // Settings of tools, which no tsconfig.json includes.
  { files: ["**/*.js", "vitest.config.ts"], extends: [tseslint.configs.disableTypeChecked] },
);
