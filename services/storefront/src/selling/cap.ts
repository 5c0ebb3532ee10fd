import { hasCode, messageOf } from "../lib/api.ts";
import { money } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { FieldError } from "../ui/form.ts";

/** Makes of a price above the cap of a show an error that names the highest price. It returns any other error as it is. */
export function nameCap(error: unknown, currency: string): unknown {
  const highest = hasCode(error, "price_above_cap") ? error.members["maxPrice"] : undefined;
  return typeof highest === "number"
    ? new FieldError("price", `${messageOf(error)} ${t("price.max", { price: money(highest, currency) })}`)
    : error;
}
