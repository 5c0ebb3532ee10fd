// An endpoint: a URL of a user's own, which is called when certain events happen to the user's tickets and orders. Its life:
//
//   enabled ──(its owner, or five days of failures only)──▶ disabled ──(its owner)──▶ enabled
//
// The rules take the time as an argument and do no I/O. They return a new account, and do not change the one that they get.
import type { Schemas } from "./contract.ts";
import { Problem } from "./problem.ts";

export type EventType = Schemas["EventType"];

export const eventTypes = [
  "ticket.created",
  "ticket.updated",
  "ticket.deleted",
  "order.created",
  "order.completed",
  "order.updated",
  "order.cancelled",
] as const satisfies readonly EventType[];

/** The type of the message that tests an endpoint. No endpoint can be subscribed to it. */
export const testType = "webhook.test";

export const maxEndpoints = 5;
const day = 24 * 60 * 60 * 1000;
/** How long a secret that was replaced signs beside the new one. */
const oldSecretTime = day;
/** How many secrets sign at most, the new one and those that were replaced. */
const maxSecrets = 5;
/** After so long with failures only, the next failure disables an endpoint. */
const failingTime = 5 * day;
/**
 * After so long without a failure, what came before does not count: nothing was sent meanwhile. A delivery that fails is repeated after
 * seven hours and a fifth at the latest.
 */
const quietTime = day / 2;
/** How old lastFailure becomes before it is written again, so that few failures change the account. */
const notedTime = day / 24;

export interface Endpoint {
  id: string;
  url: string;
  events: EventType[];
  description?: string;
  status: "enabled" | "disabled";
  disabledReason?: "user" | "failing";
  disabledAt?: string;
  /** Since when its attempts have failed: all of them, and without a quiet time between two of them. */
  failingSince?: string;
  /** When an attempt has failed, at most an hour before the last one that did. Set with failingSince. */
  lastFailure?: string;
  secret: string;
  /** Those that were replaced and still sign, the newest first. */
  previousSecrets?: { secret: string; until: string }[];
  /** Grows with each change by the owner, or of the status. */
  version: number;
  createdAt: string;
  updatedAt: string;
}

/** The document of a user: all endpoints, oldest first. */
export interface Account {
  schema: 1;
  /** Another one whenever the answer to "which event goes where" may have changed. The registry gives it, and none comes again. */
  version: number;
  endpoints: Endpoint[];
}

export const noAccount: Account = { schema: 1, version: 0, endpoints: [] };

/** What an owner decides about an endpoint. */
export interface Settings {
  url: string;
  events: EventType[];
  description?: string | undefined;
}

export function findEndpoint(account: Account, id: string): Endpoint {
  const endpoint = account.endpoints.find((each) => each.id === id);
  if (!endpoint) {
    throw new Problem("notFound", { code: "not_found", message: "There is nothing with this id." });
  }
  return endpoint;
}

export function addEndpoint(account: Account, id: string, secret: string, settings: Settings, now: Date): Account {
  if (account.endpoints.length >= maxEndpoints) {
    const message = `You have ${maxEndpoints} endpoints, and cannot have more. Remove one.`;
    throw new Problem("conflict", { code: "too_many_endpoints", message });
  }
  const at = now.toISOString();
  const endpoint: Endpoint = { id, ...written(settings), status: "enabled", secret, version: 1, createdAt: at, updatedAt: at };
  return { ...account, version: account.version + 1, endpoints: [...account.endpoints, endpoint] };
}

/** Replaces the settings. If expected is given, the endpoint must have that version. Without a status it keeps its own. */
export function changeEndpoint(
  account: Account,
  id: string,
  expected: number | undefined,
  settings: Settings,
  status: Endpoint["status"] | undefined,
  now: Date,
): Account {
  const old = findEndpoint(account, id);
  if (expected !== undefined && expected !== old.version) {
    const message = `The endpoint has changed since you read it: its version is ${old.version}, not ${expected}.`;
    throw new Problem("conflict", { code: "stale_version", message });
  }
  const { description: _, ...described } = old;
  const kept = settings.url === old.url ? described : withoutFailures(described); // another server has not failed yet
  let changed: Endpoint = { ...kept, ...written(settings), version: old.version + 1, updatedAt: now.toISOString() };
  if (status !== undefined && status !== old.status) {
    changed = status === "enabled" ? enabled(changed) : disabled(changed, "user", now);
  }
  return replace(account, changed);
}

