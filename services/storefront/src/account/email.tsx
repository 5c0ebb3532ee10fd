// The email field of the pages to sign in and up.
import { t } from "../lib/texts.ts";
import type { Form } from "../ui/form.ts";
import { Field } from "../ui/index.tsx";

/** The field for the email with which somebody signs in. */
export function Email({ form }: { form: Form }) {
  return (
    <Field name="email" label={t("account.email")} error={form.errorOf("email")} type="email" autocomplete="username" required />
  );
}
