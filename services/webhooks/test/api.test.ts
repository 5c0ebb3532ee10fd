import type { FastifyInstance, FastifyRequest } from "fastify";
import { expect, test } from "vitest";
import { registerApi } from "../src/api.ts";
import { newCallbackApp } from "../src/callbacks.ts";
import { loadConfig } from "../src/config.ts";
import type { Delivery } from "../src/delivery.ts";
import { Health } from "../src/health.ts";
import { Metrics } from "../src/metrics.ts";
import { Problem } from "../src/problem.ts";
import { newApp } from "../src/rest.ts";
import { Clock, logTo, newReplica, seller, stranger } from "./fixtures.ts";
import { MemorySidecar } from "./sidecar.ts";

const config = loadConfig({
  PORT: "1",
  APP_PORT: "2",
  DAPR_HTTP_PORT: "3",
  APP_API_TOKEN: "0123456789abcdef",
  AUTH_URL: "http://a",
  BODY_LIMIT: "2048",
});

const verifier = {
  callerOf: (request: FastifyRequest) => {
    const [, id = ""] = (request.headers.authorization ?? "").split(" ");
    if (id === "") {
      return Promise.reject(new Problem("unauthorized", { code: "not_signed_in", message: "You are not signed in." }));
    }
    return Promise.resolve({ id, epoch: 0, session: "" });
  },
};

async function setUp() {
  const sidecar = new MemorySidecar();
  const { store } = await newReplica(sidecar, new Clock());
  const lines: Record<string, unknown>[] = [];
  const begun: Delivery[] = [];
  const log = logTo(lines);
  const app = newApp(config, log, new Metrics());
  const health = new Health(log);
  health.register(app);
  registerApi(app, { store, verifier, begin: (delivery) => begun.push(delivery), allowLoopback: false });
  return { app, sidecar, store, lines, begun, health };
}

type Method = "GET" | "POST" | "PUT" | "DELETE" | "PATCH";

async function call(app: FastifyInstance, method: Method, url: string, payload?: unknown, headers: Record<string, string> = {}) {
  const body = payload === undefined ? {} : { payload: typeof payload === "string" ? payload : JSON.stringify(payload) };
  const type = payload === undefined ? {} : { "content-type": "application/json" };
  const response = await app.inject({
    method,
    url,
    ...body,
    headers: { authorization: "Bearer " + seller, ...type, ...headers },
  });
  const json = response.body === "" ? undefined : (JSON.parse(response.body) as Record<string, unknown>);
  const errors = json?.["errors"] as { code: string; field?: string }[] | undefined;
  return { status: response.statusCode, headers: response.headers, json: json ?? {}, codes: errors?.map((each) => each.code) };
}

const wanted = { url: "https://tickets.example/hook", events: ["order.completed"], description: "mine" };

test("an endpoint is made, and only this answer has its secret", async () => {
  const { app } = await setUp();
  const made = await call(app, "POST", "/api/webhooks", wanted);
  expect(made).toMatchObject({ status: 201, json: { ...wanted, status: "enabled", version: 1 } });
  expect(made.json["secret"]).toMatch(/^whsec_/);
  expect(made.headers).toMatchObject({
    location: `/api/webhooks/${String(made.json["id"])}`,
    etag: '"1"',
    "content-type": "application/json",
  });
  const shown = await call(app, "GET", String(made.headers.location));
  const { secret: _, ...withoutSecret } = made.json;
  expect(shown).toMatchObject({ status: 200, headers: { etag: '"1"' } });
  expect(shown.json).toEqual(withoutSecret);
  expect((await call(app, "GET", "/api/webhooks")).json).toEqual([withoutSecret]);
});

test("members that belong to a change alone are ignored in a new endpoint", async () => {
  const { app } = await setUp();
  const made = await call(app, "POST", "/api/webhooks", { ...wanted, status: "nonsense", version: "nonsense" });
  expect(made).toMatchObject({ status: 201, json: { status: "enabled", version: 1 } });
});

test("the same Idempotency-Key has the same answer", async () => {
  const { app } = await setUp();
  const key = { "idempotency-key": "k" };
  const first = await call(app, "POST", "/api/webhooks", wanted, key);
  const second = await call(app, "POST", "/api/webhooks", wanted, key);
  expect(second).toMatchObject({ status: 201, json: first.json, headers: { "idempotent-replayed": "true", etag: '"1"' } });
  expect(first.headers).not.toHaveProperty("idempotent-replayed");
  expect(await call(app, "POST", "/api/webhooks", { ...wanted, description: "b" }, key)).toMatchObject({
    status: 409,
    codes: ["idempotency_key_reused"],
  });
});

