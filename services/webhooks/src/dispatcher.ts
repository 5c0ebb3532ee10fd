// The attempts of this process. Each endpoint has a queue and a bound of attempts at the same time, so that a slow receiver delays
// nobody else; one that is failing gets one attempt at a time, and few deliveries wait for it here. A delivery that waits too long is
// dropped here: its lease ends, and it is attempted later. Those that were put off are taken as soon as the endpoint has room again.
import { setTimeout as pause } from "node:timers/promises";
import type { Deliverer } from "./deliverer.ts";
import { isSuccess, latestBegin, type Delivery } from "./delivery.ts";
import { secretsOf } from "./endpoint.ts";
import { textOfError, type Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { signedHeaders } from "./signature.ts";
import type { PutOff, Store } from "./store.ts";

export const bounds = {
  /** Attempts at the same time, to one endpoint and to all. */
  perEndpoint: 8,
  inFlight: 512,
  /** Deliveries that wait, for one endpoint and for all. */
  waitingPerEndpoint: 1000,
  waiting: 10_000,
  /** Deliveries that wait for an endpoint that is failing. Each of them is written every half minute. */
  waitingWhileFailing: 50,
  /** Deliveries that were put off and are remembered, of all endpoints. */
  putOff: 10_000,
};

/** How many deliveries that were put off are taken at once. */
const takenAtOnce = 64;

interface Queue {
  waiting: Delivery[];
  /** What this process has put off, by id. */
  putOff: Map<string, PutOff>;
  taking: boolean;
  running: number;
  failing: boolean;
}

export class Dispatcher {
  private readonly store: Pick<Store, "account" | "record" | "abandon" | "take">;
  private readonly deliverer: Pick<Deliverer, "attempt">;
  private readonly metrics: Metrics;
  private readonly log: Log;
  private readonly queues = new Map<string, Queue>();
  /** Endpoints with deliveries that wait for the bound of all attempts. */
  private readonly blocked = new Set<string>();
  private waiting = 0;
  private putOffs = 0;
  private inFlight = 0;
  private stopped = false;
  private idle: (() => void) | undefined;

  constructor(
    store: Pick<Store, "account" | "record" | "abandon" | "take">,
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
    const most = queue?.failing ? bounds.waitingWhileFailing : bounds.waitingPerEndpoint;
    return !this.stopped && this.waiting < bounds.waiting && (queue?.waiting.length ?? 0) < most;
  }

  /** Makes the attempt of a delivery that this process has taken. Without room it is dropped, until its lease ends. */
  begin(delivery: Delivery): void {
    if (!this.hasRoom(delivery.endpointId)) {
      return;
    }
    let queue = this.queues.get(delivery.endpointId);
    if (!queue) {
      queue = { waiting: [], putOff: new Map(), taking: false, running: 0, failing: false };
      this.queues.set(delivery.endpointId, queue);
    }
    this.forget(queue, delivery.id);
    queue.waiting.push(delivery);
    this.waiting++;
    this.next(delivery.endpointId, queue);
  }

  /** Remembers a delivery that was put off, to take it as soon as there is room. What is not remembered is taken at its time. */
  putOff({ id, endpointId, due, putOff }: PutOff): void {
    const queue = this.queues.get(endpointId);
    if (queue && this.putOffs < bounds.putOff) {
      this.forget(queue, id);
      queue.putOff.set(id, { id, endpointId, ...(due !== undefined && { due }), ...(putOff !== undefined && { putOff }) });
      this.putOffs++;
    }
  }

  private forget(queue: Queue, id: string): void {
    if (queue.putOff.delete(id)) {
      this.putOffs--;
    }
  }

  /** Takes some of what was put off. */
  private async take(endpointId: string, queue: Queue): Promise<void> {
    const some = [...queue.putOff.values()].slice(0, takenAtOnce);
    for (const { id } of some) {
      this.forget(queue, id);
    }
    queue.taking = true;
    try {
      await this.store.take(
        some,
        (id) => this.hasRoom(id),
        (delivery) => {
          this.begin(delivery);
        },
      );
    } catch (error) {
      this.log.warn("deliveries that were put off cannot be taken yet; they are taken at their time", { endpointId, error });
    }
    queue.taking = false;
    this.next(endpointId, queue);
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
    if (queue.taking) {
      return;
    }
    if (!this.stopped && !queue.failing && queue.putOff.size > 0 && queue.waiting.length < takenAtOnce) {
      void this.take(endpointId, queue);
    } else if (queue.running === 0 && queue.waiting.length === 0 && queue.putOff.size === 0 && !queue.failing) {
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
