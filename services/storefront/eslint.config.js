// The rules for TypeScript: those of services/webhooks.
import eslint from "@eslint/js";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  { ignores: ["dist/", "third_party/"] },
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // Numbers are written into messages and addresses everywhere.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // Members are taken out of objects by naming them. A page that needs no id still gets one.
      "@typescript-eslint/no-unused-vars": [
        "error",
        { ignoreRestSiblings: true, argsIgnorePattern: "^_", varsIgnorePattern: "^_" },
      ],
      // An empty text counts as none.
      "@typescript-eslint/prefer-nullish-coalescing": ["error", { ignorePrimitives: { string: true } }],
      // Components return nothing of their own type, and handlers of events may be asynchronous: what they throw reaches the page.
      "@typescript-eslint/no-misused-promises": ["error", { checksVoidReturn: { attributes: false } }],
    },
  },
  // Playwright reads which fixtures a fixture needs from its parameter.
  { files: ["test/**"], rules: { "no-empty-pattern": ["error", { allowObjectPatternsAsParameters: true }] } },
  // Settings of tools, which no tsconfig.json includes.
  { files: ["**/*.js"], extends: [tseslint.configs.disableTypeChecked] },
);
