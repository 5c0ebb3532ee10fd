// The list of a show's tickets, and what becomes of it with each change.
import type { Schemas } from "@boxoffice/client";

export type Gone = "reserved" | "sold" | "withdrawn";

export interface Line {
  id: string;
  price: number;
  currency: string;
  faceValue?: number | undefined;
  place: Schemas["Place"] | undefined;
  /** Why it cannot be reserved now; it keeps its line, so that nothing moves below the pointer. */
  gone?: Gone | undefined;
  /** It came while the page was open. */
  fresh?: boolean;
  /** The reader sells it. */
  own?: boolean;
}

/** A row of the list: a ticket with a number, or all tickets of one section and price that have none. The server makes the same (show.go). */
export interface Offer {
  key: string;
  /** They are alike for a buyer. The first one stands for all. */
  lines: [Line, ...Line[]];
  /** Those that can be reserved by somebody. */
  free: Line[];
  /** There may be more of them on the next page. */
  more: boolean;
}

export function offersOf({ lines, next }: Pick<Tickets, "lines" | "next">): Offer[] {
  const offers = new Map<string, Offer>();
  for (const line of lines) {
    const { section, row, number } = line.place ?? {};
    const faceValue = line.faceValue === line.price ? undefined : line.faceValue;
    const key = number ? line.id : JSON.stringify([section ?? "", row ?? "", line.price, line.currency, faceValue]);
    const offer = offers.get(key);
    if (offer) {
      offer.lines.push(line);
    } else {
      offers.set(key, { key, lines: [line], free: [], more: false });
    }
  }
  const all = [...offers.values()];
  for (const offer of all) {
    offer.free = offer.lines.filter(({ gone }) => gone === undefined);
    offer.more = next !== undefined && offer.lines.length > 1 && offer.lines.at(-1) === lines.at(-1);
  }
  return all;
}

/** The lines by price, and those of one price by their places. */
export function sorted(lines: readonly Line[]): Line[] {
  return lines.toSorted(compare);
}

function compare(a: Line, b: Line): number {
  const labels = ["section", "row", "number"] as const;
  const label = labels.find((name) => padded(a.place?.[name]) !== padded(b.place?.[name]));
  if (a.price !== b.price || label === undefined) {
    return a.price - b.price;
  }
  return padded(a.place?.[label]) < padded(b.place?.[label]) ? -1 : 1;
}

/** For the order of rows and numbers: 9 is before 10. */
function padded(label = ""): string {
  return /^\d+$/.test(label) ? label.padStart(50, "0") : label;
}

export interface Tickets {
  lines: Line[];
  left: number;
  sections: readonly Schemas["SectionLeft"][];
  next: string | undefined;
  /** From which the live stream goes on. */
  position: string | undefined;
}

/**
 * The tickets after a change. An event may come twice, so its values are taken as they are. With a section, only its tickets are listed.
 */
export function apply(now: Tickets, event: Schemas["LiveListing"], section: string | undefined): Tickets {
  const known = now.lines.find((line) => line.id === event.ticketId);
  const after = { ...now, left: event.left };
  const isGone = event.change === "reserved" || event.change === "sold" || event.change === "withdrawn";
  if (known) {
    const change = { price: event.price, currency: event.currency, gone: isGone ? (event.change as Gone) : undefined };
    const changed = { ...known, ...change };
    if (known.place?.number || known.price === event.price) {
      return { ...after, lines: now.lines.map((line) => (line === known ? changed : line)) };
    }
    // It moves from its row, which stays where it is, to that of its new price.
    return { ...after, lines: sorted([...now.lines.filter((line) => line !== known), changed]) };
  }
  const isShown = section === undefined || (event.seat?.section ?? "") === section;
  const last = now.lines.at(-1);
  const isOnPage = now.next === undefined || (last !== undefined && event.price < last.price);
  if (isGone || !isShown || !isOnPage) {
    return after;
  }
  const line: Line = { id: event.ticketId, price: event.price, currency: event.currency, place: event.seat, fresh: true };
  const at = now.lines.findIndex((other) => compare(other, line) > 0);
  return { ...after, lines: now.lines.toSpliced(at < 0 ? now.lines.length : at, 0, line) };
}

/** The tickets after a ticket turned out to be gone, or the reader's own. */
export function mark(now: Tickets, id: string, found: Pick<Line, "gone" | "own">): Tickets {
  return { ...now, lines: now.lines.map((line) => (line.id === id ? { ...line, ...found } : line)) };
}
