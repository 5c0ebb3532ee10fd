// Tokens of users, verified with auth's keys and revocations as services/internal/identity does.
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import type { FastifyRequest } from "fastify";
import { decodeProtectedHeader, errors, importJWK, jwtVerify, type CryptoKey, type JWK } from "jose";
import { Agent, request as httpRequest } from "undici";
import type { Config } from "./config.ts";
import type { Code } from "./contract.ts";
import type { Log } from "./log.ts";
import { Problem } from "./problem.ts";

const issuedBy = "boxoffice/auth";
/** The difference that the clocks of auth and of this machine may have, in seconds. */
const leeway = 5;
const requestTime = 2000;
/** The shortest time between two fetches that tokens cause, and that time while there are no keys. */
const fetchPause = 5000;
const firstFetchPause = 500;
const failedFetchPause = 2000;
const longestToken = 4096;
const rememberedTokens = 4096;

/** Whose request it is. */
export interface Caller {
  id: string;
  epoch: number;
  session: string;
}

/** Keys and revocations, as auth answers with them. */
export interface Trust {
  keys: JWK[];
  users: Record<string, number>;
  sessions: string[];
}

const unauthorized = (code: Code, message: string, cause?: unknown) => new Problem("unauthorized", { code, message }, { cause });
const notSignedIn = () => unauthorized("not_signed_in", "You are not signed in.");
const invalid = (cause?: unknown) => unauthorized("token_invalid", "The token is not valid. Sign in again.", cause);
const expired = () => unauthorized("token_expired", "Your session has ended. Sign in again.");
export const revoked = (): Problem => unauthorized("token_revoked", "You were signed out. Sign in again.");
const noKeys = (cause?: unknown) =>
  new Problem(
    "unavailable",
    { code: "keys_unavailable", message: "Signing in cannot be checked at the moment. Try again shortly." },
    { cause, retryAfter: 1 },
  );

export class Verifier {
  private readonly fetch: () => Promise<Trust>;
  private readonly now: () => number;
  private keys = new Map<string, CryptoKey | Uint8Array>();
  private names = "";
  private users = new Map<string, number>();
  private sessions = new Set<string>();
  private readonly good = new Map<string, { caller: Caller; expires: number }>();
  private fetching: Promise<void> | undefined;
  private triedAt = 0;
  private setAt: number;

  constructor(fetch: () => Promise<Trust>, now: () => number = Date.now) {
    this.fetch = fetch;
    this.now = now;
    this.setAt = now();
  }

  /** The user of a token. Otherwise it throws a problem: unauthorized, or unavailable if there are no keys. */
  async verify(token: string): Promise<Caller> {
    if (token.length > longestToken) {
      throw invalid();
    }
    const seen = this.good.get(token);
    if (seen && this.now() < seen.expires) {
      return this.unlessRevoked(seen.caller);
    }
    let caller: Caller;
    try {
      const key = await this.key(token);
      const { payload } = await jwtVerify(token, key, {
        algorithms: ["EdDSA"],
        issuer: issuedBy,
        clockTolerance: leeway,
        requiredClaims: ["exp", "iat", "sub"],
        currentDate: new Date(this.now()),
      });
      const { sub = "", iat = 0, exp = 0 } = payload;
      if (sub === "" || iat > this.now() / 1000 + leeway) {
        throw invalid();
      }
      const session = payload["sid"];
      const epoch = payload["epoch"];
      caller = { id: sub, epoch: typeof epoch === "number" ? epoch : 0, session: typeof session === "string" ? session : "" };
      if (this.good.size >= rememberedTokens) {
        this.good.clear();
      }
      this.good.set(token, { caller, expires: exp * 1000 });
    } catch (error) {
      if (error instanceof Problem) {
        throw error;
      }
      throw error instanceof errors.JWTExpired ? expired() : invalid(error);
    }
    return this.unlessRevoked(caller);
  }

  private unlessRevoked(caller: Caller): Caller {
    if (this.sessions.has(caller.session) || caller.epoch < (this.users.get(caller.id) ?? 0)) {
      throw revoked();
    }
    return caller;
  }

  /** The key that a token names. If it is not known, keys are fetched, unless that was done a moment ago. */
  private async key(token: string): Promise<CryptoKey | Uint8Array> {
    const { kid = "", alg } = decodeProtectedHeader(token);
    if (alg !== "EdDSA") {
      throw invalid();
    }
    const known = this.keys.get(kid);
    if (known) {
      return known;
    }
    let cause: unknown;
    if (this.now() - this.triedAt >= (this.keys.size === 0 ? firstFetchPause : fetchPause)) {
      try {
        await this.refresh();
      } catch (error) {
        cause = error;
      }
      this.triedAt = this.now();
    }
    const found = this.keys.get(kid);
    if (found) {
      return found;
    }
    throw this.keys.size === 0 ? noKeys(cause) : invalid();
  }

