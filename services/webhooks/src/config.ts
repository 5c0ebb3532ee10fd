// The settings of the service, from the environment. They have the names, defaults and rules of the Go services' settings
// (services/internal/service/config.go). All that are missing or wrong are reported at once.
import { hostname } from "node:os";

export type Level = "debug" | "info" | "warn" | "error";

export interface Config {
  /** Where the public REST API listens, on all interfaces. */
  port: number;
  /** Where the sidecar calls this service, only on 127.0.0.1. Dapr sets it. */
  callbackPort: number;
  /** Where /metrics is served, as host and port; without a host, on all interfaces. */
  metricsAddress: { host: string | undefined; port: number };
  /** Where the sidecar listens. Dapr sets it. */
  daprHttpPort: number;
  /** The token that the sidecar demands from this service. "": none. */
  daprApiToken: string;
  /** The token that the sidecar sends with every callback. */
  apiToken: string;
  /** The place of this process, which stays the same after a restart. */
  instance: string;
  logLevel: Level;
  logFormat: "auto" | "json" | "text";
  /** Bounds a request's body, in bytes. */
  bodyLimit: number;
  /** Bounds the connections to the public port; 0 is no limit. */
  maxConnections: number;
  /** In which a request's headers arrive, in milliseconds, and in which its body arrives. */
  headerTimeout: number;
  bodyTimeout: number;
  /** The certificate of the public port and its key, in PEM. "": plain HTTP. */
  tlsCertFile: string;
  tlsKeyFile: string;
  /** Networks of proxies before this process. Only their X-Forwarded-For is trusted. */
  trustedProxies: string[];
  /** The number of failed deliveries of an event after which it becomes a dead letter. */
  maxDeliveries: number;
  startTimeout: number;
  shutdownTimeout: number;
  /** The base URLs of auth's replicas. */
  authUrls: string[];
  /** The time between two fetches of auth's keys and revocations, in milliseconds. */
  authPeriod: number;
  /** The certificates of a private authority for https addresses of other services, in PEM. "": the system's authorities. */
  caFile: string;
  /** The address under which clients reach the gateway, without a slash at its end. */
  publicUrl: string;
  /** Whether an endpoint may be at a loopback address, also with http. For development on one machine. */
  allowLoopback: boolean;
}

const hints: Record<string, string> = {
  APP_API_TOKEN: "it is made at the first start of `make run`; for `dapr run -f .` load it with: set -a; . .state/env; set +a",
  APP_PORT: "Dapr sets it; start the service with `make run` or `dapr run -f .`",
  DAPR_HTTP_PORT: "Dapr sets it; start the service with `make run` or `dapr run -f .`",
};

/** The settings that are missing or wrong, one line each. */
export class ConfigError extends Error {
  constructor(problems: string[]) {
    super("the environment is not complete:\n  - " + problems.join("\n  - "));
  }
}

/** Reads the settings. It throws a ConfigError that lists all that are missing or wrong. */
export function loadConfig(environment: Record<string, string | undefined>): Config {
  // A variable that is empty counts as one that is not set.
  const env = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ""));
  const read = new Reader(env);
  const callbackPort = read.number("APP_PORT", undefined, 1, 65535);
  const config: Config = {
    port: read.number("PORT", undefined, 1, 65535),
    callbackPort,
    metricsAddress: read.address("METRICS_ADDRESS", ":9091"),
    daprHttpPort: read.number("DAPR_HTTP_PORT", undefined, 1, 65535),
    daprApiToken: env["DAPR_API_TOKEN"] ?? "",
    apiToken: read.text("APP_API_TOKEN", 16),
    instance: env["INSTANCE"] ?? `${hostname()}:${callbackPort}`,
    logLevel: read.oneOf("LOG_LEVEL", "info", ["debug", "info", "warn", "error"]),
    logFormat: read.oneOf("LOG_FORMAT", "auto", ["auto", "json", "text"]),
    bodyLimit: read.number("BODY_LIMIT", 65536, 1024),
    maxConnections: read.number("MAX_CONNECTIONS", 4096, 0),
    headerTimeout: read.duration("HEADER_TIMEOUT", "5s", "100ms", "5m"),
    bodyTimeout: read.duration("BODY_TIMEOUT", "15s", "100ms", "5m"),
    tlsCertFile: env["TLS_CERT_FILE"] ?? "",
    tlsKeyFile: env["TLS_KEY_FILE"] ?? "",
    trustedProxies: list(env["TRUSTED_PROXIES"]),
    maxDeliveries: read.number("MAX_DELIVERIES", 10, 1),
    startTimeout: read.duration("START_TIMEOUT", "60s", "1s"),
    shutdownTimeout: read.duration("SHUTDOWN_TIMEOUT", "15s", "1s"),
    authUrls: read.urls("AUTH_URL"),
    authPeriod: read.duration("AUTH_PERIOD", "20s", "1s", "45s"),
    caFile: env["UPSTREAM_CA_FILE"] ?? "",
    publicUrl: (read.urls("PUBLIC_URL", "http://localhost:8080")[0] ?? "").replace(/\/+$/, ""),
    allowLoopback: read.boolean("WEBHOOKS_ALLOW_LOOPBACK", false),
  };
  if ((config.tlsCertFile === "") !== (config.tlsKeyFile === "")) {
    const missing = config.tlsCertFile === "" ? "TLS_CERT_FILE" : "TLS_KEY_FILE";
    read.problems.push(`${missing} is not set: TLS_CERT_FILE and TLS_KEY_FILE belong together`);
  }
  if (read.problems.length > 0) {
    throw new ConfigError(read.problems);
  }
  return config;
}

