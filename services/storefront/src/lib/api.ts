// The REST API, by the generated client. Cookies sign the reader in; no script sees a token.
import { createClient, Problem, type Schemas } from "@boxoffice/client";

import { noteServerTime } from "./clock.ts";
import { goToSignIn, maySignedIn, noteSignedIn, refresh } from "./session.ts";
import { t, tn, tValue } from "./texts.ts";

export { nextCursor } from "../../../contracts/typescript/src/paginate.ts";
export { paginate, Problem, retry, watch } from "@boxoffice/client";
export type { LiveEvent, Schemas } from "@boxoffice/client";

export type Order = Schemas["Order"];
export type Payment = Schemas["Payment"];
export type Show = Schemas["Show"];
export type Ticket = Schemas["Ticket"];

/**
 * The API for readers who must be signed in. If their token has expired it is refreshed and the call is repeated; if that fails, they go to the
 * page to sign in, and the call does not return.
 */
export const api = createClient({ baseUrl: location.origin, credentials: "same-origin", fetch: fetchSignedIn });

/** The API for everybody: a 401 is a Problem. Sign-in itself uses it. */
export const publicApi = createClient({ baseUrl: location.origin, credentials: "same-origin", fetch: timedFetch });

async function timedFetch(request: Request): Promise<Response> {
  const sent = performance.now();
  const response = await fetch(request);
  noteServerTime(response, sent, performance.now());
  return response;
}

async function fetchSignedIn(request: Request): Promise<Response> {
  const again = request.clone();
  const response = await timedFetch(request);
  if (response.status !== 401) {
    return response;
  }
  // Without the remembered sign-in a refresh can still succeed: storage may be forbidden or emptied.
  if (await refresh()) {
    const repeated = await timedFetch(again);
    if (repeated.status !== 401) {
      return repeated;
    }
  }
  noteSignedIn(false);
  goToSignIn();
  return new Promise<Response>(() => undefined); // the page ends
}

/** The account that is signed in, or undefined. It refreshes the token if this device has signed in before. */
export async function currentUser(): Promise<{ id: string; email: string } | undefined> {
  const read = async (): Promise<{ id: string; email: string } | undefined> =>
    (await publicApi.GET("/api/users/currentuser")).data.currentUser ?? undefined;
  const user = await read();
  if (user || !maySignedIn() || !(await refresh())) {
    return user;
  }
  return read();
}

/** What went wrong, for the reader: the text of the code in their language, else the server's sentence. */
export function messageOf(error: unknown): string {
  if (error instanceof Problem) {
    const [first] = error.errors;
    const wait = error.retryAfter === undefined ? "" : ` ${tryAfter(error.retryAfter)}`;
    const message = first?.code === undefined ? undefined : tValue(`error.${first.code}`, first.message);
    return (message ?? first?.message ?? t("error.unexpected", { status: error.status })) + wait;
  }
  return t(navigator.onLine ? "error.connection" : "error.offline");
}

function tryAfter(seconds: number): string {
  return seconds < 60 ? t("error.after", { seconds }) : tn("error.afterMinutes", Math.ceil(seconds / 60));
}

/** What is wrong with each field of a form, by the field's name in the API: the text of `error.CODE.FIELD`, if there is one, or `error.CODE`. */
export function fieldErrors(error: unknown): Record<string, string> {
  const found: Record<string, string> = {};
  if (error instanceof Problem) {
    for (const { field, code, message } of error.errors) {
      if (field !== undefined) {
        found[field] ??= code === undefined ? message : tValue(`error.${code}.${field}`, tValue(`error.${code}`, message));
      }
    }
  }
  return found;
}

/** Reports whether the error is a Problem with this code. */
export function hasCode(error: unknown, code: string): error is Problem {
  return error instanceof Problem && error.has(code);
}
