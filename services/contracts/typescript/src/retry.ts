import { Problem } from "./problem.ts";

export interface RetryOptions {
  /** For how many milliseconds calls are repeated. A wait that would end later is not begun. The default is a minute. */
  within?: number;
  /** Ends the waits. Give it to the calls as well. */
  signal?: AbortSignal;
}

const firstPause = 100;
const lastPause = 5_000;

/**
 * Makes a call, and repeats it while the answer is 429 or 503, or while there is no answer. It waits for `Retry-After`, or for a
 * pause that grows. All calls get the same key: give it to them as `Idempotency-Key`, and the request is done once, even if an
 * answer was lost.
 *
 * ```ts
 * const { data: order } = await retry((key) =>
 *   api.POST("/api/orders", { params: { header: { "Idempotency-Key": key } }, body: { ticketId } }),
 * );
 * ```
 *
 * A call without a key is safe to repeat if it is a `GET`, or a `PUT` with the `version` that it replaces.
 *
 * @throws the last error, when repeating does not help or the time is up
 */
export async function retry<Result>(call: (key: string) => Promise<Result>, options: RetryOptions = {}): Promise<Result> {
  const { within = 60_000, signal } = options;
  const key = crypto.randomUUID();
  const end = Date.now() + within;
  for (let pause = firstPause; ; pause = Math.min(lastPause, pause * 2)) {
    try {
      return await call(key);
    } catch (error) {
      if (signal?.aborted || !mayPass(error)) {
        throw error;
      }
      // Clients that were refused together do not return together.
      const wait = error instanceof Problem && error.retryAfter !== undefined ? error.retryAfter * 1000 : pause;
      const jitter = (Math.random() * pause) / 2;
      if (Date.now() + wait + jitter > end) {
        throw error;
      }
      await sleep(wait + jitter, signal);
    }
  }
}

/** Reports whether the same request may succeed later. */
function mayPass(error: unknown): boolean {
  if (error instanceof Problem) {
    return error.status === 429 || error.status === 503;
  }
  // fetch throws a TypeError if there is no connection, and a TimeoutError at the client's own timeout.
  return error instanceof TypeError || (error instanceof DOMException && error.name === "TimeoutError");
}

export function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
