// An order and its payment, kept as they are at the server: read again when something may have changed, until nothing can change any more.
import { useEffect, useRef, useState } from "preact/hooks";

import { api, Problem, type Schemas } from "../lib/api.ts";
import { serverNow } from "../lib/clock.ts";

export type Order = Schemas["Order"];
export type Payment = Schemas["Payment"];

export interface OrderState {
  order?: Order;
  /** undefined also while it is not known whether there is one; see `paymentKnown`. */
  payment?: Payment | undefined;
  paymentKnown: boolean;
  /** Why the order cannot be shown at all. */
  error?: unknown;
  /** The server does not answer. What is shown may be old. */
  disconnected: boolean;
  /** How often in a row nothing has changed. */
  unchanged: number;
}

export interface LiveOrder extends OrderState {
  /** Reads again at once. */
  refresh: () => void;
}

const never = 2 ** 31 - 1;

/** For how many milliseconds the state needs not be read again. */
function pauseAfter({ order, payment, unchanged }: OrderState, returned: boolean): number {
  const growing = (first: number, longest: number): number => Math.min(longest, first * 1.5 ** unchanged);
  if (!order) {
    return growing(500, 10_000);
  }
  if (order.status !== "created") {
    return payment?.status === "authorized" && unchanged < 8 ? growing(1000, 10_000) : never;
  }
  if (Date.parse(order.expiresAt) <= serverNow()) {
    return growing(400, 5000);
  }
  switch (payment?.status) {
    case "authorized":
    case "pending":
      return growing(400, 5000);
    case "requires_action":
      return returned ? growing(600, 3000) : 5000;
    default:
      return document.hidden ? 60_000 : 15_000; // it may be cancelled, or paid, on another device
  }
}

/** How long to wait after a failure. A failure that no wait mends has none. */
function pauseAfterFailure(error: unknown, failures: number): number | undefined {
  if (error instanceof Problem) {
    return error.status === 429 || error.status === 503 ? Math.max(1, error.retryAfter ?? 1) * 1000 : undefined;
  }
  return Math.min(10_000, 500 * 2 ** failures);
}

/** Follows an order. `returned`: the buyer comes back from the bank just now. */
export function useOrder(id: string, returned: boolean): LiveOrder {
  const [state, setState] = useState<OrderState>({ paymentKnown: false, disconnected: false, unchanged: 0 });
  const wake = useRef<() => void>(() => undefined);

  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    let current = state;
    let woken = false;
    let endPause = (): void => undefined;

    const update = (change: Partial<OrderState>): void => {
      if (!signal.aborted) {
        current = { ...current, ...change };
        setState(current);
      }
    };
    const readOrder = async (): Promise<boolean> => {
      const { data } = await api.GET("/api/orders/{orderId}", { params: { path: { orderId: id } }, signal });
      const changed = data.version !== current.order?.version;
      update({ order: data, disconnected: false });
      return changed;
    };
    const readPayment = async (): Promise<boolean> => {
      const { data } = await api.GET("/api/payments", { params: { query: { orderId: id } }, signal });
      const [read] = data;
      // The address of the bank's page is there if Stripe was asked; it is that of the payment's version.
      const known = current.payment?.updatedAt === read?.updatedAt ? current.payment?.redirectUrl : undefined;
      const payment = read && known !== undefined ? { redirectUrl: known, ...read } : read;
      const changed = payment?.status !== current.payment?.status || payment?.updatedAt !== current.payment?.updatedAt;
      update({ payment, paymentKnown: true, disconnected: false });
      return changed;
    };
    const follow = async (): Promise<void> => {
      let failures = 0;
      while (!signal.aborted) {
        let pause: number;
        try {
          const changed = [await readOrder(), await readPayment()].includes(true);
          if (changed && current.payment?.status === "authorized") {
            await readOrder(); // what the payment has caused since the first read
          }
          failures = 0;
          update({ unchanged: changed ? 0 : current.unchanged + 1 });
          pause = pauseAfter(current, returned);
        } catch (error) {
          const wait = pauseAfterFailure(error, failures++);
          if (wait === undefined) {
            if (!current.order) {
              update({ error });
              return;
            }
            pause = 15_000;
          } else {
            // A server that is busy for a moment is no news for the reader.
            update({ disconnected: failures >= (navigator.onLine && error instanceof Problem ? 4 : 1) });
            pause = wait;
          }
        }
        if (woken) {
          woken = false;
          continue;
        }
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, pause);
          endPause = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        woken = false;
      }
    };

    wake.current = () => {
      woken = true;
      update({ unchanged: 0 });
      endPause();
    };
    const wakeUp = (): void => {
      if (!document.hidden) {
        wake.current();
      }
    };
    const lost = (): void => {
      update({ disconnected: true });
    };
    addEventListener("online", wakeUp);
    addEventListener("offline", lost);
    addEventListener("pageshow", wakeUp);
    document.addEventListener("visibilitychange", wakeUp);
    void follow();
    return () => {
      controller.abort();
      endPause();
      removeEventListener("online", wakeUp);
      removeEventListener("offline", lost);
      removeEventListener("pageshow", wakeUp);
      document.removeEventListener("visibilitychange", wakeUp);
    };
  }, [id]);

  return {
    ...state,
    refresh: () => {
      wake.current();
    },
  };
}
