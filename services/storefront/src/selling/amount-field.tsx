// The field for an amount of money.
import { t } from "../lib/texts.ts";
import type { Form } from "../ui/form.ts";
import { Field } from "../ui/index.tsx";

interface AmountFieldProps {
  form: Form;
  name: "price" | "faceValue";
  currency: string;
  hint?: string | undefined;
  class?: string;
  required?: boolean;
  value?: string;
  defaultValue?: string;
  onInput?: (text: string) => void;
}

/** A field for a price or a face value. `amountOf` reads it. */
export function AmountField({ form, name, currency, onInput, ...rest }: AmountFieldProps) {
  return (
    <Field
      {...rest}
      name={name}
      label={name === "price" ? t("price.label", { currency: currency.toUpperCase() }) : t("price.faceValue")}
      error={form.errorOf(name)}
      inputMode="decimal"
      autocomplete="off"
      {...(onInput && {
        onInput: (event) => {
          onInput(event.currentTarget.value);
        },
      })}
    />
  );
}
