import type { Code } from "./generated/codes.ts";

/** One thing that is wrong with a request. */
export interface ProblemDetail {
  /** A sentence for people. It may be reworded; programs decide by `code`. */
  message: string;
  /** The member of the body, or the parameter, that it is about. */
  field?: string;
  code?: AnyCode;
}

/** A code of the API, or one of Stripe's or of the bank's (https://docs.stripe.com/declines/codes). */
export type AnyCode = Code | (string & {});

/** An answer that is not one of success: `application/problem+json` of RFC 9457. All calls of a client throw it. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly status: number;
  /** The code of the first error. It is absent only if something between the client and the gateway answered. */
  readonly code: AnyCode | undefined;
  readonly errors: readonly ProblemDetail[];
  /** Under which the services logged the request. */
  readonly requestId: string | undefined;
  /** How many seconds to wait before the same request may succeed. */
  readonly retryAfter: number | undefined;
  /** All members of the body, with those that only some problems have, such as `orderId` of `own_reservation`. */
  readonly members: Readonly<Record<string, unknown>>;
  readonly response: Response;

  constructor(response: Response, body: unknown) {
    const members = isRecord(body) ? body : {};
    const errors = Array.isArray(members["errors"]) ? members["errors"].filter(isDetail) : [];
    super(errors.map((error) => error.message).join(" ") || `HTTP ${response.status} without a description`);
    this.status = response.status;
    this.errors = errors;
    this.code = errors[0]?.code;
    this.members = members;
    this.requestId = typeof members["requestId"] === "string" ? members["requestId"] : undefined;
    this.retryAfter = secondsOf(response.headers.get("Retry-After"));
    this.response = response;
  }

  /** Reads the body of an answer that is not one of success. */
  static async from(response: Response): Promise<Problem> {
    const text = await response.text();
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch {
      body = undefined; // a page of a proxy
    }
    return new Problem(response, body);
  }

  /** Reports whether one of the errors has this code. */
  has(code: AnyCode): boolean {
    return this.errors.some((error) => error.code === code);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDetail(value: unknown): value is ProblemDetail {
  return isRecord(value) && typeof value["message"] === "string";
}

/** The API sends seconds. A proxy may send a date. */
function secondsOf(retryAfter: string | null): number | undefined {
  if (retryAfter === null || retryAfter.trim() === "") {
    return undefined;
  }
  const seconds = Number(retryAfter);
  if (Number.isFinite(seconds)) {
    return Math.max(0, seconds);
  }
  const moment = Date.parse(retryAfter);
  return Number.isNaN(moment) ? undefined : Math.max(0, (moment - Date.now()) / 1000);
}
