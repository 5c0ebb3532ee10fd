// The examples of README.md for receivers, run as they stand there, with messages of this service.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { runInNewContext } from "node:vm";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { newSecret, signedHeaders } from "../src/signature.ts";

const page = readFileSync(new URL("../README.md", import.meta.url), "utf8");

/** The only example in a language. */
function example(language: string): string {
  const found = [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, name]) => name === language);
  expect(found).toHaveLength(1);
  return found[0]?.[2] ?? "";
}

const secret = newSecret();
const body = '{"type":"order.completed","data":{"title":"Ünter den Linden ☃"}}';
const minutes = (n: number) => new Date(Date.now() + n * 60_000);

/** What comes to a receiver, and whether its example must take it. */
const requests = [
  { what: "a message", headers: signedHeaders("msg_1", body, [secret], new Date()), body, valid: true },
  {
    what: "a message during a rotation",
    headers: signedHeaders("msg_2", body, [newSecret(), newSecret(), secret], new Date()),
    body,
    valid: true,
  },
  {
    what: "a message of another secret",
    headers: signedHeaders("msg_3", body, [newSecret()], new Date()),
    body,
    valid: false,
  },
  {
    what: "a message that was changed",
    headers: signedHeaders("msg_4", body, [secret], new Date()),
    body: body.replace("completed", "cancelled"),
    valid: false,
  },
  {
    what: "a message with the id of another",
    headers: { ...signedHeaders("msg_5", body, [secret], new Date()), "webhook-id": "msg_1" },
    body,
    valid: false,
  },
  { what: "an old message", headers: signedHeaders("msg_6", body, [secret], minutes(-6)), body, valid: false },
  { what: "a message of the future", headers: signedHeaders("msg_7", body, [secret], minutes(6)), body, valid: false },
];

/** The response of Express, as far as the example uses it. */
class Response {
  code = 0;
  ended = false;

  status(code: number): this {
    this.code = code;
    return this;
  }

  end(): void {
    this.ended = true;
  }
}

interface ExpressRequest {
  body: Buffer;
  headers: Record<string, string>;
}

test("the example in TypeScript takes what is signed, and nothing else", () => {
  const [first = "", ...lines] = example("ts").split("\n");
  expect(first).toMatch(/^import \{ Webhook \} from "standardwebhooks";/);
  const handlers: ((request: ExpressRequest, response: Response) => void)[] = [];
  const queued: [string, unknown][] = [];
  runInNewContext(lines.join("\n"), {
    Webhook,
    process: { env: { WEBHOOK_SECRET: secret } },
    express: { raw: (options: object) => options },
    app: {
      post: (path: string, parser: object, handler: (typeof handlers)[0]) => {
        expect(path).toBe("/hook");
        expect(parser).toEqual({ type: "application/json" });
        handlers.push(handler);
      },
    },
    queue: { add: (id: string, message: unknown) => queued.push([id, message]) },
  });
  expect(handlers).toHaveLength(1);
  for (const request of requests) {
    const response = new Response();
    handlers[0]?.({ body: Buffer.from(request.body), headers: request.headers }, response);
    expect(response, request.what).toMatchObject({ code: request.valid ? 204 : 400, ended: true });
  }
  const valid = requests.filter((request) => request.valid);
  expect(queued).toEqual(valid.map((request) => [request.headers["webhook-id"], JSON.parse(request.body) as unknown]));
});

const hasPython = spawnSync("python3", ["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]).status === 0;

test.skipIf(!hasPython)("the example in Python takes what is signed, and nothing else (needs Python 3.9 or later)", () => {
  const program = `${example("python")}
import json, sys
for request in json.load(sys.stdin):
    print(json.dumps(verify(request["secret"], request["headers"], request["body"].encode())))
`;
  const input = JSON.stringify(requests.map((request) => ({ secret, headers: request.headers, body: request.body })));
  const python = spawnSync("python3", ["-c", program], { input, encoding: "utf8" });
  expect(python.stderr).toBe("");
  expect(python.stdout.trim().split("\n")).toEqual(requests.map(({ valid }) => String(valid)));
});
