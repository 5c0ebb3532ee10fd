import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { newSecret, signedHeaders } from "../src/signature.ts";

const body = JSON.stringify({ type: "order.completed", data: { title: "Größe ☃" } });

test("the published library verifies a signature", () => {
  const secret = newSecret();
  const headers = signedHeaders("msg_1", body, [secret], new Date());
  expect(new Webhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
});

test("while a secret is replaced, both verify", () => {
  const [fresh, old] = [newSecret(), newSecret()];
  const headers = signedHeaders("msg_1", body, [fresh, old], new Date());
  for (const secret of [fresh, old]) {
    expect(new Webhook(secret).verify(body, headers)).toBeTruthy();
  }
});

test("another secret, body, id or time does not verify", () => {
  const secret = newSecret();
  const headers = signedHeaders("msg_1", body, [secret], new Date());
  expect(() => new Webhook(newSecret()).verify(body, headers)).toThrow();
  expect(() => new Webhook(secret).verify(body + " ", headers)).toThrow();
  expect(() => new Webhook(secret).verify(body, { ...headers, "webhook-id": "msg_2" })).toThrow();
  const old = signedHeaders("msg_1", body, [secret], new Date(Date.now() - 10 * 60_000));
  expect(() => new Webhook(secret).verify(body, old)).toThrow();
});

test("a secret is the base64 of 24 to 64 bytes", () => {
  const secret = newSecret();
  expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]+=*$/);
  const bytes = Buffer.from(secret.slice(6), "base64").length;
  expect(bytes).toBeGreaterThanOrEqual(24);
  expect(bytes).toBeLessThanOrEqual(64);
});
