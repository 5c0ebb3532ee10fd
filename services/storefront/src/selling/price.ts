// Prices in the forms of sellers.
import { hasCode, messageOf } from "../lib/api.ts";
import { money, parseMoney } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { FieldError, textOf } from "../ui/form.ts";

/**
 * The amount in a field of a form, in the currency's minor unit.
 *
 * @throws {FieldError} if it is none
 */
export function amountOf(values: FormData, field: string, currency: string): number {
  const amount = parseMoney(textOf(values, field), currency);
  if (amount === undefined) {
    throw new FieldError(field, t("price.wrong", { example: money(4500, currency) }));
  }
  return amount;
}

/** Makes of a price above the cap of a show an error that names the highest price. It returns any other error as it is. */
export function nameCap(error: unknown, currency: string): unknown {
  const highest = hasCode(error, "price_above_cap") ? error.members["maxPrice"] : undefined;
  return typeof highest === "number"
    ? new FieldError("price", `${messageOf(error)} ${t("price.max", { price: money(highest, currency) })}`)
    : error;
}
