// The log: one line an entry, JSON with the members of Go's slog, and text on a terminal.
import type { Config, Level } from "./config.ts";

export type Attributes = Record<string, unknown>;

export interface Log {
  debug(message: string, attributes?: Attributes): void;
  info(message: string, attributes?: Attributes): void;
  warn(message: string, attributes?: Attributes): void;
  error(message: string, attributes?: Attributes): void;
  isEnabled(level: Level): boolean;
}

const order: Record<Level, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** Makes a log. write gets whole lines. fixed are members of every line. */
export function newLog(config: Pick<Config, "logLevel" | "logFormat">, fixed: Attributes, write: (line: string) => void): Log {
  const text = config.logFormat === "text" || (config.logFormat === "auto" && process.stdout.isTTY);
  const entry =
    (level: Level) =>
    (message: string, attributes: Attributes = {}) => {
      if (order[level] < order[config.logLevel]) {
        return;
      }
      const members: Attributes = {
        time: new Date().toISOString(),
        level: level.toUpperCase(),
        msg: message,
        ...fixed,
        ...attributes,
      };
      for (const [name, value] of Object.entries(members)) {
        members[name] = plain(value);
      }
      write((text ? textOf(members) : JSON.stringify(members)) + "\n");
    };
  return {
    debug: entry("debug"),
    info: entry("info"),
    warn: entry("warn"),
    error: entry("error"),
    isEnabled: (level) => order[level] >= order[config.logLevel],
  };
}

/** Writes errors as their texts, with those of their causes. */
function plain(value: unknown): unknown {
  return value instanceof Error ? textOfError(value) : value;
}

/** The text of an error and of its causes. */
export function textOfError(error: unknown): string {
  const texts: string[] = [];
  for (let at = error, depth = 0; at !== undefined && depth < 5; depth++) {
    const text = at instanceof Error ? messageOf(at) : JSON.stringify(at);
    if (!texts.includes(text)) {
      texts.push(text);
    }
    at = at instanceof Error ? at.cause : undefined;
  }
  return texts.join(": ");
}

function messageOf(error: NodeJS.ErrnoException): string {
  return error.message === "" ? (error.code ?? error.name) : error.message;
}

function textOf(members: Attributes): string {
  return Object.entries(members)
    .map(([name, value]) => {
      const text = typeof value === "string" ? value : JSON.stringify(value ?? null);
      return name + "=" + (/[\s"=]/.test(text) || text === "" ? JSON.stringify(text) : text);
    })
    .join(" ");
}