class Reader {
  readonly problems: string[] = [];
  private readonly env: Record<string, string | undefined>;

  constructor(env: Record<string, string | undefined>) {
    this.env = env;
  }

  number(name: string, fallback: number | undefined, min: number, max = Number.MAX_SAFE_INTEGER): number {
    const raw = this.env[name] ?? fallback?.toString();
    if (raw === undefined) {
      return this.fail(name, "is not set", NaN);
    }
    const value = Number(raw);
    if (!/^-?\d+$/.test(raw) || !Number.isSafeInteger(value)) {
      return this.wrong(name, "whole number", NaN);
    }
    if (value < min) {
      return this.fail(name, `must be at least ${min}`, NaN);
    }
    if (value > max) {
      return this.fail(name, `must be at most ${max}`, NaN);
    }
    return value;
  }

  text(name: string, min: number): string {
    const value = this.env[name] ?? "";
    if (value === "") {
      return this.fail(name, "is not set", value);
    }
    return value.length < min ? this.fail(name, `must be at least ${min} characters long`, value) : value;
  }

  oneOf<T extends string>(name: string, fallback: T, values: T[]): T {
    const raw = (this.env[name] ?? fallback).toLowerCase();
    const found = values.find((value) => value === raw);
    return found ?? this.fail(name, "must be one of: " + values.join(", "), fallback);
  }

  boolean(name: string, fallback: boolean): boolean {
    const raw = this.env[name];
    if (!raw) {
      return fallback;
    }
    if (/^(true|1|t)$/i.test(raw)) {
      return true;
    }
    return /^(false|0|f)$/i.test(raw) ? false : this.wrong(name, "boolean (true or false)", fallback);
  }

  duration(name: string, fallback: string, min: string, max?: string): number {
    const value = parseDuration(this.env[name] ?? fallback);
    if (value === undefined) {
      return this.wrong(name, "duration (for example 90s or 15m)", NaN);
    }
    if (value < (parseDuration(min) ?? 0)) {
      return this.fail(name, `must be at least ${min}`, NaN);
    }
    if (max !== undefined && value > (parseDuration(max) ?? 0)) {
      return this.fail(name, `must be at most ${max}`, NaN);
    }
    return value;
  }

  urls(name: string, fallback?: string): string[] {
    const values = list(this.env[name] ?? fallback);
    if (values.length === 0) {
      return this.fail(name, "is not set", values);
    }
    for (const value of values) {
      const url = URL.canParse(value) ? new URL(value) : undefined;
      if (url?.protocol !== "http:" && url?.protocol !== "https:") {
        return this.fail(name, "must be a URL of http or https, such as http://localhost:8101", values);
      }
    }
    return values.map((value) => value.replace(/\/+$/, ""));
  }

  address(name: string, fallback: string): Config["metricsAddress"] {
    const raw = this.env[name] ?? fallback;
    const parts = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(raw);
    const port = Number(parts?.[3]);
    if (!parts || port < 1 || port > 65535) {
      return this.fail(name, "must be host:port, such as 127.0.0.1:9091 or :9091", { host: undefined, port: 0 });
    }
    const host = parts[1] ?? parts[2];
    return { host: host === "" ? undefined : host, port };
  }

  private wrong<T>(name: string, type: string, value: T): T {
    this.problems.push(`${name}=${JSON.stringify(this.env[name])} is not a ${type}`);
    return value;
  }

  private fail<T>(name: string, rule: string, value: T): T {
    const hint = hints[name];
    this.problems.push(`${name} ${rule}${hint ? ` (${hint})` : ""}`);
    return value;
  }
}

function list(raw: string | undefined): string[] {
  return (raw ?? "")
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");
}

const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Parses a duration as Go writes it ("1m30s", "100ms"), to milliseconds. */
function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    return undefined;
  }
  let sum = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    sum += Number(amount) * (units[unit ?? ""] ?? 0);
  }
  return sum;
}
