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
    return { ...after, lines: now.lines.map((line) => (line === known ? { ...line, ...change } : line)) };
  }
  const isShown = section === undefined || (event.seat?.section ?? "") === section;
  const last = now.lines.at(-1);
  const isOnPage = now.next === undefined || (last !== undefined && event.price < last.price);
  if (isGone || !isShown || !isOnPage) {
    return after;
  }
  const line: Line = { id: event.ticketId, price: event.price, currency: event.currency, place: event.seat, fresh: true };
  const at = now.lines.findIndex(({ price }) => price > line.price);
  return { ...after, lines: now.lines.toSpliced(at < 0 ? now.lines.length : at, 0, line) };
}

/** The tickets after a ticket turned out to be gone. */
export function mark(now: Tickets, id: string, gone: Gone): Tickets {
  return { ...now, lines: now.lines.map((line) => (line.id === id ? { ...line, gone } : line)) };
}
