// Signatures of Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
import { createHmac, randomBytes } from "node:crypto";

const secretPrefix = "whsec_";
const secretBytes = 32;

/** Makes a secret: "whsec_" and the base64 of 32 random bytes. */
export function newSecret(): string {
  return secretPrefix + randomBytes(secretBytes).toString("base64");
}

/** The headers of one attempt. There is a signature for each secret. */
export function signedHeaders(id: string, body: string, secrets: string[], now: Date): Record<string, string> {
  const timestamp = String(Math.floor(now.getTime() / 1000));
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.slice(secretPrefix.length), "base64");
    return "v1," + createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  });
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures.join(" ") };
}
