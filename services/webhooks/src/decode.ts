// Decodes what comes from outside: bodies, versions, paging, keys. Inside, nothing of it is checked again.
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Code } from "./contract.ts";
import { eventTypes, type EventType, type Endpoint, type Settings } from "./endpoint.ts";
import { isId } from "./ids.ts";
import { parseEndpointUrl } from "./network.ts";
import { notJson, Problem, type Detail } from "./problem.ts";
import { pathOf } from "./rest.ts";
import type { IdempotencyKey } from "./store.ts";

const longestDescription = 200;
const defaultLimit = 50;
const maxLimit = 200;
const longestCursor = 256;
const longestKey = 255;

/** What a request asks an endpoint to become. */
export interface EndpointChange {
  settings: Settings;
  status: Endpoint["status"] | undefined;
  version: number | undefined;
}

/** Decodes the body of a request for a new endpoint. It throws a problem with one detail for each wrong member. */
export function decodeNewEndpoint(request: FastifyRequest, allowLoopback: boolean): Settings {
  const body = decodeJson(request);
  const members = new Members();
  return members.checked(settingsOf(members, body, allowLoopback));
}

/** Decodes the body of a request to change an endpoint, as decodeNewEndpoint does. */
export function decodeEndpointChange(request: FastifyRequest, allowLoopback: boolean): EndpointChange {
  const body = decodeJson(request);
  const members = new Members();
  const settings = settingsOf(members, body, allowLoopback);
  const status = members.decode(() => decodeStatus(body["status"]), undefined);
  const version = members.decode(() => decodeVersion(body["version"]), undefined);
  return members.checked({ settings, status, version });
}

function settingsOf(members: Members, body: Record<string, unknown>, allowLoopback: boolean): Settings {
  return {
    url: members.decode(() => decodeUrl(body["url"], allowLoopback), ""),
    events: members.decode(() => decodeEvents(body["events"]), []),
    description: members.decode(() => decodeDescription(body["description"]), undefined),
  };
}

/** Collects what is wrong with the members of a body. */
class Members {
  private readonly details: Detail[] = [];

  /** The decoded member, or the fallback if it is wrong. */
  decode<T>(decode: () => T, fallback: T): T {
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof Problem)) {
        throw error;
      }
      this.details.push(...error.details);
      return fallback;
    }
  }

  /** The decoded body. It throws if a member is wrong. */
  checked<T>(body: T): T {
    if (this.details.length > 0) {
      throw new Problem("invalid", this.details);
    }
    return body;
  }
}

function fault(field: string, code: Code, message: string): Problem {
  return new Problem("invalid", { field, code, message });
}

function decodeUrl(value: unknown, allowLoopback: boolean): string {
  if (value === undefined || value === null || value === "") {
    throw fault("url", "required", "Url is required.");
  }
  if (typeof value !== "string") {
    throw fault("url", "wrong_type", "Url must be a text.");
  }
  return parseEndpointUrl(value, allowLoopback).href;
}

function decodeEvents(value: unknown): EventType[] {
  if (value === undefined || value === null) {
    throw fault("events", "required", "Events is required.");
  }
  if (!Array.isArray(value)) {
    throw fault("events", "wrong_type", "Events must be a list.");
  }
  if (value.length === 0) {
    throw fault("events", "min", `Events must be from 1 to ${eventTypes.length} entries long.`);
  }
  const known = new Set<EventType>();
  for (const each of value as unknown[]) {
    if (typeof each !== "string") {
      throw fault("events", "wrong_type", "Events must be a list of texts.");
    }
    const type = eventTypes.find((name) => name === each);
    if (!type || known.has(type)) {
      throw fault("events", "invalid", `Events must be some of ${eventTypes.join(", ")}, each once.`);
    }
    known.add(type);
  }
  return [...known];
}

function decodeDescription(value: unknown): string | undefined {
  if (value === undefined || value === null) {
    return undefined;
  }
  if (typeof value !== "string") {
    throw fault("description", "wrong_type", "Description must be a text.");
  }
  if (Array.from(value).length > longestDescription) {
    throw fault("description", "max", `Description must be at most ${longestDescription} characters long.`);
  }
  if (/[\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]/u.test(value)) {
    const rule = "must not have control characters, line ends or characters that change the direction of text";
    throw fault("description", "printable", `Description ${rule}.`);
  }
  return value;
}

function decodeStatus(value: unknown): Endpoint["status"] | undefined {
  if (value === undefined || value === null) {
    return undefined;
  }
  if (typeof value !== "string") {
    throw fault("status", "wrong_type", "Status must be a text.");
  }
  if (value !== "enabled" && value !== "disabled") {
    throw fault("status", "invalid", "Status must be one of enabled, disabled.");
  }
  return value;
}

function decodeVersion(value: unknown): number | undefined {
  if (value === undefined || value === null) {
    return undefined;
  }
  if (!Number.isSafeInteger(value)) {
    throw fault("version", "wrong_type", "Version must be a whole number, written in digits.");
  }
  if ((value as number) < 1) {
    throw fault("version", "min", "Version must be at least 1.");
  }
  return value as number;
}

