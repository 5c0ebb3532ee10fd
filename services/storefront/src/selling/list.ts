// Lists many tickets: some requests at a time, each ticket once.
import { api, hasCode, Problem, retry, type Schemas } from "../lib/api.ts";

export type NewTicket = Schemas["NewTicket"];

/** One ticket that is to be listed, and what became of it. */
export interface Listing {
  readonly body: NewTicket;
  /** Of its request: another try does not list it twice. */
  readonly key: string;
  state: "waiting" | "listed" | "failed";
  error?: unknown;
}

/** How many requests are under way at once. */
const parallel = 4;

export function listingsOf(bodies: readonly NewTicket[]): Listing[] {
  return bodies.map((body) => ({ body, key: crypto.randomUUID(), state: "waiting" }));
}

/**
 * Lists all that are not listed yet, some at once, and calls `changed` after each. A place that is listed already does not stop the others. What
 * would refuse all of them does, such as a price above the cap, or a broken connection: they stay `waiting`.
 *
 * @throws what stopped it
 */
export async function listAll(all: readonly Listing[], changed: () => void): Promise<void> {
  const rest = all.filter((listing) => listing.state !== "listed");
  for (const listing of rest) {
    listing.state = "waiting";
    delete listing.error;
  }
  changed();
  const stops: unknown[] = [];
  const work = async (): Promise<void> => {
    for (let listing = rest.shift(); listing !== undefined && stops.length === 0; listing = rest.shift()) {
      const { body, key } = listing;
      try {
        await retry(() => api.POST("/api/tickets", { params: { header: { "Idempotency-Key": key } }, body }));
        listing.state = "listed";
      } catch (error) {
        if (isOfOneTicket(error)) {
          listing.state = "failed";
          listing.error = error;
        } else {
          stops.push(error);
        }
      }
      changed();
    }
  };
  await Promise.all(Array.from({ length: parallel }, work));
  if (stops.length > 0) {
    throw stops[0];
  }
}

function isOfOneTicket(error: unknown): boolean {
  return hasCode(error, "seat_listed") || hasCode(error, "conflict") || (error instanceof Problem && error.status >= 500);
}
