// The sidecar's HTTP API: state, publishing and jobs. See the README for why this is not Dapr's SDK.
import { Pool } from "undici";
import { currentTrace } from "./trace.ts";

/** The names of the Dapr components. */
const stateStore = "state";
const pubsub = "pubsub";

/** Bounds one call of the sidecar, in milliseconds. */
const callTime = 5000;

export interface Item {
  key: string;
  /** undefined: there is no such document. */
  value: unknown;
  etag: string | undefined;
}

/** One write of a transaction. With an ETag the document must still have it. With `create` it must not exist yet. */
export type Write =
  | { key: string; value: unknown; ttlSeconds: number | undefined; etag: string | undefined; create: boolean }
  | { key: string; remove: true; etag: string };

/** What the service needs of its sidecar. */
export interface Sidecar {
  get(key: string): Promise<Item>;
  getBulk(keys: string[]): Promise<Item[]>;
  /** Makes all writes or none. It throws a Refusal if the sidecar answered that it did not, and another error if it is not known. */
  transact(writes: Write[]): Promise<void>;
  publish(topic: string, event: string): Promise<void>;
  /** Makes a job that calls this service once. If there is one of this name, nothing changes. */
  schedule(name: string, at: Date): Promise<void>;
  ping(): Promise<void>;
}

/** The sidecar answered with an error. */
export class Refusal extends Error {
  readonly status: number;

  constructor(call: string, status: number, body: string) {
    super(`${call}: the sidecar answers ${status}: ${body.slice(0, 500)}`);
    this.status = status;
  }
}

interface BulkItem {
  key: string;
  data?: unknown;
  etag?: string;
  error?: string;
}

export class Dapr implements Sidecar {
  private readonly pool: Pool;
  private readonly token: string;

  constructor(port: number, token: string) {
    this.pool = new Pool(`http://127.0.0.1:${port}`, { connections: 32, keepAliveTimeout: 30_000 });
    this.token = token;
  }

  async get(key: string): Promise<Item> {
    const { body, etag } = await this.call("GET", `/v1.0/state/${stateStore}/${encodeURIComponent(key)}`);
    return { key, value: body === "" ? undefined : JSON.parse(body), etag: body === "" ? undefined : etag };
  }

  async getBulk(keys: string[]): Promise<Item[]> {
    const { body } = await this.call("POST", `/v1.0/state/${stateStore}/bulk`, JSON.stringify({ keys, parallelism: 16 }));
    return (JSON.parse(body) as BulkItem[]).map(({ key, data, etag, error }) => {
      if (error !== undefined && error !== "") {
        throw new Error(`read ${key}: ${error}`);
      }
      const exists = data !== undefined && data !== null;
      return { key, value: exists ? data : undefined, etag: exists ? etag : undefined };
    });
  }

  async transact(writes: Write[]): Promise<void> {
    const operations = writes.map((write) => {
      if ("remove" in write) {
        const request = { key: write.key, etag: write.etag, options: { concurrency: "first-write" } };
        return { operation: "delete", request };
      }
      const conditional = write.create || write.etag !== undefined;
      return {
        operation: "upsert",
        request: {
          key: write.key,
          value: write.value,
          ...(write.etag === undefined ? {} : { etag: write.etag }),
          ...(conditional ? { options: { concurrency: "first-write" } } : {}),
          ...(write.ttlSeconds === undefined ? {} : { metadata: { ttlInSeconds: String(write.ttlSeconds) } }),
        },
      };
    });
    await this.call("POST", `/v1.0/state/${stateStore}/transaction`, JSON.stringify({ operations }));
  }

  async publish(topic: string, event: string): Promise<void> {
    await this.call("POST", `/v1.0/publish/${pubsub}/${topic}`, event, "application/cloudevents+json");
  }

  async schedule(name: string, at: Date): Promise<void> {
    // Without data the sidecar cannot make the request of the job (Dapr 1.18: "none of the oneof fields is set").
    const job = { dueTime: at.toISOString(), data: {}, failurePolicy: { constant: { interval: "2s", maxRetries: 30 } } };
    try {
      await this.call("POST", `/v1.0/jobs/${name}`, JSON.stringify(job));
    } catch (error) {
      if (!(error instanceof Refusal && error.status === 409)) {
        throw error;
      }
    }
  }

  async ping(): Promise<void> {
    await this.call("GET", "/v1.0/metadata");
  }

  close(): Promise<void> {
    return this.pool.close();
  }

  private async call(method: "GET" | "POST", path: string, body?: string, type = "application/json") {
    const response = await this.pool.request({
      method,
      path,
      body: body ?? null,
      signal: AbortSignal.timeout(callTime),
      headers: {
        ...(body === undefined ? {} : { "content-type": type }),
        ...(this.token === "" ? {} : { "dapr-api-token": this.token }),
        ...(currentTrace() === undefined ? {} : { traceparent: currentTrace()?.parent }),
      },
    });
    const text = await response.body.text();
    if (response.statusCode >= 300) {
      throw new Refusal(`${method} ${path.split("/", 5).join("/")}`, response.statusCode, text);
    }
    const etag = response.headers["etag"];
    return { body: text, etag: typeof etag === "string" ? etag : undefined };
  }
}
