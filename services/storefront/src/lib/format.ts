// Money, numbers and dates in the reader's language. The server writes them in the same forms (format.go), so nothing moves when a script
// replaces what the server wrote.
import { editAmount, parseAmount } from "./amount.ts";
import { language, t } from "./texts.ts";

// Dates in English are those of Great Britain: the day before the month, and 24 hours.
const dates = language === "en" ? "en-GB" : language;

/** An amount of the API, in the currency's minor unit: 4500 and "usd" are "$45.00". */
export function money(amount: number, currency: string): string {
  const format = new Intl.NumberFormat(language, { style: "currency", currency, currencyDisplay: "narrowSymbol" });
  return format.format(amount / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}

/** The minor unit's amount of what a user typed in the major unit, as people of their language write it, or undefined if it is none. */
export function parseMoney(text: string, currency: string): number | undefined {
  return parseAmount(text, language, currency);
}

/** An amount as a user would type it in a field. parseMoney reads it. */
export function editMoney(amount: number, currency: string): string {
  return editAmount(amount, language, currency);
}

export function number(n: number): string {
  return new Intl.NumberFormat(language).format(n);
}

/** "Thu, 24 Dec 2026, 19:30", at the place of the show if its time zone is given. */
export function dateTime(at: string | Date, timeZone?: string): string {
  return format(
    at,
    { weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    timeZone,
  );
}

/** "24 December 2026" */
export function date(at: string | Date, timeZone?: string): string {
  return format(at, { day: "numeric", month: "long", year: "numeric" }, timeZone);
}

/** "19:30" */
export function time(at: string | Date, timeZone?: string): string {
  return format(at, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }, timeZone);
}

function format(at: string | Date, options: Intl.DateTimeFormatOptions, timeZone: string | undefined): string {
  const when = typeof at === "string" ? new Date(at) : at;
  try {
    return new Intl.DateTimeFormat(dates, { ...options, ...(timeZone && { timeZone }) }).format(when);
  } catch {
    return new Intl.DateTimeFormat(dates, options).format(when); // a time zone that this browser does not know
  }
}

/** "14:05", or "1:02:03": what is left, rounded up to whole seconds. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const two = (n: number): string => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${two(minutes)}:${two(seconds % 60)}`;
}

/** "Stalls, row C, seat 12"; "" for a ticket without a place. */
export function placeName(place: { section?: string; row?: string; number?: string } | undefined): string {
  return [place?.section, place?.row && `${t("ui.row")} ${place.row}`, place?.number && `${t("ui.seat")} ${place.number}`]
    .filter(Boolean)
    .join(", ");
}
