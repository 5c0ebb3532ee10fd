// Documents with conditional changes. A decision names the documents that it depends on, gets them as they are, and changes them.
// Decisions that arrive while a transaction is under way share the next one: one bulk read, one transaction. If a document was
// changed meanwhile, by another replica, they are made again.
import { setTimeout as pause } from "node:timers/promises";
import { Refusal, type Item, type Sidecar, type Write } from "./dapr.ts";
import { Problem, unavailable } from "./problem.ts";

/** A document that exists once the service has started. Every bulk read reads it, too (see readBulk). */
export const anchor = "registry";

/** Bounds the decisions that share a transaction. */
const maxGroup = 64;
/** Bounds the keys of one bulk read. */
const maxKeys = 512;
/** How long a decision waits for those before it, in milliseconds. While the store is slow, the queue does not grow without end. */
const longestWait = 10_000;
/** Bounds the tries after conflicts, which take about a second in all. */
const maxTries = 32;

/** The documents of one decision. */
export interface Documents {
  /** The document under one of the decision's keys. It must not be changed in place. */
  get<T>(key: string): T | undefined;
  put(key: string, value: object, ttlSeconds?: number): void;
  remove(key: string): void;
  /** Writes a document that the decision has not read, whatever it was before. */
  overwrite(key: string, value: object, ttlSeconds?: number): void;
}

interface Change {
  value: object | undefined;
  ttlSeconds: number | undefined;
  blind: boolean;
}

interface Decision {
  since: number;
  keys: string[];
  decide: (documents: Documents) => unknown;
  resolve: (answer: never) => void;
  reject: (error: unknown) => void;
}

class Conflict extends Error {}

export class DocumentStore {
  private readonly sidecar: Sidecar;
  private readonly waiting: Decision[] = [];
  private running = false;

  constructor(sidecar: Sidecar) {
    this.sidecar = sidecar;
  }

  /** Makes sure that a document exists. */
  async ensure(key: string, value: object): Promise<void> {
    const item = await this.single(key);
    if (item.value !== undefined) {
      return;
    }
    try {
      await this.sidecar.transact([{ key, value, ttlSeconds: undefined, etag: undefined, create: true }]);
    } catch (error) {
      if ((await this.single(key)).value === undefined) {
        throw unavailable(error);
      }
    }
  }

  /** Reads documents. */
  async read(keys: string[]): Promise<Map<string, unknown>> {
    const items = await this.readItems(keys);
    return new Map([...items].map(([key, item]) => [key, item.value]));
  }

  async readOne<T>(key: string): Promise<T | undefined> {
    return (await this.single(key)).value as T | undefined;
  }

