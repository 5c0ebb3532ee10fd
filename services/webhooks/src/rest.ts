// The edge of the public REST API: a Fastify app that answers every error with problem+json, counts and logs each request, and
// decodes bodies. Only this file converts problems to responses. It follows services/internal/rest.
import { readFileSync, statSync } from "node:fs";
import { STATUS_CODES } from "node:http";
import { Server as TlsServer } from "node:https";
import type { Socket } from "node:net";
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { Config } from "./config.ts";
import type { Schemas } from "./contract.ts";
import { newId } from "./ids.ts";
import type { Attributes, Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { Problem, isUnavailable, notJson, type Kind } from "./problem.ts";
import { traceOf, withTrace, type Trace } from "./trace.ts";

const statuses: Record<Kind, number> = {
  internal: 500,
  invalid: 400,
  unauthorized: 401,
  notFound: 404,
  conflict: 409,
  tooLarge: 413,
  unsupportedMedia: 415,
  unavailable: 503,
};

/** Bounds the request line with all headers. */
const headerLimit = 16 << 10;
const idleTime = 90_000;
const longestRequestId = 128;

declare module "fastify" {
  interface FastifyRequest {
    trace: Trace;
    /** Members of the request's log line beside those that every line has. */
    annotations: Attributes;
  }
}

/** Makes an app without routes. */
export function newApp(config: Config, log: Log, metrics: Metrics): FastifyInstance {
  const connections = {
    maxHeaderSize: headerLimit,
    requireHostHeader: false, // Node would answer without a body
    headersTimeout: config.headerTimeout,
    requestTimeout: config.headerTimeout + config.bodyTimeout,
    connectionsCheckingInterval: Math.min(1000, config.headerTimeout),
  };
  const app = Fastify({
    logger: false,
    bodyLimit: config.bodyLimit,
    trustProxy: config.trustedProxies.length > 0 ? config.trustedProxies : false,
    genReqId: (request) => requestIdOf(request.headers["x-request-id"]),
    forceCloseConnections: "idle",
    keepAliveTimeout: idleTime,
    return503OnClosing: false,
    clientErrorHandler: refuse,
    // The path cannot be decoded: such a request reaches no hook before this.
    frameworkErrors: (error, request, reply) => {
      observe(request, reply);
      void respond(reply, request, error);
    },
    ...(config.tlsCertFile === "" ? { http: connections } : { https: { ...connections, ...readCertificate(config) } }),
  });
  const server: unknown = app.server;
  if (server instanceof TlsServer) {
    renewCertificate(server, config, log);
  }
  app.server.maxConnections = config.maxConnections > 0 ? config.maxConnections : Infinity;

  app.decorateRequest("trace");
  app.decorateRequest("annotations");
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => {
    done(null, body);
  });
  app.addHook("onRequest", (request, reply, done) => {
    observe(request, reply);
    done();
  });
  app.addHook("preHandler", (request, _reply, done) => {
    withTrace(request.trace, done);
  });
  app.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "unmatched";
    metrics.requests.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1000);
    logRequest(log, request, reply);
  });
  app.setErrorHandler((error, request, reply) => respond(reply, request, error as Error));
  const routes: { method: string; pattern: RegExp }[] = [];
  app.addHook("onRoute", (route) => {
    const pattern = new RegExp("^" + route.url.replaceAll("/", "\\/").replace(/:[A-Za-z]+/g, "[^/]+") + "$");
    for (const method of [route.method].flat()) {
      routes.push({ method, pattern });
    }
  });
  app.setNotFoundHandler((request, reply) => {
    const path = pathOf(request);
    const allowed = routes.filter((route) => route.pattern.test(path)).map((route) => route.method);
    if (allowed.length > 0) {
      void reply.header("Allow", [...new Set(allowed)].sort().join(", "));
      const message = `${request.method} cannot be used on ${path}.`;
      return respond(reply, request, new Problem("invalid", { code: "method_not_allowed", message }), 405);
    }
    return respond(reply, request, new Problem("notFound", { code: "not_found", message: `There is nothing at ${path}.` }));
  });
  return app;
}

/** Begins the observation of a request: its trace, the members of its log line, and the header with its id. */
function observe(request: FastifyRequest, reply: FastifyReply): void {
  request.trace = traceOf(request.headers["traceparent"]);
  request.annotations = {};
  void reply.header("X-Request-Id", request.id);
}

export function pathOf(request: FastifyRequest): string {
  return request.url.split("?", 1)[0] ?? "";
}

/** Sends a JSON body. */
export async function sendJson(reply: FastifyReply, status: number, body: unknown): Promise<void> {
  await reply
    .code(status)
    .header("Content-Type", "application/json")
    .send(Buffer.from(JSON.stringify(body)));
}

