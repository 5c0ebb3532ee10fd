// The password field of forms.
import { useState } from "preact/hooks";

import { t } from "../lib/texts.ts";
import type { Form } from "../ui/form.ts";
import { Button, Field } from "../ui/index.tsx";

interface PasswordProps {
  name: string;
  label: string;
  hint?: string;
  autocomplete: "current-password" | "new-password";
  form: Form;
}

/** A field for a password, which the reader can show. */
export function Password({ form, ...field }: PasswordProps) {
  const [shown, setShown] = useState(false);
  return (
    <div class="password">
      <Field
        {...field}
        type={shown ? "text" : "password"}
        error={form.errorOf(field.name)}
        required
        autocapitalize="off"
        spellcheck={false}
      />
      <Button
        kind="quiet"
        aria-pressed={shown}
        aria-label={t("account.showPassword", { field: field.label })}
        onClick={() => {
          setShown(!shown);
        }}
      >
        {t("account.show")}
      </Button>
    </div>
  );
}

/** The password in a field, with its spaces: they count. */
export function passwordOf(values: FormData, field: string): string {
  const value = values.get(field);
  return typeof value === "string" ? value : "";
}
