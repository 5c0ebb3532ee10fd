import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { Deliverer } from "../src/deliverer.ts";

const servers: Server[] = [];
const deliverers: Deliverer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  await Promise.all(deliverers.splice(0).map((each) => each.close()));
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?a=b`;
}

/**
 * A file of test/certificates. receiver.pem and expired.pem are of the authority, and all three of servers are for the name localhost
 * and have one key. Those that have not expired are valid from 2020 to 2120.
 */
function pem(name: string): string {
  return readFileSync(new URL("certificates/" + name, import.meta.url), "utf8");
}

/** Serves with TLS, and returns the port and the number of requests. */
async function serveTls(certificate: string) {
  const seen = { port: 0, requests: 0 };
  const server = createTlsServer({ cert: pem(certificate), key: pem("receiver.key") }, (_request, response) => {
    seen.requests++;
    response.writeHead(204).end();
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  seen.port = (server.address() as AddressInfo).port;
  return seen;
}

function newDeliverer(allowLoopback = true, ca?: string): Deliverer {
  const deliverer = new Deliverer({ allowLoopback, ...(ca !== undefined && { ca }) });
  deliverers.push(deliverer);
  return deliverer;
}

const answerWith =
  (status: number, body = "") =>
  (_request: IncomingMessage, response: ServerResponse) =>
    response.writeHead(status, { location: "http://127.0.0.1:1/" }).end(body);

test("the receiver gets the body and the headers, and not the trace of the event", async () => {
  let seen: { request: IncomingMessage; body: string } | undefined;
  const url = await serve((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => (body += part.toString()));
    request.on("end", () => {
      seen = { request, body };
      response.writeHead(202).end("thanks");
    });
  });
  const attempt = await newDeliverer().attempt(url, { "webhook-id": "msg_1" }, '{"a":"☃"}');
  expect(attempt).toMatchObject({ status: 202, body: "thanks" });
  expect(attempt.durationMs).toBeGreaterThanOrEqual(0);
  expect(seen?.body).toBe('{"a":"☃"}');
  expect(seen?.request.method).toBe("POST");
  expect(seen?.request.url).toBe("/hook?a=b");
  expect(seen?.request.headers).toMatchObject({ "webhook-id": "msg_1", "content-type": "application/json" });
  expect(seen?.request.headers).not.toHaveProperty("traceparent");
});

test.each([301, 302, 303, 307, 308])("a redirect %i is not followed", async (status) => {
  let requests = 0;
  const url = await serve((request, response) => {
    requests++;
    answerWith(status)(request, response);
  });
  expect(await newDeliverer().attempt(url, {}, "{}")).toMatchObject({ status });
  expect(requests).toBe(1);
});

test("500 and then 200 are two attempts", async () => {
  let requests = 0;
  const url = await serve((request, response) => {
    answerWith(++requests === 1 ? 500 : 200)(request, response);
  });
  const deliverer = newDeliverer();
  expect((await deliverer.attempt(url, {}, "{}")).status).toBe(500);
  expect((await deliverer.attempt(url, {}, "{}")).status).toBe(200);
});

test("the first 1024 bytes of a huge answer are kept, and the rest is not read", async () => {
  let written = 0;
  const url = await serve((_request, response) => {
    response.writeHead(200);
    const more = () => {
      while (written < 1 << 30 && !response.destroyed) {
        written += 65536;
        if (!response.write("a".repeat(65536))) {
          response.once("drain", more);
          return;
        }
      }
    };
    more();
  });
  const attempt = await newDeliverer().attempt(url, {}, "{}");
  expect(attempt).toMatchObject({ status: 200, body: "a".repeat(1024) });
  expect(written).toBeLessThan(32 << 20);
});

test("a character that is cut off and U+0000 are left out of the text", async () => {
  const url = await serve(answerWith(200, "\0" + "a".repeat(1022) + "☃"));
  expect((await newDeliverer().attempt(url, {}, "{}")).body).toBe("a".repeat(1022));
});

test("an answer whose body never ends is one, by its status", async () => {
  const url = await serve((_request, response) => {
    response.writeHead(200);
    response.write("begun");
  });
  expect(await newDeliverer().attempt(url, {}, "{}")).toMatchObject({ status: 200, body: "begun" });
});

test("a connection that closes is no answer", async () => {
  const url = await serve((request) => request.socket.destroy());
  const attempt = await newDeliverer().attempt(url, {}, "{}");
  expect(attempt.status).toBeUndefined();
  expect(attempt.error).toMatch(/closed|reset/);
});

test("a refused connection is no answer", async () => {
  expect(await newDeliverer().attempt("http://127.0.0.1:1/", {}, "{}")).toMatchObject({ error: "the connection was refused" });
});

test("headers that are too long are no answer", async () => {
  const url = await serve((_request, response) => response.writeHead(200, { a: "b".repeat(60_000) }).end());
  const attempt = await newDeliverer().attempt(url, {}, "{}");
  expect(attempt.status).toBeUndefined();
  expect(attempt.error).toBe("the headers of the answer are too long");
});

test("plain text is no answer of https", async () => {
  const url = (await serve(answerWith(200))).replace("http:", "https:");
  const attempt = await newDeliverer().attempt(url, {}, "{}");
  expect(attempt.status).toBeUndefined();
  expect(attempt.error).toBeTruthy();
});

test("a receiver with a valid certificate gets messages by https", async () => {
  const server = await serveTls("receiver.pem");
  const deliverer = newDeliverer(true, pem("authority.pem"));
  for (let n = 1; n <= 2; n++) {
    expect(await deliverer.attempt(`https://localhost:${server.port}/hook`, {}, "{}")).toMatchObject({ status: 204 });
    expect(server.requests).toBe(n);
  }
});