/** Decodes a JSON object. Members that nobody asks for are ignored. */
function decodeJson(request: FastifyRequest): Record<string, unknown> {
  const { headers } = request;
  if (headers["content-encoding"] !== undefined && headers["content-encoding"].toLowerCase() !== "identity") {
    const message = "The body must be sent without compression.";
    throw new Problem("unsupportedMedia", { field: "Content-Encoding", code: "unsupported_encoding", message });
  }
  // The parts are trimmed one by one: a regular expression with several runs of spaces would take very long for many of them.
  const [type = "", ...parameters] = (headers["content-type"] ?? "").split(";").map((part) => part.trim());
  const isJson = /^application\/([^;\s]+\+)?json$/i.test(type);
  if (!isJson || !parameters.every((parameter) => /^(charset="?utf-8"?)?$/i.test(parameter))) {
    throw notJson();
  }
  const invalid = (code: Code, message: string, cause?: unknown) => new Problem("invalid", { code, message }, { cause });
  const raw = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
  } catch {
    throw invalid("not_json", "The body is not UTF-8.");
  }
  if (text.trim() === "") {
    throw invalid("not_json", "The body is empty. Send a JSON object.");
  }
  if (/(?<!\\)(\\\\)*\\u0000/.test(text)) {
    throw invalid("not_text", "The body must not hold the character U+0000.");
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    throw invalid("not_json", "The body is not valid JSON.", error);
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw invalid("wrong_type", "The body must be a JSON object.");
  }
  return JSON.parse(withoutFractions(text)) as Record<string, unknown>;
}

/**
 * The JSON with false in place of each number that is not written in digits alone (1.0, 1e2): no member of this API may have one, and
 * JSON.parse does not show how a number was written.
 */
function withoutFractions(json: string): string {
  return json.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) =>
    token.startsWith('"') || /^-?\d+$/.test(token) ? token : "false",
  );
}

/** An id of the path. If the text is not an id, nothing can have it. */
export function pathId(request: FastifyRequest, name: string): string {
  const id = (request.params as Record<string, string | undefined>)[name] ?? "";
  if (name !== "deliveryId" ? !isId(id) : !/^msg_[A-Za-z0-9_-]{1,64}$/.test(id)) {
    throw new Problem("notFound", { code: "not_found", message: "There is nothing with this id." });
  }
  return id;
}

/** The version that the request is based on: from the body, from If-Match, or neither. */
export function expectedVersion(request: FastifyRequest, inBody: number | undefined): number | undefined {
  const raw = request.headers["if-match"]?.trim() ?? "";
  if (raw === "" || raw === "*") {
    return inBody;
  }
  // Proxies that compress mark an ETag as weak. The version stays the same.
  const [, digits] = /^(?:W\/)?"(\d{1,15})"$/.exec(raw) ?? [];
  const inHeader = Number(digits ?? 0);
  if (inHeader < 1) {
    throw fault("If-Match", "invalid", 'If-Match must be one ETag as this API gives them, for example "3".');
  }
  if (inBody !== undefined && inBody !== inHeader) {
    throw fault("version", "invalid", "The version in the body and the one in If-Match differ. Send one of them.");
  }
  return inHeader;
}

/** Which part of a list is requested. */
export function paging(request: FastifyRequest): { limit: number; before: number | undefined } {
  // Of several values the first one counts, as at the other services.
  const query = request.query as Record<string, string | string[] | undefined>;
  const [rawLimit] = [query["limit"]].flat();
  const [cursor = ""] = [query["cursor"]].flat();
  let limit = defaultLimit;
  if (rawLimit !== undefined) {
    const message = `Limit must be a whole number from 1 to ${maxLimit}.`;
    if (!/^-?\d+$/.test(rawLimit)) {
      throw fault("limit", "wrong_type", message);
    }
    limit = Number(rawLimit);
    if (limit < 1 || limit > maxLimit) {
      throw fault("limit", limit < 1 ? "min" : "max", message);
    }
  }
  if (cursor === "") {
    return { limit, before: undefined };
  }
  if (cursor.length > longestCursor || !/^\d{1,15}$/.test(cursor)) {
    throw fault("cursor", "invalid", "Cursor must be one that this list gave.");
  }
  return { limit, before: Number(cursor) };
}

/** The Link to the next part of the list (RFC 8288), relative to the requested path, so that it is valid behind any proxy. */
export function linkNext(request: FastifyRequest, reply: FastifyReply, next: number | undefined): void {
  if (next !== undefined) {
    const query = new URLSearchParams(request.url.slice(pathOf(request).length));
    query.set("cursor", String(next));
    query.sort();
    void reply.header("Link", `<${pathOf(request)}?${query.toString()}>; rel="next"`);
  }
}

/** The Idempotency-Key of a request, if it has one. Keys of other paths are other keys. */
export function idempotencyKey(request: FastifyRequest): IdempotencyKey | undefined {
  const key = request.headers["idempotency-key"];
  if (typeof key !== "string" || key === "") {
    return undefined;
  }
  if (key.length > longestKey) {
    throw fault("Idempotency-Key", "max", `The header Idempotency-Key may hold at most ${longestKey} characters.`);
  }
  return {
    key: digest(`${request.method} ${pathOf(request)}\n${key}`),
    fingerprint: digest((request.body as Buffer | undefined) ?? ""),
  };
}

function digest(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
