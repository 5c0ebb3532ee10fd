// Reads a seller's text of seat numbers, as 1-12, 14.
/** How many tickets one form lists at once. */
export const mostTickets = 500;

/** Why a text is not a list of numbers. */
export class NumbersError extends Error {
  readonly part: string;
  readonly tooMany: boolean;

  constructor(part: string, tooMany = false) {
    super(part);
    this.part = part;
    this.tooMany = tooMany;
  }
}

/**
 * Reads the numbers of places: "1-12, 14, A1-A3". A range counts up, with the letters and zeros that its ends have in common. A
 * number that occurs twice is there once.
 *
 * @throws {NumbersError} for the first part that is none, or if there are more than `mostTickets`
 */
export function parseNumbers(text: string): string[] {
  const numbers = new Set<string>();
  const add = (number: string): void => {
    numbers.add(number);
    if (numbers.size > mostTickets) {
      throw new NumbersError(number, true);
    }
  };
  for (const part of text.split(/[,;\n]/).map((value) => value.trim())) {
    if (part === "") {
      continue;
    }
    const range = /^(\p{L}*)(\d{1,6})\s*[-–—]\s*(\p{L}*)(\d{1,6})$/u.exec(part);
    if (range) {
      const [, prefix = "", from = "", prefixOfEnd = "", to = ""] = range;
      if (Number(from) > Number(to) || (prefixOfEnd !== "" && prefixOfEnd !== prefix)) {
        throw new NumbersError(part);
      }
      const width = from.startsWith("0") ? from.length : 0;
      for (let number = Number(from); number <= Number(to); number++) {
        add(prefix + String(number).padStart(width, "0"));
      }
    } else if (/[-–—]\s*$|^\s*[-–—]/.test(part) || part.length > 50) {
      throw new NumbersError(part);
    } else {
      add(part);
    }
  }
  return [...numbers];
}
