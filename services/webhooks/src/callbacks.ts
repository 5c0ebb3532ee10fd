// The port that only the sidecar can call: on 127.0.0.1, with the app API token.
import { createHash, timingSafeEqual } from "node:crypto";
import Fastify, { type FastifyInstance } from "fastify";
import type { Config } from "./config.ts";

/** Bounds a bulk of events; our components deliver about a megabyte at most. */
const maxBulkBytes = 16 << 20;

/** Makes the app of the callback port. Bodies are Buffers. */
export function newCallbackApp(config: Pick<Config, "apiToken">): FastifyInstance {
  const app = Fastify({ logger: false, bodyLimit: maxBulkBytes, forceCloseConnections: "idle", return503OnClosing: false });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => {
    done(null, body);
  });
  const expected = digest(config.apiToken);
  app.addHook("onRequest", async (request, reply) => {
    const shown = request.headers["dapr-api-token"];
    if (request.url !== "/healthz" && !timingSafeEqual(digest(typeof shown === "string" ? shown : ""), expected)) {
      const message = "only this service's sidecar may call here: the header dapr-api-token does not hold the app API token";
      await reply.code(401).type("text/plain").send(message);
    }
  });
  app.get("/healthz", () => ({ status: "ok" }));
  // Subscriptions are resources (components/events/subscriptions.yaml), not made by the program.
  app.get("/dapr/subscribe", () => []);
  return app;
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
