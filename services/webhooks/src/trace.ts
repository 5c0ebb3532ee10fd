// W3C trace context: read from requests and events, written into logs, and sent to the sidecar. It is not sent to endpoints.
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";

export interface Trace {
  traceId: string;
  /** The header's value. */
  parent: string;
}

const traces = new AsyncLocalStorage<Trace>();

/** The trace of the request or event that is being handled. */
export function currentTrace(): Trace | undefined {
  return traces.getStore();
}

/** Does work with a trace. */
export function withTrace<T>(trace: Trace, work: () => T): T {
  return traces.run(trace, work);
}

/** Reads a traceparent. Without a valid one it begins a trace, which is not marked as sampled. */
export function traceOf(parent: unknown): Trace {
  if (typeof parent === "string") {
    const parts = /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(parent);
    const [, traceId = "", spanId = ""] = parts ?? [];
    if (parts && !/^0+$/.test(traceId) && !/^0+$/.test(spanId)) {
      return { traceId, parent };
    }
  }
  const traceId = randomBytes(16).toString("hex");
  return { traceId, parent: `00-${traceId}-${randomBytes(8).toString("hex")}-00` };
}
