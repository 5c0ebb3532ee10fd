// Amounts of money as readers write them, in the currency's major unit.
/** The number of digits after the decimal separator of a currency: 2 for `usd`, 0 for `jpy`. */
export function fractionDigits(currency: string): number {
  return new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 2;
}

/**
 * Reads an amount that somebody typed in the currency's major unit, as people of the locale write it, and returns it in the minor
 * unit: "1.234,50 €" of a German is 123450. It takes the other separator too where that is clear ("4.50" is no German group of
 * thousands). It returns undefined for what is not an amount, or has more digits than the currency.
 */
export function parseAmount(text: string, locale: string, currency: string): number | undefined {
  const parts = new Intl.NumberFormat(locale).formatToParts(1_234_567.8);
  const decimal = parts.find((part) => part.type === "decimal")?.value ?? ".";
  const digits = fractionDigits(currency);
  // Signs of currencies, their codes, and spaces and apostrophes that group digits.
  const plain = text.replace(/[\p{Sc}\p{Z}\s'’]/gu, "").replace(new RegExp(`^${currency}|${currency}$`, "i"), "");
  if (!/^\d[\d.,]*$/.test(plain)) {
    return undefined;
  }
  const last = Math.max(plain.lastIndexOf("."), plain.lastIndexOf(","));
  if (last < 0) {
    return toMinor(plain, "", digits);
  }
  const separator = plain.charAt(last);
  const whole = plain.slice(0, last);
  const rest = plain.slice(last + 1);
  const other = separator === "." ? "," : ".";
  const grouped = (value: string, group: string): boolean =>
    new RegExp(`^\\d{1,3}(\\${group}\\d{3})*$`).test(value) || /^\d+$/.test(value);
  const repeated = whole.includes(separator);
  const group = separator !== decimal && rest.length === 3;
  if (repeated || (group && !whole.includes(other))) {
    return grouped(plain, separator) ? toMinor(plain.replaceAll(separator, ""), "", digits) : undefined;
  }
  return grouped(whole, other) ? toMinor(whole.replaceAll(other, ""), rest, digits) : undefined;
}

function toMinor(whole: string, fraction: string, digits: number): number | undefined {
  if (fraction.length > digits) {
    return undefined;
  }
  const amount = Number(whole + fraction.padEnd(digits, "0"));
  return Number.isSafeInteger(amount) ? amount : undefined;
}

/** Writes an amount as somebody would type it in a field: 123450 is "1234,50" in German. */
export function editAmount(minor: number, locale: string, currency: string): string {
  const digits = fractionDigits(currency);
  return new Intl.NumberFormat(locale, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    useGrouping: false,
  }).format(minor / 10 ** digits);
}
