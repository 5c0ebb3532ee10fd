// Listings by their show.
import type { Ticket } from "../lib/api.ts";

/** Listings of one show, or of none. */
export interface Group {
  showId: string | undefined;
  tickets: Ticket[];
}

const { compare } = new Intl.Collator(undefined, { numeric: true });

/** The listings of each show, in the order in which the shows first occur, and those of a show by their place: seat 2 before seat 10. */
export function byShow(tickets: readonly Ticket[]): Group[] {
  const groups = new Map<string | undefined, Ticket[]>();
  for (const ticket of tickets) {
    groups.set(ticket.showId, [...(groups.get(ticket.showId) ?? []), ticket]);
  }
  return [...groups].map(([showId, of]) => ({ showId, tickets: showId === undefined ? of : of.sort(byPlace) }));
}

function byPlace({ seat: a }: Ticket, { seat: b }: Ticket): number {
  return (
    compare(a?.section ?? "", b?.section ?? "") ||
    compare(a?.row ?? "", b?.row ?? "") ||
    compare(a?.number ?? "", b?.number ?? "")
  );
}