test("a rotation with the same Idempotency-Key is made once, and has the same secret", async () => {
  const { app } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  const at = String(headers.location);
  const key = { "idempotency-key": "k" };
  const first = await call(app, "POST", at + "/rotate-secret", undefined, key);
  const second = await call(app, "POST", at + "/rotate-secret", undefined, key);
  expect(first).toMatchObject({ status: 200, headers: { etag: '"2"' } });
  expect(first.headers).not.toHaveProperty("idempotent-replayed");
  expect(second).toMatchObject({ status: 200, json: first.json, headers: { "idempotent-replayed": "true", etag: '"2"' } });
  const other = await call(app, "POST", at + "/rotate-secret", {}, key);
  expect(other).toMatchObject({ status: 409, codes: ["idempotency_key_reused"] });
  const without = await call(app, "POST", at + "/rotate-secret");
  expect(without).toMatchObject({ status: 200, json: { version: 3 } });
  expect(without.json["secret"]).not.toBe(first.json["secret"]);
  // A key of another path is another key.
  expect((await call(app, "POST", "/api/webhooks", wanted, key)).headers).not.toHaveProperty("idempotent-replayed");
});

test("a test with the same Idempotency-Key is sent once", async () => {
  const { app, begun } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  const at = String(headers.location);
  const key = { "idempotency-key": "k" };
  const first = await call(app, "POST", at + "/test", undefined, key);
  const second = await call(app, "POST", at + "/test", undefined, key);
  expect(first.status).toBe(202);
  expect(second).toMatchObject({ status: 202, json: first.json, headers: { "idempotent-replayed": "true" } });
  expect(begun.map(({ id }) => id)).toEqual([first.json["id"]]);
  expect((await call(app, "GET", at + "/deliveries")).json).toEqual([first.json]);
  expect((await call(app, "POST", at + "/test", {}, key)).codes).toEqual(["idempotency_key_reused"]);
});

test.each(["", "/ID/rotate-secret", "/ID/test"])("an Idempotency-Key for %s has at most 255 characters", async (path) => {
  const { app } = await setUp();
  const { json } = await call(app, "POST", "/api/webhooks", wanted);
  const url = "/api/webhooks" + path.replace("ID", String(json["id"]));
  const payload = path === "" ? wanted : undefined;
  const long = await call(app, "POST", url, payload, { "idempotency-key": "k".repeat(256) });
  expect(long).toMatchObject({ status: 400, codes: ["max"] });
});

test("a sixth endpoint is refused", async () => {
  const { app } = await setUp();
  for (let n = 0; n < 5; n++) {
    expect((await call(app, "POST", "/api/webhooks", wanted)).status).toBe(201);
  }
  expect(await call(app, "POST", "/api/webhooks", wanted)).toMatchObject({ status: 409, codes: ["too_many_endpoints"] });
});

test.each<[string, unknown, string[]]>([
  ["nothing", {}, ["required", "required"]],
  ["an address in this network", { ...wanted, url: "https://10.0.0.1/" }, ["url_not_allowed"]],
  ["no events", { ...wanted, events: [] }, ["min"]],
  ["an unknown event", { ...wanted, events: ["webhook.test"] }, ["invalid"]],
  ["an event twice", { ...wanted, events: ["order.created", "order.created"] }, ["invalid"]],
  ["a text for events", { ...wanted, events: "order.created" }, ["wrong_type"]],
  ["a long description", { ...wanted, description: "a".repeat(201) }, ["max"]],
  ["a description with a line end", { ...wanted, description: "a\nb" }, ["printable"]],
  ["U+0000", { ...wanted, description: "a\0b" }, ["not_text"]],
  ["a list", [wanted], ["wrong_type"]],
  ["no JSON", "{", ["not_json"]],
  ["a byte order mark", "\ufeff{}", ["not_json"]],
  ["an empty body", " ", ["not_json"]],
])("a body with %s is refused", async (_what, body, codes) => {
  const { app } = await setUp();
  expect(await call(app, "POST", "/api/webhooks", body)).toMatchObject({ status: 400, codes });
});

test.each([
  ["application/json; charset=utf-8", 201],
  ['application/vnd.tickets+json ; charset="UTF-8" ;', 201],
  ["application/json;charset=latin1", 415],
  ["application/json x", 415],
  ["json", 415],
])("a body of the type %s is answered with %i", async (type, status) => {
  const { app } = await setUp();
  expect(await call(app, "POST", "/api/webhooks", wanted, { "content-type": type })).toMatchObject({ status });
});

