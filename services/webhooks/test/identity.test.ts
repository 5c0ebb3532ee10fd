import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { FastifyRequest } from "fastify";
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK } from "jose";
import { afterEach, beforeAll, expect, test } from "vitest";
import { Auth, Verifier, type Trust } from "../src/identity.ts";
import { Problem } from "../src/problem.ts";
import { seller } from "./fixtures.ts";

interface Key {
  jwk: JWK;
  private: CryptoKey;
}

let key: Key;
let other: Key;

async function newKey(kid: string): Promise<Key> {
  const pair = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
  return { jwk: { ...(await exportJWK(pair.publicKey)), kid, use: "sig", alg: "EdDSA" }, private: pair.privateKey };
}

beforeAll(async () => {
  [key, other] = await Promise.all([newKey("one"), newKey("two")]);
});

const start = Date.UTC(2030, 0, 2, 12);
let now = start;

interface Claims {
  iss?: string;
  sub?: string;
  iat?: number;
  exp?: number;
  epoch?: number;
  sid?: string;
}

function token(claims: Claims = {}, by: Key = key, kid = by.jwk.kid): Promise<string> {
  const at = start / 1000;
  const all = { iss: "boxoffice/auth", sub: seller, iat: at, exp: at + 3600, sid: "session", epoch: 2, ...claims };
  const header = { alg: "EdDSA", ...(kid === undefined ? {} : { kid }) };
  return new SignJWT(all).setProtectedHeader(header).sign(by.private);
}

function newVerifier(trust: Partial<Trust> | (() => Promise<Trust>)): { verifier: Verifier; fetched: () => number } {
  now = start;
  let fetched = 0;
  const fetch = () => {
    fetched++;
    return typeof trust === "function" ? trust() : Promise.resolve({ keys: [key.jwk], users: {}, sessions: [], ...trust });
  };
  return { verifier: new Verifier(fetch, () => now), fetched: () => fetched };
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Problem);
  return (error as Problem).details[0]?.code;
}

test("a token of auth names its user", async () => {
  const { verifier, fetched } = newVerifier({});
  for (let i = 0; i < 3; i++) {
    expect(await verifier.verify(await token())).toEqual({ id: seller, epoch: 2, session: "session" });
  }
  expect(fetched()).toBe(1);
});

test.each<[string, () => Promise<string>]>([
  ["token_expired", () => token({ exp: start / 1000 - 10 })],
  ["token_invalid", () => token({ iat: start / 1000 + 60 })],
  ["token_invalid", () => token({ iss: "somebody" })],
  ["token_invalid", () => token({ sub: "" })],
  ["token_invalid", () => token({}, other, "one")],
  ["token_invalid", () => token({}, other)],
  ["token_invalid", async () => (await token()) + "x"],
  ["token_invalid", () => Promise.resolve("a.b.c")],
  ["token_invalid", () => Promise.resolve("a".repeat(5000))],
  ["token_invalid", () => new SignJWT({ sub: seller }).setProtectedHeader({ alg: "HS256", kid: "one" }).sign(Buffer.alloc(32))],
])("the code %s of a bad token", async (code, bad) => {
  const { verifier } = newVerifier({});
  expect(await codeOf(verifier.verify(await bad()))).toBe(code);
});

test("clocks may differ by five seconds", async () => {
  const { verifier } = newVerifier({});
  expect(await verifier.verify(await token({ iat: start / 1000 + 4 }))).toMatchObject({ id: seller });
  expect(await verifier.verify(await token({ exp: start / 1000 - 4 }))).toMatchObject({ id: seller });
});

test("a token that is remembered ends, too", async () => {
  const { verifier } = newVerifier({});
  const text = await token();
  await verifier.verify(text);
  now = start + 3_700_000;
  expect(await codeOf(verifier.verify(text))).toBe("token_expired");
});

test("revoked tokens are refused, also those that are remembered", async () => {
  let trust: Trust = { keys: [key.jwk], users: {}, sessions: [] };
  const { verifier } = newVerifier(() => Promise.resolve(trust));
  const text = await token();
  await verifier.verify(text);
  trust = { ...trust, users: { [seller]: 3 } };
  await verifier.refresh();
  expect(await codeOf(verifier.verify(text))).toBe("token_revoked");
  trust = { ...trust, users: {}, sessions: ["session"] };
  await verifier.refresh();
  expect(await codeOf(verifier.verify(text))).toBe("token_revoked");
});

test("while there are no keys, the code shows it", async () => {
  const { verifier } = newVerifier(() => Promise.reject(new Error("away")));
  expect(await codeOf(verifier.verify(await token()))).toBe("keys_unavailable");
});

test("an unknown key is fetched, and not again at once", async () => {
  const { verifier, fetched } = newVerifier({ keys: [key.jwk, { ...other.jwk, use: "enc" }] });
  await verifier.verify(await token());
  now += 6000;
  for (let i = 0; i < 5; i++) {
    expect(await codeOf(verifier.verify(await token({}, other)))).toBe("token_invalid");
  }
  expect(fetched()).toBe(2);
});

function request(headers: Record<string, string>): FastifyRequest {
  return { headers, annotations: {} } as unknown as FastifyRequest;
}

test("the token comes from the Authorization header, or else from the cookie", async () => {
  const { verifier } = newVerifier({});
  const text = await token();
  for (const headers of [
    { authorization: "Bearer " + text },
    { authorization: "bearer  " + text + " " },
    { cookie: `a=b; jwt=${text}` },
  ]) {
    expect((await verifier.callerOf(request(headers as Record<string, string>))).id).toBe(seller);
  }
  expect(await codeOf(verifier.callerOf(request({})))).toBe("not_signed_in");
  expect(await codeOf(verifier.callerOf(request({ cookie: "jwt=" })))).toBe("not_signed_in");
  expect(await codeOf(verifier.callerOf(request({ authorization: "Basic x", cookie: `jwt=${text}` })))).toBe("token_invalid");
});

test("a header of many spaces takes no long time", async () => {
  const { verifier } = newVerifier({});
  const began = performance.now();
  expect(await codeOf(verifier.callerOf(request({ authorization: "Bearer a" + " ".repeat(100_000) + "b" })))).toBe(
    "token_invalid",
  );
  expect(performance.now() - began).toBeLessThan(1000);
});

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("keys and revocations come from the replica that answers", async () => {
  const away = await serve((_request, response) => response.writeHead(503).end());
  const url = await serve((request, response) => {
    const found = request.url === "/.well-known/jwks.json" ? { keys: [key.jwk] } : { users: { a: 1 }, sessions: ["s"] };
    response.end(JSON.stringify(found));
  });
  const auth = new Auth({ authUrls: [away, url], caFile: "" });
  expect(await auth.fetch()).toEqual({ keys: [key.jwk], users: { a: 1 }, sessions: ["s"] });
  await expect(new Auth({ authUrls: [away], caFile: "" }).fetch()).rejects.toThrow(/does not answer/);
});
