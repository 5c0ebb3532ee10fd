// The registry: which accounts have endpoints that may get events. Every event of the market passes this service, and most users have
// no endpoint, so the set is kept in memory. The document "registry" has a number for each of the shards, which grows in the same
// transaction as any change of endpoints. It is read once for each bulk of events. So an endpoint that was made at any replica, and
// answered with 201, misses no later event; and only the shards that have changed are read again.
import { createHash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { anchor, type DocumentStore, type Documents } from "./documents.ts";
import { isLive, noAccount, type Account } from "./endpoint.ts";

const shards = 64;
interface Head {
  schema: 1;
  versions: number[];
}

interface Shard {
  schema: 1;
  /** The version of each account with an endpoint that is enabled. */
  accounts: Record<string, number>;
}

export function accountKey(userId: string): string {
  return "account/" + userId;
}

/** The documents that a change of an account may change. */
export function accountKeys(userId: string): string[] {
  return [accountKey(userId), anchor, shardKey(shardOf(userId))];
}

/**
 * Writes an account, and what the registry has of it. An account without endpoints is removed. A change gives the account the new number
 * of its shard as its version: so no version comes again when the last endpoint is removed and another one is made.
 */
export function putAccount(documents: Documents, userId: string, account: Account): void {
  const before = documents.get<Account>(accountKey(userId)) ?? noAccount;
  const n = shardOf(userId);
  const head = documents.get<Head>(anchor) ?? emptyHead();
  const changed = account.version !== before.version;
  const version = changed ? (head.versions[n] ?? 0) + 1 : account.version;
  if (account.endpoints.length === 0) {
    documents.remove(accountKey(userId));
  } else {
    documents.put(accountKey(userId), { ...account, version });
  }
  if (!changed) {
    return;
  }
  const shard = documents.get<Shard>(shardKey(n)) ?? { schema: 1, accounts: {} };
  const { [userId]: _, ...others } = shard.accounts;
  documents.put(shardKey(n), { schema: 1, accounts: isLive(account) ? { ...others, [userId]: version } : others });
  documents.put(anchor, { schema: 1, versions: head.versions.map((each, i) => (i === n ? version : each)) });
}

export class Registry {
  private readonly store: DocumentStore;
  private readonly readPause: number;
  private readonly maxAccounts: number;
  private versions: number[] = emptyHead().versions;
  /** The users of each shard. */
  private readonly shards: string[][] = Array.from({ length: shards }, () => []);
  /** The version of each account, of all shards: to find one needs no hash. */
  private readonly live = new Map<unknown, number>();
  private readonly accounts = new Map<string, Account>();
  private readAt = 0;
  private gathering: Promise<void> | undefined;
  private reading: Promise<void> = Promise.resolve();

  /** readPause is the least time between two reads, in milliseconds. maxAccounts bounds the accounts that are kept in memory. */
  constructor(store: DocumentStore, readPause = 0, maxAccounts = 5000) {
    this.store = store;
    this.readPause = readPause;
    this.maxAccounts = maxAccounts;
  }

  /** Makes the documents that must exist before others. */
  async start(): Promise<void> {
    await this.store.ensure(anchor, emptyHead());
    await this.refresh();
  }

  /**
   * Brings the set up to date with what was committed before this call. At rest it is read at once. Soon after another read it waits,
   * and calls until then share the read: so the sidecar has few bulks of many events, and not many of few.
   */
  refresh(): Promise<void> {
    this.gathering ??= this.gather();
    return this.gathering;
  }

  private async gather(): Promise<void> {
    // One read after the other, so that an older one does not undo a newer one.
    const wait = this.readAt + this.readPause - performance.now();
    await Promise.all([wait > 0 ? pause(wait) : undefined, this.reading.catch(() => undefined)]);
    this.gathering = undefined;
    this.readAt = performance.now();
    this.reading = this.read();
    await this.reading;
  }

  private async read(): Promise<void> {
    const head = await this.store.readOne<Head>(anchor);
    const versions = (head ?? emptyHead()).versions;
    const changed = versions.flatMap((version, n) => (version === this.versions[n] ? [] : [n]));
    if (changed.length === 0) {
      return;
    }
    const found = await this.store.read(changed.map(shardKey));
    for (const n of changed) {
      const shard = found.get(shardKey(n)) as Shard | undefined;
      const accounts = shard?.accounts ?? {};
      this.shards[n]?.forEach((userId) => this.live.delete(userId));
      this.shards[n] = Object.keys(accounts);
      Object.entries(accounts).forEach(([userId, version]) => this.live.set(userId, version));
    }
    this.versions = versions;
  }

  /** Whether a user has an endpoint that may get events, as of the last refresh. */
  has(userId: unknown): boolean {
    return this.live.has(userId);
  }

  /** The accounts of users. Those whose version has not changed are not read again. */
  async accountsOf(userIds: string[]): Promise<Map<string, Account>> {
    // What is returned is kept apart from what is remembered: other calls change that meanwhile.
    const accounts = new Map(userIds.map((id) => [id, this.accounts.get(id) ?? noAccount]));
    const unknown = userIds.filter((id) => accounts.get(id)?.version !== this.live.get(id));
    if (unknown.length > 0) {
      const found = await this.store.read(unknown.map(accountKey));
      for (const id of unknown) {
        const account = (found.get(accountKey(id)) as Account | undefined) ?? noAccount;
        accounts.set(id, account);
        if (this.accounts.size >= this.maxAccounts) {
          this.accounts.clear();
        }
        this.accounts.set(id, account);
      }
    }
    return accounts;
  }

  /** How many accounts the registry has. */
  size(): number {
    return this.live.size;
  }
}

function emptyHead(): Head {
  return { schema: 1, versions: Array.from({ length: shards }, () => 0) };
}

function shardKey(n: number): string {
  return `registry/${n}`;
}

/** The shard of a user. */
function shardOf(userId: string): number {
  return (createHash("sha256").update(userId).digest()[0] ?? 0) % shards;
}
