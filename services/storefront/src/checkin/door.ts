// Checks codes in, and reports what became of each.
import { api, Problem, retry, type Schemas } from "../lib/api.ts";

/** What became of a code. */
export type Outcome = "admitted" | "used" | "void" | "wrong" | "invalid" | "failed";

export interface Result {
  outcome: Outcome;
  code: string;
  /** Counts the results of this page. */
  number: number;
  /** When it was checked. */
  at: Date;
  /** Who comes in: the title and the place of the ticket. */
  title?: string;
  seat?: Schemas["Place"];
  /** When the pass was used, of `admitted` and `used`. */
  usedAt?: string;
  /** The answer to a code that was not admitted. */
  error?: unknown;
}

const outcomes: Partial<Record<string, Outcome>> = {
  already_used: "used",
  pass_void: "void",
  wrong_show: "wrong",
  pass_invalid: "invalid",
};

/** How long a check is repeated while there is no connection, in milliseconds: people wait at the door. */
const patience = 6_000;

/**
 * Checks the passes of one show. A code has the same `Idempotency-Key` until its check has an answer: if the answer that admitted it
 * was lost, the next check of the code admits it, and does not refuse it as used. A code that is being checked is not checked once more: two
 * people with the same code would both get the answer that admits one.
 */
export class Door {
  readonly #showId: string;
  readonly #keys = new Map<string, string>();
  readonly #checking = new Set<string>();
  #checks = 0;

  constructor(showId: string) {
    this.#showId = showId;
  }

  /** The result; `undefined` if the code is being checked already. */
  async check(code: string): Promise<Result | undefined> {
    if (this.#checking.has(code)) {
      return undefined;
    }
    this.#checking.add(code);
    try {
      return await this.#check(code);
    } finally {
      this.#checking.delete(code);
    }
  }

  async #check(code: string): Promise<Result> {
    const result = { code, number: this.#checks++ };
    const key = this.#keys.get(code) ?? crypto.randomUUID();
    this.#keys.set(code, key);
    try {
      const { data } = await retry(
        () =>
          api.POST("/api/shows/{showId}/checkins", {
            params: { path: { showId: this.#showId }, header: { "Idempotency-Key": key } },
            body: { code },
          }),
        { within: patience },
      );
      this.#keys.delete(code);
      return {
        ...result,
        outcome: "admitted",
        at: new Date(),
        title: data.title,
        ...(data.seat && { seat: data.seat }),
        usedAt: data.usedAt,
      };
    } catch (error) {
      const outcome = error instanceof Problem && error.code !== undefined ? outcomes[error.code] : undefined;
      if (!(error instanceof Problem) || error.status >= 500) {
        return { ...result, outcome: "failed", at: new Date(), error };
      }
      this.#keys.delete(code);
      const { usedAt } = error.members;
      return {
        ...result,
        outcome: outcome ?? "failed",
        at: new Date(),
        ...(typeof usedAt === "string" && { usedAt }),
        error,
      };
    }
  }
}

/** How many passes this tab has admitted and refused at a show. A reload keeps it. */
export interface Tally {
  admitted: number;
  refused: number;
}

const storageKey = (showId: string): string => `checkin:${showId}`;

export function loadTally(showId: string): Tally {
  try {
    const stored = JSON.parse(sessionStorage.getItem(storageKey(showId)) ?? "null") as Partial<Tally> | null;
    return { admitted: stored?.admitted ?? 0, refused: stored?.refused ?? 0 };
  } catch {
    return { admitted: 0, refused: 0 };
  }
}

export function saveTally(showId: string, tally: Tally): void {
  try {
    sessionStorage.setItem(storageKey(showId), JSON.stringify(tally));
  } catch {
    // The browser stores nothing for this site.
  }
}
