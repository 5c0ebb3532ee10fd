import createFetchClient, { type FetchResponse, type MaybeOptionalInit } from "openapi-fetch";
import type { HttpMethod, MediaType, PathsWithMethod, RequiredKeysOf } from "openapi-typescript-helpers";

import type { paths } from "./generated/api.ts";
import { Problem } from "./problem.ts";

export interface ClientOptions {
  /** Where the gateway is, for example `http://localhost:8080`. */
  baseUrl: string;
  /**
   * The token of `POST /api/users/signup` or `signin`, or a function that returns the token of the moment. Without it, requests
   * are made as nobody, or as the user of the cookies that the browser has.
   */
  token?: string | undefined | (() => string | undefined | Promise<string | undefined>);
  /** How many milliseconds a call may take, to the last byte of the answer. The default is 30 seconds. */
  timeout?: number;
  /** In browsers: whether cookies are sent to a gateway of another origin. */
  credentials?: RequestCredentials;
  /** In the place of the global `fetch`. */
  fetch?: (request: Request) => Promise<Response>;
}

/** An answer of success. */
export interface Answer<Data> {
  data: Data;
  /** With the headers: `ETag`, `Location`, `Link`, `Idempotent-Replayed`. The body was read. */
  response: Response;
}

type Operation<Path extends keyof paths, Method extends HttpMethod> = paths[Path][Method & keyof paths[Path]];

/**
 * Calls an operation: `api.POST("/api/orders", { body: { ticketId } })`. Path, parameters, body and answer have the types of the
 * OpenAPI document.
 *
 * @throws {Problem} if the answer is not one of success
 * @throws {TypeError} if there is no connection: whether the request was done is not known
 * @throws {DOMException} named `TimeoutError`, after `timeout`: whether the request was done is not known
 */
export type Call<Method extends HttpMethod> = <
  Path extends PathsWithMethod<paths, Method>,
  Init extends MaybeOptionalInit<paths[Path], Method & keyof paths[Path]>,
>(
  path: Path,
  ...init: RequiredKeysOf<Init> extends never ? [Init?] : [Init]
) => Promise<Answer<DataOf<Operation<Path, Method>, Init>>>;

/** The data of an answer in a form. */
type DataIn<Op, Init, Media extends MediaType> = Extract<
  FetchResponse<Op & Record<string | number, unknown>, Init, Media>,
  { data: unknown }
>["data"];

/** The data of an answer: the JSON, if there is one among its forms. To get another form, send `Accept` and `parseAs`. */
type DataOf<Op, Init> = [DataIn<Op, Init, "application/json">] extends [never]
  ? DataIn<Op, Init, MediaType>
  : DataIn<Op, Init, "application/json">;

/** A client of the REST API. */
export interface Client {
  GET: Call<"get">;
  POST: Call<"post">;
  PUT: Call<"put">;
  DELETE: Call<"delete">;
}

/** Makes a client. It holds no connection and needs no end. */
export function createClient(options: ClientOptions): Client {
  const { baseUrl, token, timeout = 30_000, credentials, fetch } = options;
  const client = createFetchClient<paths>({ baseUrl, ...(credentials && { credentials }), ...(fetch && { fetch }) });
  client.use({
    async onRequest({ request }) {
      const current = typeof token === "function" ? await token() : token;
      if (current !== undefined && !request.headers.has("Authorization")) {
        request.headers.set("Authorization", `Bearer ${current}`);
      }
    },
    async onResponse({ response }) {
      if (!response.ok) {
        throw await Problem.from(response);
      }
    },
  });
  // With the types of an operation the calls below are those of openapi-fetch, whose answers of success alone are returned.
  const request = client.request as (method: string, path: string, init: RequestInit) => Promise<unknown>;
  const call =
    (method: HttpMethod) =>
    (path: string, init: RequestInit = {}) =>
      withTimeout(timeout, init.signal, (signal) => request(method, path, { ...init, signal }));
  return { GET: call("get"), POST: call("post"), PUT: call("put"), DELETE: call("delete") } as Client;
}

/** Runs something with a signal that is given after a time, or together with another signal. */
async function withTimeout<Result>(
  milliseconds: number,
  other: AbortSignal | null | undefined,
  run: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController();
  const forward = (): void => {
    controller.abort(other?.reason);
  };
  if (other?.aborted) {
    forward();
  }
  other?.addEventListener("abort", forward);
  const timer = setTimeout(() => {
    controller.abort(new DOMException(`There was no whole answer within ${milliseconds} ms.`, "TimeoutError"));
  }, milliseconds);
  try {
    return await run(controller.signal);
  } finally {
    clearTimeout(timer);
    other?.removeEventListener("abort", forward);
  }
}