  /** Fetches keys and revocations. Callers at the same time share one fetch. */
  refresh(): Promise<void> {
    this.fetching ??= this.fetch()
      .then((trust) => this.set(trust))
      .finally(() => (this.fetching = undefined));
    return this.fetching;
  }

  private async set(trust: Trust): Promise<void> {
    const keys = new Map<string, CryptoKey | Uint8Array>();
    for (const jwk of trust.keys) {
      const usable =
        jwk.kty === "OKP" &&
        jwk.crv === "Ed25519" &&
        jwk.kid !== undefined &&
        (jwk.use ?? "sig") === "sig" &&
        (jwk.alg ?? "EdDSA") === "EdDSA";
      if (usable) {
        keys.set(jwk.kid ?? "", await importJWK(jwk, "EdDSA"));
      }
    }
    if (keys.size === 0) {
      throw new Error(`the key set holds no Ed25519 key among its ${trust.keys.length}`);
    }
    const names = trust.keys.map((jwk) => `${jwk.kid ?? ""} ${jwk.x ?? ""}`).join("\n");
    if (names !== this.names) {
      this.good.clear();
    }
    this.keys = keys;
    this.names = names;
    this.users = new Map(Object.entries(trust.users));
    this.sessions = new Set(trust.sessions.filter((session) => session !== ""));
    this.setAt = this.now();
  }

  /** How old keys and revocations are, in seconds. */
  age(): number {
    return (this.now() - this.setAt) / 1000;
  }

  /** Fetches at once, and then every period, give or take a fifth, until the signal. A failed fetch is repeated soon. */
  async watch(period: number, log: Log, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      let wait = period * (0.8 + Math.random() * 0.4);
      try {
        await this.refresh();
        if (failures >= 2) {
          log.info("auth's keys and revocations are fetched again");
        }
        failures = 0;
      } catch (error) {
        wait = Math.min(wait, failedFetchPause);
        if (++failures === 2) {
          log.warn("auth's keys and revocations cannot be fetched; tokens are verified with those fetched before", { error });
        }
      }
      await pause(wait, undefined, { signal }).catch(() => undefined);
    }
  }

  /** The caller of a request: by the token in the Authorization header, or else in the cookie. */
  async callerOf(request: FastifyRequest): Promise<Caller> {
    const caller = await this.verify(tokenOf(request));
    request.annotations["userId"] = caller.id;
    return caller;
  }
}

function tokenOf(request: FastifyRequest): string {
  const header = request.headers.authorization;
  if (header !== undefined && header !== "") {
    const token = header.slice("Bearer ".length).trim();
    if (!/^Bearer /i.test(header) || token === "") {
      throw invalid();
    }
    return token;
  }
  for (const part of (request.headers.cookie ?? "").split(";")) {
    const [name, value] = part.split("=", 2);
    if (name?.trim() === "jwt" && value?.trim()) {
      return value.trim();
    }
  }
  throw notSignedIn();
}

/** Fetches keys and revocations from one of auth's replicas, the last one that answered first. */
export class Auth {
  private readonly urls: string[];
  private readonly agent: Agent;
  private first = 0;

  constructor(config: Pick<Config, "authUrls" | "caFile">) {
    this.urls = config.authUrls;
    this.agent = new Agent({ connect: config.caFile === "" ? {} : { ca: readFileSync(config.caFile) }, keepAliveTimeout: 5000 });
  }

  async fetch(): Promise<Trust> {
    const keys = (await this.get("/.well-known/jwks.json")) as { keys?: JWK[] };
    // A release of auth that revokes no tokens does not have this path.
    const revocations = (await this.get("/.well-known/revocations", 404)) as Partial<Trust> | undefined;
    return { keys: keys.keys ?? [], users: revocations?.users ?? {}, sessions: revocations?.sessions ?? [] };
  }

  private async get(path: string, also?: number): Promise<unknown> {
    const failures: unknown[] = [];
    for (let i = 0; i < this.urls.length; i++) {
      const n = (this.first + i) % this.urls.length;
      try {
        const url = (this.urls[n] ?? "") + path;
        const signal = AbortSignal.timeout(requestTime);
        const response = await httpRequest(url, { dispatcher: this.agent, signal, headers: { accept: "application/json" } });
        const text = await response.body.text();
        if (response.statusCode !== 200 && response.statusCode !== also) {
          throw new Error(`GET ${url}: status ${response.statusCode}`);
        }
        this.first = n;
        return response.statusCode === 200 ? JSON.parse(text) : undefined;
      } catch (error) {
        failures.push(error);
      }
    }
    throw new Error("auth does not answer", { cause: failures[0] });
  }
}
