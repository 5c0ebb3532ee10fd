// The attempts of this process. Each endpoint has a queue and a bound of attempts at the same time, so that a slow receiver delays
// nobody else; one that is failing gets one attempt at a time. A delivery that waits too long is dropped here: its lease ends, and it
// is attempted later.
import { setTimeout as pause } from "node:timers/promises";
import type { Deliverer } from "./deliverer.ts";
import { isSuccess, latestBegin, type Delivery } from "./delivery.ts";
import { secretsOf } from "./endpoint.ts";
import { textOfError, type Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { signedHeaders } from "./signature.ts";
import type { Store } from "./store.ts";

export const bounds = {
  /** Attempts at the same time, to one endpoint and to all. */
  perEndpoint: 8,
  inFlight: 512,
  /** Deliveries that wait, for one endpoint and for all. */
  waitingPerEndpoint: 1000,
  waiting: 10_000,
};

interface Queue {
  waiting: Delivery[];
  running: number;
  failing: boolean;
}

export class Dispatcher {
  private readonly store: Pick<Store, "account" | "record" | "abandon">;
  private readonly deliverer: Pick<Deliverer, "attempt">;
  private readonly metrics: Metrics;
  private readonly log: Log;
  private readonly queues = new Map<string, Queue>();
  /** Endpoints with deliveries that wait for the bound of all attempts. */
  private readonly blocked = new Set<string>();
  private waiting = 0;
  private inFlight = 0;
  private stopped = false;
  private idle: (() => void) | undefined;

  constructor(
    store: Pick<Store, "account" | "record" | "abandon">,
    deliverer: Pick<Deliverer, "attempt">,
    metrics: Metrics,
    log: Log,
  ) {
    this.store = store;
    this.deliverer = deliverer;
    this.metrics = metrics;
    this.log = log;
  }

  /** Whether one more delivery to an endpoint may wait. */
  hasRoom(endpointId: string): boolean {
    const queue = this.queues.get(endpointId);
    return !this.stopped && this.waiting < bounds.waiting && (queue?.waiting.length ?? 0) < bounds.waitingPerEndpoint;
  }

  /** Makes the attempt of a delivery that this process has taken. Without room it is dropped, until its lease ends. */
  begin(delivery: Delivery): void {
    if (!this.hasRoom(delivery.endpointId)) {
      return;
    }
    let queue = this.queues.get(delivery.endpointId);
    if (!queue) {
      queue = { waiting: [], running: 0, failing: false };
      this.queues.set(delivery.endpointId, queue);
    }
    queue.waiting.push(delivery);
    this.waiting++;
    this.next(delivery.endpointId, queue);
  }

  /**
   * Ends when the running attempts have ended, or after so many milliseconds: then their leases end, and they are repeated. Those that
   * wait are not begun.
   */
  async stop(longest: number): Promise<void> {
    this.stopped = true;
    if (this.inFlight > 0) {
      const idle = new Promise<void>((resolve) => (this.idle = resolve));
      await Promise.race([idle, pause(longest, undefined, { ref: false })]);
    }
  }

  private next(endpointId: string, queue: Queue): void {
    while (!this.stopped && queue.waiting.length > 0 && queue.running < (queue.failing ? 1 : bounds.perEndpoint)) {
      if (this.inFlight >= bounds.inFlight) {
        this.blocked.add(endpointId);
        break;
      }
      const delivery = queue.waiting.shift();
      this.waiting--;
      if (delivery && Date.now() <= latestBegin(delivery)) {
        queue.running++;
        this.inFlight++;
        void this.run(delivery, queue);
      }
    }
    this.metrics.waiting.set(this.waiting);
    this.metrics.inFlight.set(this.inFlight);
    if (queue.running === 0 && queue.waiting.length === 0 && !queue.failing) {
      this.queues.delete(endpointId);
    }
  }

  private async run(delivery: Delivery, queue: Queue): Promise<void> {
    try {
      queue.failing = !(await this.attempt(delivery));
    } catch (error) {
      // The lease ends, and the delivery is attempted again.
      this.log.warn("an attempt could not be recorded", { delivery: delivery.id, endpointId: delivery.endpointId, error });
    }
    queue.running--;
    this.inFlight--;
    this.next(delivery.endpointId, queue);
    for (const endpointId of this.blocked) {
      if (this.inFlight >= bounds.inFlight) {
        break;
      }
      this.blocked.delete(endpointId);
      const other = this.queues.get(endpointId);
      if (other) {
        this.next(endpointId, other);
      }
    }
    if (this.inFlight === 0) {
      this.idle?.();
    }
  }

  /** Makes an attempt and records it. It returns whether the endpoint may get more attempts at once. */
  private async attempt(delivery: Delivery): Promise<boolean> {
    const account = await this.store.account(delivery.userId);
    const endpoint = account.endpoints.find((each) => each.id === delivery.endpointId);
    if (endpoint?.status !== "enabled") {
      await this.store.abandon(delivery);
      this.metrics.deliveries.inc({ outcome: "failed" });
      return true;
    }
    const now = new Date();
    const headers = signedHeaders(delivery.id, delivery.body, secretsOf(endpoint, now), now);
    const attempt = await this.deliverer.attempt(endpoint.url, headers, delivery.body);
    if (isSuccess(attempt) && delivery.attempts === 0) {
      this.metrics.latency.observe(Math.max(0, Date.now() - Date.parse(delivery.eventAt)) / 1000);
    }
    const recorded = await this.persistently(() => this.store.record(delivery, attempt));
    const outcome = isSuccess(attempt) ? "delivered" : recorded.status === "failed" ? "failed" : "retry";
    this.metrics.deliveries.inc({ outcome });
    if (this.log.isEnabled("debug")) {
      const { id, endpointId, eventType } = delivery;
      this.log.debug("attempt", {
        delivery: id,
        endpointId,
        type: eventType,
        outcome,
        status: attempt.status,
        error: attempt.error,
      });
    }
    return isSuccess(attempt);
  }

  /** Tries again while the store is away, for as long as the lease lasts. */
  private async persistently<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await work();
      } catch (error) {
        if (tries === 5 || this.stopped) {
          throw new Error(textOfError(error), { cause: error });
        }
        await pause(100 * 2 ** tries);
      }
    }
  }
}
