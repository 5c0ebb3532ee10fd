// The texts of the page, in the reader's language. texts/en.json has all keys; the bundle of another language has its file instead.
import texts from "texts";

export type TextKey = keyof typeof texts;
/** Keys of texts that have a form for one and for several: "show.left" for "show.left.one" and "show.left.other". */
export type PluralKey = TextKey extends infer Key ? (Key extends `${infer Base}.one` ? Base : never) : never;
type Values = Readonly<Record<string, string | number>>;

/** The language of the page: "en" or "de". */
export const language = document.documentElement.lang;

const rules = new Intl.PluralRules(language);

/** The text of a key, with `{name}` replaced by the value of that name. */
export function t(key: TextKey, values: Values = {}): string {
  return fill(texts[key], values);
}

/** The text of a key for a number, which stands in the text as `{n}`. */
export function tn(key: PluralKey, n: number, values: Values = {}): string {
  const form = rules.select(n) === "one" ? "one" : "other";
  return fill((texts as Record<string, string>)[`${key}.${form}`] ?? key, {
    n: new Intl.NumberFormat(language).format(n),
    ...values,
  });
}

/** The text of a key that is made of a value of the API, such as `category.${show.category}`; without such a text, `otherwise`. */
export function tValue(key: string, otherwise: string): string {
  return (texts as Record<string, string>)[key] ?? otherwise;
}

function fill(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}
