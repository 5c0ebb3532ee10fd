// The application's error: a kind and details, each with a message for people and a code for programs. rest.ts alone turns kinds
// into statuses.

import type { Code } from "./contract.ts";

/** What the caller can do about a problem. */
export type Kind =
  "internal" | "invalid" | "unauthorized" | "notFound" | "conflict" | "tooLarge" | "unsupportedMedia" | "unavailable";

/** One thing that is wrong. Field is the JSON name of the member it is about, if it is about one. */
export interface Detail {
  message: string;
  field?: string;
  code: Code;
}

export class Problem extends Error {
  readonly kind: Kind;
  readonly details: Detail[];
  /** How long the caller should wait, in seconds. */
  readonly retryAfter: number | undefined;
  /** Members of the response beside the standard ones. */
  readonly members: Record<string, unknown>;

  constructor(
    kind: Kind,
    details: Detail | Detail[],
    more: { retryAfter?: number; cause?: unknown; members?: Record<string, unknown> } = {},
  ) {
    const all = Array.isArray(details) ? details : [details];
    super(`${kind}: ${all.map((detail) => detail.message).join(" ")}`, { cause: more.cause });
    this.kind = kind;
    this.details = all;
    this.retryAfter = more.retryAfter;
    this.members = more.members ?? {};
  }
}

/** The problem of a dependency that does not answer. Nothing was changed. */
export function unavailable(cause?: unknown): Problem {
  return new Problem(
    "unavailable",
    { code: "unavailable", message: "This is not possible at the moment. Nothing was changed. Try again shortly." },
    { cause },
  );
}

/** The problem of a body with another Content-Type than JSON's. */
export function notJson(): Problem {
  const message = "The body must be JSON: send it with the header Content-Type: application/json.";
  return new Problem("unsupportedMedia", { field: "Content-Type", code: "unsupported_media_type", message });
}

/** Whether somebody else changed the same documents in every try. */
export function isConflict(error: unknown): boolean {
  return error instanceof Problem && error.kind === "conflict";
}

/** Whether an error comes from a dependency that cannot be reached now, and not from the input or a defect. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof Problem) {
    return error.kind === "unavailable";
  }
  return error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError");
}