test("a body that is not JSON, compressed or too long is refused", async () => {
  const { app } = await setUp();
  expect(await call(app, "POST", "/api/webhooks", "a=b", { "content-type": "application/x-www-form-urlencoded" })).toMatchObject({
    status: 415,
    codes: ["unsupported_media_type"],
  });
  expect(await call(app, "POST", "/api/webhooks", wanted, { "content-encoding": "gzip" })).toMatchObject({
    status: 415,
    codes: ["unsupported_encoding"],
  });
  expect(await call(app, "POST", "/api/webhooks", { ...wanted, description: "a".repeat(3000) })).toMatchObject({
    status: 413,
    codes: ["too_large"],
  });
});

test("a change needs the version that was read", async () => {
  const { app } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  const at = String(headers.location);
  const change = { url: "https://tickets.example/b", events: ["ticket.created"] };
  const changed = await call(app, "PUT", at, change, { "if-match": 'W/"1"' });
  expect(changed).toMatchObject({ status: 200, json: { ...change, version: 2 }, headers: { etag: '"2"' } });
  expect(changed.json).not.toHaveProperty("description");
  expect(await call(app, "PUT", at, change, { "if-match": '"1"' })).toMatchObject({ status: 409, codes: ["stale_version"] });
  expect(await call(app, "PUT", at, { ...change, version: 1 })).toMatchObject({ status: 409, codes: ["stale_version"] });
  expect(await call(app, "PUT", at, { ...change, version: 1 }, { "if-match": '"2"' })).toMatchObject({
    status: 400,
    codes: ["invalid"],
  });
  expect(await call(app, "PUT", at, change, { "if-match": "2" })).toMatchObject({ status: 400, codes: ["invalid"] });
  expect(await call(app, "PUT", at, { ...change, status: "off" })).toMatchObject({ status: 400, codes: ["invalid"] });
  const off = await call(app, "PUT", at, { ...change, status: "disabled" });
  expect(off.json).toMatchObject({ status: "disabled", disabledReason: "user" });
  expect(await call(app, "POST", at + "/test")).toMatchObject({ status: 409, codes: ["endpoint_disabled"] });
});

test.each<[string, number, string[] | undefined]>([
  ['"version":1', 200, undefined],
  ['"version":1.0', 400, ["wrong_type"]],
  ['"version":1e0', 400, ["wrong_type"]],
  ['"version":10E-1', 400, ["wrong_type"]],
  ['"version":-0', 400, ["min"]],
  ['"version":9007199254740993', 400, ["wrong_type"]],
  ['"version":"1"', 400, ["wrong_type"]],
  ['"version":1,"description":"1.0 \\" 2.0 \\\\"', 200, undefined],
  ['"version":1,"unknown":[1.0,{"version":1.5}]', 200, undefined],
])("a change with %s is answered with %i", async (members, status, codes) => {
  const { app } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  const body = `{"url":"https://tickets.example/b","events":["ticket.created"],${members}}`;
  const changed = await call(app, "PUT", String(headers.location), body);
  expect(changed).toMatchObject({ status, codes });
  if (body.includes("description")) {
    expect(changed.json["description"]).toBe('1.0 " 2.0 \\');
  }
});

test("the endpoint of another user is not there", async () => {
  const { app } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  const at = String(headers.location);
  const other = { authorization: "Bearer " + stranger };
  for (const [method, url, body] of [
    ["GET", at, undefined],
    ["PUT", at, wanted],
    ["DELETE", at, undefined],
    ["POST", at + "/rotate-secret", undefined],
    ["POST", at + "/test", undefined],
    ["GET", at + "/deliveries", undefined],
    ["POST", at + "/deliveries/msg_x/redeliver", undefined],
  ] as const) {
    expect(await call(app, method, url, body, other), url).toMatchObject({ status: 404, codes: ["not_found"] });
  }
  expect((await call(app, "GET", "/api/webhooks", undefined, other)).json).toEqual([]);
});

test("a test is a delivery, and is in the list", async () => {
  const { app, begun } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  const at = String(headers.location);
  const tested = await call(app, "POST", at + "/test", "not read", { "content-type": "text/plain" });
  expect(tested).toMatchObject({ status: 202, json: { eventType: "webhook.test", status: "pending", attempts: 0 } });
  expect(begun.map(({ id }) => id)).toEqual([tested.json["id"]]);
  await call(app, "POST", at + "/test");
  const page = await call(app, "GET", at + "/deliveries?limit=1");
  expect(page.json).toHaveLength(1);
  const next = /^<(.*)>; rel="next"$/.exec(String(page.headers.link))?.[1] ?? "";
  const last = await call(app, "GET", next);
  expect(last.json).toEqual([tested.json]);
  expect(last.headers).not.toHaveProperty("link");
  const again = await call(app, "POST", `${at}/deliveries/${String(tested.json["id"])}/redeliver`);
  expect(again).toMatchObject({ status: 202, json: { id: tested.json["id"] } });
});