  /**
   * Makes a decision and commits it. decide must have no other effects, because it is called again after a conflict. What it throws
   * is thrown, and none of its changes are committed.
   */
  decide<T>(keys: string[], decide: (documents: Documents) => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.waiting.push({ since: Date.now(), keys, decide, resolve, reject });
      if (!this.running) {
        this.running = true;
        setImmediate(() => void this.run());
      }
    });
  }

  private async run(): Promise<void> {
    for (;;) {
      const group = this.waiting.splice(0, maxGroup);
      if (group.length === 0) {
        this.running = false;
        return;
      }
      const late = group.filter((decision) => Date.now() - decision.since > longestWait);
      for (const decision of late) {
        decision.reject(unavailable(new Error("too many changes wait for the store")));
      }
      if (late.length < group.length) {
        await this.commit(group.filter((decision) => !late.includes(decision)));
      }
    }
  }

  private async commit(group: Decision[]): Promise<void> {
    const keys = [...new Set(group.flatMap((decision) => decision.keys))];
    for (let tries = 1; ; tries++) {
      try {
        const items = await this.readItems(keys);
        const { changes, answers } = make(group, items);
        await this.write(changes, items);
        group.forEach((decision, i) => {
          const answer = answers[i];
          if (answer && "error" in answer) {
            decision.reject(answer.error);
          } else {
            decision.resolve(answer?.value as never);
          }
        });
        return;
      } catch (error) {
        if (error instanceof Conflict && tries < maxTries) {
          await pause(Math.random() * Math.min(32, 2 ** tries));
          continue;
        }
        const final = error instanceof Conflict ? tooManyConflicts(error) : error;
        for (const decision of group) {
          decision.reject(final);
        }
        return;
      }
    }
  }

  private async write(changes: Map<string, Change>, items: Map<string, Item>): Promise<void> {
    const writes: Write[] = [];
    for (const [key, change] of changes) {
      const etag = items.get(key)?.etag;
      if (change.value !== undefined) {
        const create = !change.blind && etag === undefined;
        writes.push({ key, value: change.value, ttlSeconds: change.ttlSeconds, etag: change.blind ? undefined : etag, create });
      } else if (etag !== undefined) {
        writes.push({ key, remove: true, etag });
      }
    }
    if (writes.length === 0) {
      return;
    }
    try {
      await this.sidecar.transact(writes);
    } catch (error) {
      await this.resolveFailure(changes, items, error);
    }
  }

  // A conflict comes as an error without a type, and after a lost answer the transaction may have been committed. The documents show
  // which of them it was.
  private async resolveFailure(changes: Map<string, Change>, items: Map<string, Item>, cause: unknown): Promise<void> {
    let now: Map<string, Item>;
    try {
      now = await this.readItems([...changes.keys()]);
    } catch {
      throw cause instanceof Refusal ? unavailable(cause) : outcomeUnknown(cause);
    }
    const entries = [...changes];
    if (entries.every(([key, change]) => canonical(now.get(key)?.value) === canonical(change.value))) {
      return;
    }
    if (entries.some(([key, change]) => !change.blind && now.get(key)?.etag !== items.get(key)?.etag)) {
      throw new Conflict("a document was changed meanwhile", { cause });
    }
    throw cause instanceof Refusal ? unavailable(cause) : outcomeUnknown(cause);
  }

  private async single(key: string): Promise<Item> {
    try {
      return await this.sidecar.get(key);
    } catch (error) {
      throw unavailable(error);
    }
  }

  private async readItems(keys: string[]): Promise<Map<string, Item>> {
    const [first] = keys;
    if (first !== undefined && keys.length === 1) {
      return new Map([[first, await this.single(first)]]);
    }
    const items = new Map<string, Item>();
    for (let from = 0; from < keys.length; from += maxKeys) {
      await this.readBulk(keys.slice(from, from + maxKeys), items);
    }
    return items;
  }

  // Dapr 1.18's stores on PostgreSQL and SQLite answer a bulk read that broke off as if the rest did not exist (see
  // services/internal/state/reader.go). So each one reads the anchor as well, and what is missing is read twice.
  private async readBulk(keys: string[], into: Map<string, Item>): Promise<void> {
    let missing = keys;
    for (let round = 0; round < 2 && missing.length > 0; round++) {
      let found: Item[];
      try {
        found = await this.sidecar.getBulk(missing.includes(anchor) ? missing : [...missing, anchor]);
      } catch (error) {
        throw unavailable(error);
      }
      const byKey = new Map(found.map((item) => [item.key, item]));
      if (byKey.get(anchor)?.value === undefined) {
        throw unavailable(new Error("the store's response was incomplete"));
      }
      for (const key of missing) {
        into.set(key, byKey.get(key) ?? { key, value: undefined, etag: undefined });
      }
      missing = missing.filter((key) => into.get(key)?.value === undefined);
    }
  }
}

type Answer = { value: unknown } | { error: unknown };

/** Makes the decisions of a group one after the other. Each one sees the changes of those before it. */
function make(group: Decision[], items: Map<string, Item>): { changes: Map<string, Change>; answers: Answer[] } {
  const changes = new Map<string, Change>();
  const answers = group.map(({ keys, decide }): Answer => {
    const own = new Map<string, Change>();
    const allowed = new Set(keys);
    const documents: Documents = {
      get: <T>(key: string): T | undefined => {
        if (!allowed.has(key)) {
          throw new Error(`a decision uses ${key}, which it has not named`);
        }
        const change = own.get(key) ?? changes.get(key);
        return (change === undefined ? items.get(key)?.value : change.value) as T | undefined;
      },
      put: (key, value, ttlSeconds) => {
        if (!allowed.has(key)) {
          throw new Error(`a decision changes ${key}, which it has not named`);
        }
        own.set(key, { value, ttlSeconds, blind: false });
      },
      remove: (key) => own.set(key, { value: undefined, ttlSeconds: undefined, blind: false }),
      overwrite: (key, value, ttlSeconds) => own.set(key, { value, ttlSeconds, blind: true }),
    };
    try {
      const value = decide(documents);
      for (const [key, change] of own) {
        changes.set(key, change);
      }
      return { value };
    } catch (error) {
      return { error };
    }
  });
  return { changes, answers };
}

/** JSON with its members in order, to compare documents: the store changes their order. */
function canonical(value: unknown): string | undefined {
  return JSON.stringify(value, (_key, member: unknown) => {
    if (typeof member !== "object" || member === null || Array.isArray(member)) {
      return member;
    }
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function tooManyConflicts(cause: unknown): Problem {
  const message = "Somebody else changed this at the same moment. Read it again, then try again.";
  return new Problem("conflict", { code: "conflict", message }, { cause });
}

function outcomeUnknown(cause: unknown): Problem {
  const message =
    "It is not known whether this has happened. Read what there is, or repeat the request with the same Idempotency-Key.";
  return new Problem("unavailable", { code: "outcome_unknown", message }, { cause });
}
