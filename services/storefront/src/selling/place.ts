import { placeName } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import type { Schemas } from "../lib/api.ts";

/** "Stalls, row C, seat 12", or nothing for a ticket without a place. */
export function placeOf(seat: Schemas["Place"] | undefined): string {
  return placeName(seat, { row: t("ui.row"), seat: t("ui.seat") });
}