export function removeEndpoint(account: Account, id: string): Account {
  findEndpoint(account, id);
  return { ...account, version: account.version + 1, endpoints: account.endpoints.filter((each) => each.id !== id) };
}

/**
 * Replaces the secret. Each old one signs beside it until its own day has ended, so that a receiver misses nothing when a rotation is
 * repeated because its answer was lost.
 */
export function rotateSecret(account: Account, id: string, secret: string, now: Date): Account {
  const old = findEndpoint(account, id);
  if (old.secret === secret) {
    return account; // the decision is made again, after a commit whose answer was lost
  }
  const replaced = { secret: old.secret, until: new Date(now.getTime() + oldSecretTime).toISOString() };
  const previousSecrets = [replaced, ...signing(old, now)].slice(0, maxSecrets - 1);
  return replace(account, { ...old, secret, previousSecrets, version: old.version + 1, updatedAt: now.toISOString() });
}

/** The secrets that sign at this time, the newest first. */
export function secretsOf(endpoint: Endpoint, now: Date): string[] {
  return [endpoint.secret, ...signing(endpoint, now).map(({ secret }) => secret)];
}

function signing({ previousSecrets = [] }: Endpoint, now: Date): { secret: string; until: string }[] {
  return previousSecrets.filter(({ until }) => now < new Date(until));
}

/** Notes the success of an attempt. */
export function noteSuccess(account: Account, id: string): Account {
  const endpoint = account.endpoints.find((each) => each.id === id);
  if (endpoint?.failingSince === undefined) {
    return account;
  }
  return note(account, withoutFailures(endpoint));
}

/** Notes the failure of an attempt: an endpoint with failures only for five days becomes disabled. */
export function noteFailure(account: Account, id: string, now: Date): Account {
  const endpoint = account.endpoints.find((each) => each.id === id);
  if (endpoint?.status !== "enabled") {
    return account;
  }
  const { failingSince, lastFailure } = endpoint;
  const at = now.toISOString();
  const quiet = now.getTime() - Date.parse(lastFailure ?? at);
  if (failingSince === undefined || lastFailure === undefined || quiet >= quietTime) {
    return note(account, { ...endpoint, failingSince: at, lastFailure: at });
  }
  if (now.getTime() - Date.parse(failingSince) >= failingTime) {
    return replace(account, { ...disabled(endpoint, "failing", now), version: endpoint.version + 1, updatedAt: at });
  }
  return quiet < notedTime ? account : note(account, { ...endpoint, lastFailure: at });
}

function withoutFailures<T extends { failingSince?: string; lastFailure?: string }>(
  endpoint: T,
): Omit<T, "failingSince" | "lastFailure"> {
  const { failingSince: _since, lastFailure: _last, ...rest } = endpoint;
  return rest;
}

/** Replaces an endpoint where neither its owner nor the registry needs to know of the change. */
function note(account: Account, changed: Endpoint): Account {
  return { ...account, endpoints: account.endpoints.map((each) => (each.id === changed.id ? changed : each)) };
}

/** Whether the account has an endpoint that may get events. */
export function isLive(account: Account): boolean {
  return account.endpoints.some((endpoint) => endpoint.status === "enabled");
}

/** Which settings an endpoint has. A description that is not there, or is only spaces, is no member. */
function written(settings: Settings): Pick<Endpoint, "url" | "events" | "description"> {
  const { url, events, description } = settings;
  return { url, events, ...(description === undefined || description.trim() === "" ? {} : { description }) };
}

function enabled(endpoint: Endpoint): Endpoint {
  const { disabledReason: _reason, disabledAt: _at, ...rest } = withoutFailures(endpoint);
  return { ...rest, status: "enabled" };
}

function disabled(endpoint: Endpoint, reason: "user" | "failing", now: Date): Endpoint {
  return { ...endpoint, status: "disabled", disabledReason: reason, disabledAt: now.toISOString() };
}

function replace(account: Account, changed: Endpoint): Account {
  return { ...note(account, changed), version: account.version + 1 };
}
