import type { components } from "./generated/api.ts";
import { Problem } from "./problem.ts";
import { sleep } from "./retry.ts";

type Schemas = components["schemas"];

/** The data of each event of a stream, by the event's name. */
interface LiveData {
  /** The stream has begun: what happens from now on arrives. */
  ready: Schemas["LiveReady"];
  /** A change of a ticket. */
  listing: Schemas["LiveListing"];
  /** A change of a show. */
  show: Schemas["LiveShow"];
  /** Changes are missing: end this stream, and begin again with the pages of the catalogue. */
  reset: Schemas["LiveReset"];
}

/** An event of a stream. */
export type LiveEvent = {
  [Name in keyof LiveData]: { event: Name; data: LiveData[Name]; /** Where the stream can be continued. */ id: string };
}[keyof LiveData];

export interface WatchOptions {
  /** Where the gateway is, for example `http://localhost:8080`. */
  baseUrl: string;
  /** The `id` of the last event of an earlier stream, or the header `Catalogue-Position` of a page of the catalogue: this stream goes on after it. */
  lastEventId?: string;
  /** Ends the stream. */
  signal?: AbortSignal;
  /** After how many milliseconds without a byte the connection counts as broken. The service sends some every 15 seconds; the default is 40. */
  silence?: number;
  /** In the place of the global `fetch`. */
  fetch?: (request: Request) => Promise<Response>;
}

const longestPause = 30_000;

/**
 * Yields what happens to shows and their tickets, as it happens, until `signal` ends it or the loop does.
 *
 * ```ts
 * const { data: tickets, response } = await client.GET("/api/catalogue/shows/{showId}/tickets", { params: { path: { showId } } });
 * const lastEventId = response.headers.get("Catalogue-Position") ?? undefined;
 * for await (const { event, data } of watch([showId], { baseUrl, lastEventId })) {
 *   if (event === "listing") console.log(`${data.ticketId} is ${data.change}, ${data.left} left`);
 *   if (event === "reset") return beginAgain(); // with the pages
 * }
 * ```
 *
 * If the connection breaks, or the gateway answers 429 or 503, it connects again and goes on after the last event, so nothing is
 * missed; then `ready` comes again. Only if too much was missed does `reset` come.
 *
 * @throws {Problem} if connecting again does not help
 */
export async function* watch(shows: readonly string[], options: WatchOptions): AsyncGenerator<LiveEvent, void, undefined> {
  const { baseUrl, signal, silence = 40_000, fetch = globalThis.fetch } = options;
  const url = `${baseUrl.replace(/\/$/, "")}/api/catalogue/live?${new URLSearchParams(shows.map((show) => ["show", show])).toString()}`;
  const place: Place = { id: options.lastEventId ?? "", retry: 2_000 };
  for (let failures = 0; !signal?.aborted;) {
    const connection = new Connection(silence, signal);
    let wait = place.retry;
    try {
      const headers = { Accept: "text/event-stream", ...(place.id && { "Last-Event-ID": place.id }) };
      const response = await fetch(new Request(url, { headers, signal: connection.signal }));
      if (!response.ok) {
        throw await Problem.from(response);
      }
      for await (const event of eventsOf(connection.chunks(response.body), place)) {
        failures = 0;
        yield event;
      }
    } catch (error) {
      if (signal?.aborted) {
        return;
      }
      if (error instanceof Problem) {
        if (error.status !== 429 && error.status !== 503) {
          throw error;
        }
        wait = (error.retryAfter ?? 0) * 1000;
      } else if (!(error instanceof TypeError) && !connection.broken) {
        throw error; // of the caller's loop
      }
    } finally {
      connection.close();
    }
    const pause = Math.min(longestPause, Math.max(wait, place.retry * 2 ** failures++));
    await sleep(pause * (1 + Math.random() / 4), signal).catch(() => undefined); // clients that broke off together do not return together
  }
}

/** Where a stream is: the id of its last event, and how long to wait before it is continued. */
interface Place {
  id: string;
  retry: number;
}

/** One connection, which ends with a signal or when nothing arrives. */
class Connection {
  broken = false;
  readonly #controller = new AbortController();
  readonly #silence: number;
  readonly #other: AbortSignal | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(silence: number, other: AbortSignal | undefined) {
    this.#silence = silence;
    this.#other = other;
    other?.addEventListener("abort", this.close);
    this.#wait();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  readonly close = (): void => {
    clearTimeout(this.#timer);
    this.#other?.removeEventListener("abort", this.close);
    this.#controller.abort();
  };

  async *chunks(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = body?.getReader();
    const cancel = (): void => void reader?.cancel().catch(() => undefined);
    this.signal.addEventListener("abort", cancel);
    if (this.signal.aborted) {
      cancel();
    }
    try {
      for (let part = await reader?.read(); part?.value; part = await reader?.read()) {
        this.#wait();
        yield part.value;
      }
    } finally {
      cancel();
    }
  }

  #wait(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.broken = true;
      this.#controller.abort();
    }, this.#silence);
  }
}

/** Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), and keeps where they are. */
async function* eventsOf(chunks: AsyncIterable<Uint8Array>, place: Place): AsyncGenerator<LiveEvent, void, undefined> {
  const decoder = new TextDecoder();
  let text = "";
  let event = "";
  let data: string[] = [];
  for await (const chunk of chunks) {
    const lines = (text + decoder.decode(chunk, { stream: true })).split("\n");
    text = lines.pop() ?? "";
    for (const line of lines.map((ended) => ended.replace(/\r$/, ""))) {
      const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
      if (line === "") {
        if (data.length > 0 && isKnown(event)) {
          yield { event, data: JSON.parse(data.join("\n")) as never, id: place.id };
        }
        event = "";
        data = [];
      } else if (field === "event") {
        event = value;
      } else if (field === "data") {
        data.push(value);
      } else if (field === "id") {
        place.id = value;
      } else if (field === "retry" && /^\d+$/.test(value)) {
        place.retry = Number(value);
      }
    }
  }
}

/** Names that are not known are of a later version, and ignored. */
function isKnown(event: string): event is keyof LiveData {
  return ["ready", "listing", "show", "reset"].includes(event);
}