/** Answers with an error as problem+json. */
async function respond(reply: FastifyReply, request: FastifyRequest, error: Error, status?: number): Promise<void> {
  const problem = problemOf(error);
  const code =
    status ?? (problem.kind === "tooLarge" && problem.details[0]?.code === "headers_too_large" ? 431 : statuses[problem.kind]);
  if (problem.kind === "internal") {
    request.annotations["error"] = error;
    request.annotations["stack"] = error.stack;
  } else if (problem.cause !== undefined) {
    request.annotations["error"] = problem.cause;
  }
  if (problem.kind === "unavailable") {
    void reply.header("Retry-After", String(Math.ceil(problem.retryAfter ?? 1)));
  }
  if (problem.kind === "unauthorized") {
    void reply.header("WWW-Authenticate", "Bearer");
  }
  void reply.removeHeader("ETag").removeHeader("Location");
  const body = bodyOf(problem, code, request.id);
  await reply
    .code(code)
    .header("Content-Type", "application/problem+json")
    .send(Buffer.from(JSON.stringify(body)));
}

function bodyOf(problem: Problem, status: number, requestId: string): Schemas["Problem"] {
  return {
    type: "about:blank",
    title: STATUS_CODES[status] ?? "",
    status,
    detail: problem.details[0]?.message ?? "",
    errors: problem.details,
    requestId,
    ...problem.members,
  };
}

/** The problem of a response. An error of Fastify gets a text of this file, any other is internal: its text stays in the log. */
function problemOf(error: Error): Problem {
  if (error instanceof Problem) {
    return error;
  }
  const { code, statusCode } = error as FastifyError;
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new Problem("tooLarge", { code: "too_large", message: "The request's body is too long." });
  }
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    return notJson();
  }
  if (statusCode !== undefined && statusCode < 500) {
    return new Problem("invalid", { code: "bad_request", message: "The request is not valid HTTP." }, { cause: error });
  }
  if (isUnavailable(error)) {
    const message = "This took too long. It may have taken effect. Try again shortly.";
    return new Problem("unavailable", { code: "timeout", message }, { cause: error });
  }
  return new Problem("internal", { code: "internal", message: "Something went wrong on our side." }, { cause: error });
}

/** Answers a request that Node could not parse, which reaches no handler. */
function refuse(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  let status = 400;
  let problem = new Problem("invalid", { code: "bad_request", message: "The request is not valid HTTP." });
  if (error.code === "HPE_HEADER_OVERFLOW") {
    status = 431;
    problem = new Problem("tooLarge", { code: "headers_too_large", message: "The request's headers are too long." });
  } else if (error.code === "ERR_HTTP_REQUEST_TIMEOUT") {
    status = 408;
    problem = new Problem("invalid", { code: "timeout", message: "The request did not arrive in time." });
  }
  const requestId = newId();
  const body = JSON.stringify(bodyOf(problem, status, requestId));
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    "Content-Type: application/problem+json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    "Connection: close",
  ];
  socket.end(head.join("\r\n") + "\r\n\r\n" + body);
}

function logRequest(log: Log, request: FastifyRequest, reply: FastifyReply): void {
  const path = pathOf(request);
  const status = reply.statusCode;
  let level: "debug" | "info" | "warn" | "error" = "info";
  if (status === 500) {
    level = "error";
  } else if (path === "/healthz" || path === "/readyz") {
    level = "debug";
  } else if (status > 500) {
    level = "warn";
  }
  log[level]("request", {
    method: request.method,
    path,
    status,
    ms: Math.round(reply.elapsedTime * 1000) / 1000,
    client: request.ip.replace(/^::ffff:/, ""),
    requestId: request.id,
    traceId: request.trace.traceId,
    ...request.annotations,
  });
}

/** The id that the client has sent, or a new one if that is not valid: every log line has it. */
function requestIdOf(sent: string | string[] | undefined): string {
  const valid = typeof sent === "string" && sent.length <= longestRequestId && /^[A-Za-z0-9\-_.:/+=]+$/.test(sent);
  return valid ? sent : newId();
}

function readCertificate(config: Config): { cert: Buffer; key: Buffer; minVersion: "TLSv1.2" } {
  return { cert: readFileSync(config.tlsCertFile), key: readFileSync(config.tlsKeyFile), minVersion: "TLSv1.2" };
}

/** Reads the certificate again when its file has changed: it may be replaced while the process runs. */
function renewCertificate(server: Pick<TlsServer, "setSecureContext">, config: Config, log: Log): void {
  let known = statSync(config.tlsCertFile).mtimeMs;
  const timer = setInterval(() => {
    try {
      const changed = statSync(config.tlsCertFile).mtimeMs;
      if (changed !== known) {
        server.setSecureContext(readCertificate(config));
        known = changed;
      }
    } catch (error) {
      log.warn("the certificate cannot be read again; the old one is used", { error });
    }
  }, 10_000);
  timer.unref();
}
