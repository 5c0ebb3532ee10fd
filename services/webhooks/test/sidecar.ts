// A sidecar in memory, for tests: it keeps Dapr's promises about ETags, first-write and transactions.
import { Refusal, type Item, type Sidecar, type Write } from "../src/dapr.ts";

export class MemorySidecar implements Sidecar {
  readonly documents = new Map<string, { text: string; etag: string; ttlSeconds: number | undefined }>();
  readonly jobs = new Map<string, Date>();
  readonly published: { topic: string; event: string }[] = [];
  transactions = 0;
  reads = 0;
  /** Called before each transaction; it may throw, or change documents as another replica would. */
  before: (writes: Write[]) => void = () => undefined;
  /** Called after each transaction; it may throw, as if the answer were lost. */
  after: () => void = () => undefined;
  schedulerAway = false;
  brokerAway = false;
  private counter = 0;

  async get(key: string): Promise<Item> {
    this.reads++;
    await Promise.resolve();
    const found = this.documents.get(key);
    return { key, value: found === undefined ? undefined : JSON.parse(found.text), etag: found?.etag };
  }

  getBulk(keys: string[]): Promise<Item[]> {
    return Promise.all(keys.map((key) => this.get(key)));
  }

  async transact(writes: Write[]): Promise<void> {
    this.transactions++;
    await Promise.resolve();
    this.before(writes);
    for (const write of writes) {
      const found = this.documents.get(write.key);
      const create = "create" in write && write.create;
      if ((create && found) || (write.etag !== undefined && found?.etag !== write.etag)) {
        throw new Refusal("transact", 500, "possible etag mismatch");
      }
    }
    for (const write of writes) {
      if ("remove" in write) {
        this.documents.delete(write.key);
      } else {
        this.set(write.key, write.value, write.ttlSeconds);
      }
    }
    this.after();
  }

  /** Writes a document as another process would. */
  set(key: string, value: unknown, ttlSeconds?: number): void {
    this.documents.set(key, { text: JSON.stringify(value), etag: String(++this.counter), ttlSeconds });
  }

  value<T>(key: string): T | undefined {
    const found = this.documents.get(key);
    return found === undefined ? undefined : (JSON.parse(found.text) as T);
  }

  keys(prefix: string): string[] {
    return [...this.documents.keys()].filter((key) => key.startsWith(prefix));
  }

  async publish(topic: string, event: string): Promise<void> {
    await Promise.resolve();
    if (this.brokerAway) {
      throw new Refusal("publish", 500, "away");
    }
    this.published.push({ topic, event });
  }

  async schedule(name: string, at: Date): Promise<void> {
    await Promise.resolve();
    if (this.schedulerAway) {
      throw new Refusal("schedule", 500, "away");
    }
    this.jobs.set(name, at);
  }

  ping(): Promise<void> {
    return Promise.resolve();
  }
}
