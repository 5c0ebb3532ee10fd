export { createClient } from "./client.ts";
export type { Answer, Call, Client, ClientOptions } from "./client.ts";
export { paginate } from "./paginate.ts";
export { Problem } from "./problem.ts";
export type { AnyCode, ProblemDetail } from "./problem.ts";
export { retry } from "./retry.ts";
export type { RetryOptions } from "./retry.ts";
export { watch } from "./watch.ts";
export type { LiveEvent, WatchOptions } from "./watch.ts";
export type { components, operations, paths, webhooks } from "./generated/api.ts";
export type { Envelope, Events, EventType } from "./generated/events.ts";
export type { Code, Codes } from "./generated/codes.ts";

import type { components } from "./generated/api.ts";

/** The schemas of the OpenAPI document, by name: `Schemas["Ticket"]`. */
export type Schemas = components["schemas"];