test.each([
  ["limit=0", "min"],
  ["limit=-1", "min"],
  ["limit=201", "max"],
  ["limit=a", "wrong_type"],
  ["limit=", "wrong_type"],
  ["limit=%2B1", "wrong_type"],
  ["cursor=a", "invalid"],
  ["cursor=" + "1".repeat(300), "invalid"],
])("the page %s has the code %s", async (query, code) => {
  const { app } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  expect(await call(app, "GET", `${String(headers.location)}/deliveries?${query}`)).toMatchObject({ status: 400, codes: [code] });
});

test("of several values of a query the first one counts, also in the link to the next page", async () => {
  const { app } = await setUp();
  const { headers } = await call(app, "POST", "/api/webhooks", wanted);
  const at = String(headers.location);
  await call(app, "POST", at + "/test");
  await call(app, "POST", at + "/test");
  const page = await call(app, "GET", `${at}/deliveries?limit=1&limit=500&cursor=&cursor=a`);
  expect(page).toMatchObject({ status: 200 });
  expect(page.json).toHaveLength(1);
  expect(page.headers.link).toBe(`<${at}/deliveries?cursor=1&limit=1&limit=500>; rel="next"`);
});

test("an error is problem+json, with the request's id and its trace in the log", async () => {
  const { app, lines } = await setUp();
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const response = await call(app, "GET", "/api/webhooks", undefined, { authorization: "", "x-request-id": "mine", traceparent });
  expect(response).toMatchObject({ status: 401, codes: ["not_signed_in"] });
  expect(response.headers).toMatchObject({
    "content-type": "application/problem+json",
    "www-authenticate": "Bearer",
    "x-request-id": "mine",
  });
  expect(response.json).toMatchObject({ type: "about:blank", title: "Unauthorized", status: 401, requestId: "mine" });
  expect(lines.at(-1)).toMatchObject({
    level: "INFO",
    msg: "request",
    status: 401,
    requestId: "mine",
    traceId: "0af7651916cd43dd8448eb211c80319c",
  });
});

test("unknown paths and methods have codes", async () => {
  const { app } = await setUp();
  expect(await call(app, "GET", "/api/nothing")).toMatchObject({ status: 404, codes: ["not_found"] });
  expect(await call(app, "PATCH", "/api/webhooks")).toMatchObject({
    status: 405,
    codes: ["method_not_allowed"],
    headers: { allow: "GET, HEAD, POST" },
  });
  expect(await call(app, "GET", "/api/webhooks/%zz")).toMatchObject({ status: 400, codes: ["bad_request"] });
});

test("clients do not see the text of a defect", async () => {
  const { app, store, lines } = await setUp();
  store.account = () => Promise.reject(new TypeError("a secret detail"));
  const response = await call(app, "GET", "/api/webhooks");
  expect(response).toMatchObject({ status: 500, codes: ["internal"] });
  expect(JSON.stringify(response.json)).not.toContain("secret detail");
  expect(lines.at(-1)).toMatchObject({ level: "ERROR", error: "a secret detail" });
});

test("while the store is away, the code shows that nothing was changed", async () => {
  const { app, sidecar } = await setUp();
  sidecar.get = () => Promise.reject(new Error("away"));
  const response = await call(app, "GET", "/api/webhooks");
  expect(response).toMatchObject({ status: 503, codes: ["unavailable"], headers: { "retry-after": "1" } });
});

test("/readyz has the result of each check", async () => {
  const { app, health } = await setUp();
  expect((await call(app, "GET", "/healthz")).json).toEqual({ status: "ok" });
  expect(await call(app, "GET", "/readyz")).toMatchObject({ status: 503, codes: ["not_ready"], json: { checks: {} } });
  health.state = "running";
  let away = false;
  health.check("store", () => (away ? Promise.reject(new Error("away")) : Promise.resolve()));
  expect(await call(app, "GET", "/readyz")).toMatchObject({ status: 200, json: { status: "ready", checks: { store: "ok" } } });
  away = true;
  expect(await call(app, "GET", "/readyz")).toMatchObject({
    status: 503,
    codes: ["not_ready"],
    json: { checks: { store: "not reachable" } },
  });
});

test("only the sidecar may call back", async () => {
  const callbacks = newCallbackApp(config);
  callbacks.post("/events", () => ({}));
  const post = (headers: Record<string, string>) => callbacks.inject({ method: "POST", url: "/events", payload: "{}", headers });
  expect((await post({})).statusCode).toBe(401);
  expect((await post({ "dapr-api-token": "wrong" })).statusCode).toBe(401);
  expect((await post({ "dapr-api-token": config.apiToken })).statusCode).toBe(200);
  expect((await callbacks.inject({ method: "GET", url: "/healthz" })).statusCode).toBe(200);
});
