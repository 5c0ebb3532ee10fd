// One attempt: an HTTP request to an address in the public internet, with bounds for everything that the receiver decides.
import { Resolver } from "node:dns/promises";
import type { LookupFunction } from "node:net";
import { Agent, buildConnector } from "undici";
import { attemptTime, keptBytes, type Attempt } from "./delivery.ts";
import { textOfError } from "./log.ts";
import { isAllowedAddress, isLocalName, isLoopback } from "./network.ts";

const connectTime = 5000;
/** How long a connection to a receiver is kept without a request. */
const idleTime = 4000;
/** How long the body of an answer is waited for once its status is known. */
const bodyTime = 2000;

/** The text does not have the address, and is the same for a name without one: nobody learns the names of this network. */
class NotAllowed extends Error {
  constructor(host: string) {
    super(`${host} has no address in the public internet`);
  }
}

export class Deliverer {
  private readonly agent: Agent;
  private readonly resolver = new Resolver({ timeout: 2000, tries: 2 });
  private readonly allowLoopback: boolean;

  /** ca has the certificates of the authorities that are trusted in place of Node's own list; for tests. */
  constructor(options: { allowLoopback: boolean; ca?: string }) {
    this.allowLoopback = options.allowLoopback;
    // Redirects are not followed, and no proxy of the environment is used: undici does neither by itself.
    this.agent = new Agent({
      connect: this.connector(options.ca),
      keepAliveTimeout: idleTime,
      keepAliveMaxTimeout: idleTime,
      headersTimeout: attemptTime,
      bodyTimeout: bodyTime,
      maxHeaderSize: 16 << 10,
      maxResponseSize: 1 << 20,
      pipelining: 1,
    });
  }

  /** Sends a message. It does not throw: the attempt has the status of the answer, or why there was none. */
  async attempt(url: string, headers: Record<string, string>, body: string): Promise<Attempt> {
    const began = Date.now();
    const attempt: Attempt = { at: new Date(began).toISOString(), durationMs: 0 };
    const end = AbortSignal.timeout(attemptTime);
    try {
      const { origin, pathname, search } = new URL(url);
      const response = await this.agent.request({
        origin,
        path: pathname + search,
        method: "POST",
        headers: { ...headers, "content-type": "application/json", "user-agent": "boxoffice-webhooks/1" },
        body,
        signal: end,
      });
      attempt.status = response.statusCode;
      const text = await beginning(response.body, AbortSignal.any([end, AbortSignal.timeout(bodyTime)]));
      if (text !== "") {
        attempt.body = text;
      }
    } catch (error) {
      attempt.error = reasonOf(error);
    }
    attempt.durationMs = Date.now() - began;
    return attempt;
  }

  async close(): Promise<void> {
    await this.agent.destroy();
  }

  // An address is checked when it is connected to, so a name that resolves to another one later is no way around the check.
  private connector(ca: string | undefined): buildConnector.connector {
    const connect = buildConnector({
      timeout: connectTime,
      lookup: this.lookup,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: 1000,
      minVersion: "TLSv1.2",
      ...(ca === undefined ? {} : { ca }),
    });
    return (options, callback) => {
      const host = options.hostname.replace(/^\[|\]$/g, "");
      const refused = (address: string) =>
        !isAllowedAddress(address, this.allowLoopback) || (options.protocol === "http:" && !isLoopback(address));
      if (/^[\d.]+$|:/.test(host) && refused(host)) {
        callback(new NotAllowed(host), null);
        return;
      }
      connect(options, (...[error, socket]: buildConnector.CallbackArgs) => {
        if (socket?.remoteAddress !== undefined && refused(socket.remoteAddress)) {
          socket.destroy();
          callback(new NotAllowed(host), null);
        } else if (socket) {
          callback(null, socket);
        } else {
          callback(error, null);
        }
      });
    };
  }

  private readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.resolve(hostname).then(
      (addresses) => {
        const [first] = addresses;
        if (options.all) {
          callback(null, addresses);
        } else {
          callback(null, first?.address ?? "", first?.family);
        }
      },
      (error: unknown) => {
        callback(error as Error, [], 0);
      },
    );
  };

  /** Resolves a name by DNS. (The system's resolver would use one of four threads for each name, and names of the local network.) */
  private async resolve(name: string): Promise<{ address: string; family: 4 | 6 }[]> {
    if (isLocalName(name)) {
      return this.checked(name, [
        { address: "127.0.0.1", family: 4 },
        { address: "::1", family: 6 },
      ]);
    }
    const [v4, v6] = await Promise.allSettled([this.resolver.resolve4(name), this.resolver.resolve6(name)]);
    const addresses = [
      ...(v4.status === "fulfilled" ? v4.value : []).map((address) => ({ address, family: 4 as const })),
      ...(v6.status === "fulfilled" ? v6.value : []).map((address) => ({ address, family: 6 as const })),
    ];
    if (addresses.length === 0) {
      throw new NotAllowed(name);
    }
    return this.checked(name, addresses);
  }

  private checked(name: string, addresses: { address: string; family: 4 | 6 }[]) {
    if (addresses.some(({ address }) => !isAllowedAddress(address, this.allowLoopback))) {
      throw new NotAllowed(name);
    }
    return addresses;
  }
}

/** The first bytes of a body, as text. The rest is not read. A body that breaks off, or takes long, is what came until then. */
async function beginning(body: AsyncIterable<Buffer> & { destroy(): unknown }, signal: AbortSignal): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  const stop = () => body.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const part of body) {
      parts.push(part);
      length += part.length;
      if (length >= keptBytes) {
        break; // ends the stream, and with it the connection
      }
    }
  } catch {
    // The status counts.
  } finally {
    signal.removeEventListener("abort", stop);
  }
  // A character that is cut off becomes no replacement character.
  const text = new TextDecoder().decode(Buffer.concat(parts).subarray(0, keptBytes), { stream: true });
  // Some stores cannot store U+0000.
  return text.replaceAll("\0", "");
}

const reasons: Record<string, string> = {
  ECONNREFUSED: "the connection was refused",
  ECONNRESET: "the connection was reset",
  EPIPE: "the connection was closed",
  ETIMEDOUT: "no connection in time",
  EHOSTUNREACH: "the host cannot be reached",
  ENETUNREACH: "the network cannot be reached",
  UND_ERR_CONNECT_TIMEOUT: `no connection in ${connectTime / 1000} s`,
  UND_ERR_HEADERS_TIMEOUT: `no answer in ${attemptTime / 1000} s`,
  UND_ERR_HEADERS_OVERFLOW: "the headers of the answer are too long",
  UND_ERR_SOCKET: "the connection was closed before an answer",
};

/** Why there was no answer, for people. */
function reasonOf(error: unknown): string {
  if (error instanceof Error && error.name === "TimeoutError") {
    return `no answer in ${attemptTime / 1000} s`;
  }
  const inner = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  const code = (inner as NodeJS.ErrnoException).code ?? "";
  return reasons[code] ?? textOfError(inner).slice(0, 200);
}