test.each([
  ["of another name", "receiver.pem", "a.localhost", "authority.pem", /altnames/],
  ["of a name and not of the address", "receiver.pem", "127.0.0.1", "authority.pem", /altnames/],
  ["that has expired", "expired.pem", "localhost", "authority.pem", /expired/],
  ["that is signed by itself", "self-signed.pem", "localhost", "authority.pem", /self-signed/],
  ["of an authority that nobody knows", "receiver.pem", "localhost", undefined, /unable to/],
])("a certificate %s is refused", async (_what, certificate, host, authority, reason) => {
  const server = await serveTls(certificate);
  const deliverer = newDeliverer(true, authority === undefined ? undefined : pem(authority));
  const attempt = await deliverer.attempt(`https://${host}:${server.port}/hook`, {}, "{}");
  expect(attempt.status).toBeUndefined();
  expect(attempt.error).toMatch(reason);
  expect(server.requests).toBe(0);
});

test("an address in this network is not connected to, whatever its form", async () => {
  let requests = 0;
  const url = await serve((request, response) => {
    requests++;
    answerWith(200)(request, response);
  });
  const { port } = new URL(url);
  const deliverer = newDeliverer(false);
  for (const host of [
    "127.0.0.1",
    "localhost",
    "a.localhost",
    "0x7f.1",
    "2130706433",
    "[::ffff:127.0.0.1]",
    "[::1]",
    "0.0.0.0",
    "[::]",
  ]) {
    for (const scheme of ["http", "https"]) {
      const attempt = await deliverer.attempt(`${scheme}://${host}:${port}/`, {}, "{}");
      expect(attempt.error, host).toMatch(/no address in the public internet/);
    }
  }
  expect(requests).toBe(0);
});

test("with loopback allowed, the rest of this network is not", async () => {
  const deliverer = newDeliverer(true);
  for (const host of ["10.0.0.1", "169.254.169.254", "192.168.1.1", "[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]", "0.0.0.0"]) {
    expect((await deliverer.attempt(`https://${host}/`, {}, "{}")).error, host).toMatch(/no address in the public internet/);
  }
  // http is for this machine only.
  expect((await deliverer.attempt("http://8.8.8.8/", {}, "{}")).error).toMatch(/no address in the public internet/);
});

test("a name that resolves to an address in this network is not connected to", async () => {
  const deliverer = newDeliverer(false);
  const resolver = (deliverer as unknown as { resolver: { resolve4: unknown; resolve6: unknown } }).resolver;
  resolver.resolve4 = () => Promise.resolve(["8.8.8.8", "169.254.169.254"]);
  resolver.resolve6 = () => Promise.resolve([]);
  const refused = "tickets.example has no address in the public internet";
  expect((await deliverer.attempt("https://tickets.example/", {}, "{}")).error).toBe(refused);
  resolver.resolve4 = () => Promise.resolve([]);
  resolver.resolve6 = () => Promise.resolve(["fd00::1"]);
  expect((await deliverer.attempt("https://tickets.example/", {}, "{}")).error).toBe(refused);
  // A name that does not exist has the same text, so nobody can find out which names of this network exist.
  resolver.resolve6 = () => Promise.reject(new Error("queryAaaa ENOTFOUND"));
  expect((await deliverer.attempt("https://tickets.example/", {}, "{}")).error).toBe(refused);
});
