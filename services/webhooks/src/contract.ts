// The types that are generated from services/contracts: the compiler holds this service to the OpenAPI document.
import type { components } from "../../contracts/typescript/src/generated/api.ts";

export type Schemas = components["schemas"];
export type { Code } from "../../contracts/typescript/src/generated/codes.ts";

/** An object whose members may also be undefined. JSON does not have those. */
export type Loose<T> = { [K in keyof T]: T[K] | undefined };
