// Which addresses an endpoint may have. Everything that is not public address space is refused: the service must not be a way into
// the network that it runs in.
import ipaddr from "ipaddr.js";
import { Problem } from "./problem.ts";

const longestUrl = 2048;
/** Ports below this one are refused, except that of https. */
const lowestPort = 1024;
/** Public addresses at which a cloud answers its own machines: the host of Azure (DNS, metadata of extensions). */
const platformAddresses = new Set(["168.63.129.16"]);
const globalUnicast = ipaddr.IPv6.parse("2000::");

/** Whether an address is public, or is a loopback address and these are allowed. */
export function isAllowedAddress(text: string, allowLoopback: boolean): boolean {
  const address = parseAddress(text);
  return address !== undefined && (isPublic(address) || (allowLoopback && address.range() === "loopback"));
}

/** Whether an address is that of this machine itself. */
export function isLoopback(text: string): boolean {
  return parseAddress(text)?.range() === "loopback";
}

/** Parses an address. One of IPv4 within IPv6 (::ffff:10.0.0.1) is the one of IPv4. */
function parseAddress(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  const bare = text.replace(/^\[|\]$/g, "").replace(/%.*$/, "");
  return ipaddr.isValid(bare) ? ipaddr.process(bare) : undefined;
}

function isPublic(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  // Ranges that translate to addresses of IPv4 (NAT64, 6to4, Teredo) have names of their own.
  if (address.range() !== "unicast") {
    return false;
  }
  if (platformAddresses.has(address.toString())) {
    return false;
  }
  return address instanceof ipaddr.IPv4 || address.match(globalUnicast, 3);
}

/**
 * Parses the URL of an endpoint. It must be https. With allowLoopback it may also be http to this machine. Names are resolved and
 * checked again when they are connected to (deliverer.ts).
 */
export function parseEndpointUrl(text: string, allowLoopback: boolean): URL {
  if (text.length > longestUrl) {
    throw tooLong();
  }
  if (!URL.canParse(text)) {
    throw new Problem("invalid", { field: "url", code: "invalid", message: "Url must be a URL." });
  }
  const url = new URL(text);
  // Other characters than ASCII have become longer.
  if (url.href.length > longestUrl) {
    throw tooLong();
  }
  // URL has brought the host into one form: 0x7f.1 is 127.0.0.1.
  const host = url.hostname.toLowerCase();
  const literal = parseAddress(host) !== undefined;
  const local = isLocalName(host) || isLoopback(host);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && local && allowLoopback)) {
    throw refused("Url must begin with https://.");
  }
  if (url.username !== "" || url.password !== "") {
    throw refused("Url must not have a user or a password: verify signatures instead.");
  }
  // The network policy of Kubernetes (to-endpoints) lets these ports out. A URL has no port if it is that of its scheme.
  if (url.port !== "" && Number(url.port) < lowestPort) {
    throw refused(`Url must have the port 443 or one from ${lowestPort} on.`);
  }
  const single = !literal && !isLocalName(host) && !/[^.]\.[^.]/.test(host);
  if ((literal && !isAllowedAddress(host, allowLoopback)) || (isLocalName(host) && !allowLoopback) || single) {
    throw refused("Url must have an address in the public internet, or a whole name like tickets.example.");
  }
  return url;
}

/** Whether a name always stands for this machine (RFC 6761). */
export function isLocalName(host: string): boolean {
  return /^(.*\.)?localhost\.?$/.test(host);
}

function tooLong(): Problem {
  return new Problem("invalid", { field: "url", code: "max", message: `Url must be at most ${longestUrl} characters long.` });
}

function refused(message: string): Problem {
  return new Problem("invalid", { field: "url", code: "url_not_allowed", message });
}
