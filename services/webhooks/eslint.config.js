// The rules for TypeScript: those of services/contracts/typescript, and two of this service.
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
      // Members are taken out of objects by naming them.
      "@typescript-eslint/no-unused-vars": ["error", { ignoreRestSiblings: true, varsIgnorePattern: "^_" }],
      // The type of a document is named where it is read.
      "@typescript-eslint/no-unnecessary-type-parameters": "off",
    },
  },
  // Settings of tools, which no tsconfig.json includes.
  { files: ["**/*.js"], extends: [tseslint.configs.disableTypeChecked] },
);
