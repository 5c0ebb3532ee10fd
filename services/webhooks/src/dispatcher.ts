// The attempts of this process. Each endpoint has a queue, and endpoints, accounts and the process have bounds of attempts at the same
// time, so that slow receivers do not delay others; those that wait for a bound take turns. An endpoint that is failing gets one attempt at
// a time, and few deliveries wait for it here. A delivery that waits too long is dropped here: its lease ends, and it is attempted later.
// Those that were put off are taken as soon as the endpoint has room again.
import { setTimeout as pause } from "node:timers/promises";
import type { Deliverer } from "./deliverer.ts";
import { isSuccess, latestBegin, type Delivery } from "./delivery.ts";
import { secretsOf } from "./endpoint.ts";
import { textOfError, type Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { signedHeaders } from "./signature.ts";
import type { PutOff, Store } from "./store.ts";

export const bounds = {
  /** Attempts at the same time, to one endpoint, to all endpoints of an account, and to all. */
  perEndpoint: 8,
  perAccount: 16,
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

/** The attempts that share a bound, and the endpoints with deliveries that wait for it, in the order of their turns. */
interface Share {
  readonly most: () => number;
  running: number;
  blocked: Set<string>;
}

/** The deliveries of an endpoint. */
interface Queue {
  userId: string;
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
  private readonly all = newShare(() => bounds.inFlight);
  /** By user. */
  private readonly accounts = new Map<string, Share>();
  private waiting = 0;
  private putOffs = 0;
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
      queue = { userId: delivery.userId, waiting: [], putOff: new Map(), taking: false, running: 0, failing: false };
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
    if (this.all.running > 0) {
      const idle = new Promise<void>((resolve) => (this.idle = resolve));
      await Promise.race([idle, pause(longest, undefined, { ref: false })]);
    }
  }

  private next(endpointId: string, queue: Queue): void {
    const account = this.accounts.get(queue.userId) ?? newShare(() => bounds.perAccount);
    while (!this.stopped && queue.waiting.length > 0 && queue.running < (queue.failing ? 1 : bounds.perEndpoint)) {
      const full = [account, this.all].find((share) => share.running >= share.most());
      if (full) {
        full.blocked.add(endpointId);
        break;
      }
      const delivery = queue.waiting.shift();
      this.waiting--;
      if (delivery && Date.now() <= latestBegin(delivery)) {
        queue.running++;
        account.running++;
        this.all.running++;
        this.accounts.set(queue.userId, account);
        void this.run(delivery, queue, account);
      }
    }
    this.metrics.waiting.set(this.waiting);
    this.metrics.inFlight.set(this.all.running);
    if (queue.taking) {
      return;
    }
    if (!this.stopped && !queue.failing && queue.putOff.size > 0 && queue.waiting.length < takenAtOnce) {
      void this.take(endpointId, queue);
    } else if (queue.running === 0 && queue.waiting.length === 0 && queue.putOff.size === 0 && !queue.failing) {
      this.queues.delete(endpointId);
    }
  }

  private async run(delivery: Delivery, queue: Queue, account: Share): Promise<void> {
    try {
      queue.failing = !(await this.attempt(delivery));
    } catch (error) {
      // The lease ends, and the delivery is attempted again.
      this.log.warn("an attempt could not be recorded", { delivery: delivery.id, endpointId: delivery.endpointId, error });
    }
    queue.running--;
    account.running--;
    this.all.running--;
    // Those that wait come before this endpoint, and others before those of this account. Otherwise a slow receiver would keep its place.
    this.nextOf(this.all);
    this.nextOf(account);
    this.next(delivery.endpointId, queue);
    if (account.running === 0 && account.blocked.size === 0) {
      this.accounts.delete(queue.userId);
    }
    if (this.all.running === 0) {
      this.idle?.();
    }
  }

  /** Begins attempts to the endpoints that wait for a bound. One that has to wait again is the last. */
  private nextOf(share: Share): void {
    for (const endpointId of share.blocked) {
      if (share.running >= share.most()) {
        break;
      }
      share.blocked.delete(endpointId);
      const queue = this.queues.get(endpointId);
      if (queue) {
        this.next(endpointId, queue);
      }
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

function newShare(most: () => number): Share {
  return { most, running: 0, blocked: new Set() };
}
