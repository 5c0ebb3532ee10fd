// W3C trace context: read from requests and events, written into logs, and sent to the sidecar. It is not sent to endpoints.
import { randomBytes } from "node:crypto";

export interface Trace {
  traceId: string;
  /** The header's value. */
  parent: string;
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
