// /healthz (the process runs) and /readyz (its dependencies are reachable), and the probes for images without a shell and curl.
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { FastifyInstance } from "fastify";
import type { Log } from "./log.ts";
import { Problem, isUnavailable } from "./problem.ts";
import { sendJson } from "./rest.ts";

/** Bounds all checks of one request, in milliseconds. */
const checkTime = 2000;
/** How long dependencies may take to start before a failing check is a warning. */
const usualStart = 30_000;

type State = "starting" | "running" | "shutting down";

export class Health {
  state: State = "starting";
  private readonly checks = new Map<string, () => Promise<void>>();
  private readonly failing = new Map<string, string>();
  private readonly log: Log;
  private readonly started = Date.now();
  private wasReady = false;

  constructor(log: Log) {
    this.log = log;
  }

  /** Adds a check to /readyz. */
  check(name: string, run: () => Promise<void>): void {
    this.checks.set(name, run);
  }

  register(app: FastifyInstance): void {
    app.get("/healthz", (_request, reply) => sendJson(reply, 200, { status: "ok" }));
    app.get("/readyz", async (_request, reply) => {
      if (this.state !== "running") {
        throw notReady(this.state, {});
      }
      const results = await this.run();
      if (Object.values(results).some((result) => result !== "ok")) {
        throw notReady("not ready", results);
      }
      await sendJson(reply, 200, { status: "ready", checks: results });
    });
  }

  private async run(): Promise<Record<string, string>> {
    const entries = [...this.checks].map(async ([name, check]): Promise<[string, string]> => {
      try {
        await within(checkTime, check());
        this.succeeded(name);
        return [name, "ok"];
      } catch (error) {
        const result = error instanceof Problem && !isUnavailable(error) ? (error.details[0]?.message ?? "") : "not reachable";
        this.failed(name, result, error);
        return [name, result];
      }
    });
    const results = Object.fromEntries(await Promise.all(entries));
    this.wasReady ||= this.failing.size === 0;
    return results;
  }

  // A long outage has few log lines: at its beginning, when its reason changes, and at its end.
  private failed(name: string, result: string, error: unknown): void {
    if (this.failing.get(name) !== result) {
      const late = this.wasReady || Date.now() - this.started > usualStart;
      this.log[late ? "warn" : "info"]("not ready", { check: name, error });
    }
    this.failing.set(name, result);
  }

  private succeeded(name: string): void {
    if (this.failing.delete(name)) {
      this.log.info("ready again", { check: name });
    }
  }
}

function notReady(status: string, checks: Record<string, string>): Problem {
  const message = `The service is ${status === "starting" ? "starting" : status}.`;
  return new Problem("unavailable", { code: "not_ready", message }, { members: { checks } });
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no answer in ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Checks the health of the process that runs on PORT of this machine: `node webhooks.mjs healthz` or `readyz`. */
export function probe(path: string, env: NodeJS.ProcessEnv): Promise<void> {
  const secure = Boolean(env["TLS_CERT_FILE"]);
  const address = `${secure ? "https" : "http"}://127.0.0.1:${env["PORT"] ?? ""}/${path}`;
  return new Promise((resolve, reject) => {
    // The certificate is for the name with which others call this process.
    const options = { timeout: 3000, rejectUnauthorized: false };
    const request = (secure ? httpsRequest : httpRequest)(address, options, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => (body += part));
      response.on("end", () => {
        if (response.statusCode === 200) {
          resolve();
        } else {
          reject(new Error(`${address} responds ${response.statusCode ?? 0}: ${body.slice(0, 1024)}`));
        }
      });
    });
    request.on("timeout", () => request.destroy(new Error(`${address} does not respond`)));
    request.on("error", reject);
    request.end();
  });
}
