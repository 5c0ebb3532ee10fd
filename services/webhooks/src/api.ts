// The REST API, described in services/contracts/openapi.yaml. Callers see their own endpoints only.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Loose, Schemas } from "./contract.ts";
import { decodeEndpointChange, decodeNewEndpoint, expectedVersion, idempotencyKey, linkNext, paging, pathId } from "./decode.ts";
import type { Delivery } from "./delivery.ts";
import { findEndpoint, type Endpoint } from "./endpoint.ts";
import type { Verifier } from "./identity.ts";
import { sendJson } from "./rest.ts";
import type { Outcome, Store } from "./store.ts";

interface Options {
  store: Store;
  verifier: Pick<Verifier, "callerOf">;
  begin: (delivery: Delivery) => void;
  allowLoopback: boolean;
}

export function registerApi(app: FastifyInstance, { store, verifier, begin, allowLoopback }: Options): void {
  const callerOf = async (request: FastifyRequest) => (await verifier.callerOf(request)).id;

  app.get("/api/webhooks", async (request, reply) => {
    const account = await store.account(await callerOf(request));
    await sendJson(reply, 200, account.endpoints.map(endpointResponse));
  });

  app.post("/api/webhooks", async (request, reply) => {
    const caller = await callerOf(request);
    const settings = decodeNewEndpoint(request, allowLoopback);
    const outcome = await store.create(caller, settings, idempotencyKey(request), (endpoint) => ({
      status: 201,
      location: "/api/webhooks/" + endpoint.id,
      etag: etagOf(endpoint),
      body: withSecret(endpoint),
    }));
    request.annotations["endpointId"] = (outcome.answer.body as Endpoint).id;
    await sendOutcome(reply, outcome);
  });

  app.get("/api/webhooks/:id", async (request, reply) => {
    const caller = await callerOf(request);
    const endpoint = findEndpoint(await store.account(caller), pathId(request, "id"));
    await sendEndpoint(reply, endpoint);
  });

  app.put("/api/webhooks/:id", async (request, reply) => {
    const caller = await callerOf(request);
    const id = pathId(request, "id");
    const { settings, status, version } = decodeEndpointChange(request, allowLoopback);
    const expected = expectedVersion(request, version);
    await sendEndpoint(reply, await store.update(caller, id, expected, settings, status));
  });

  app.delete("/api/webhooks/:id", async (request, reply) => {
    const caller = await callerOf(request);
    await store.remove(caller, pathId(request, "id"));
    await reply.code(204).send();
  });

  app.post("/api/webhooks/:id/rotate-secret", async (request, reply) => {
    const caller = await callerOf(request);
    const outcome = await store.rotate(caller, pathId(request, "id"), idempotencyKey(request), (endpoint) => ({
      status: 200,
      etag: etagOf(endpoint),
      body: withSecret(endpoint),
    }));
    await sendOutcome(reply, outcome);
  });

  app.post("/api/webhooks/:id/test", async (request, reply) => {
    const caller = await callerOf(request);
    const answerOf = (delivery: Delivery) => ({ status: 202, body: deliveryResponse(delivery) });
    await sendOutcome(reply, await store.test(caller, pathId(request, "id"), idempotencyKey(request), answerOf, begin));
  });

  app.get("/api/webhooks/:id/deliveries", async (request, reply) => {
    const caller = await callerOf(request);
    const endpoint = findEndpoint(await store.account(caller), pathId(request, "id"));
    const { limit, before } = paging(request);
    const { deliveries, next } = await store.list(endpoint.id, limit, before);
    linkNext(request, reply, next);
    await sendJson(reply, 200, deliveries.map(deliveryResponse));
  });

  app.post("/api/webhooks/:id/deliveries/:deliveryId/redeliver", async (request, reply) => {
    const caller = await callerOf(request);
    const delivery = await store.redeliver(caller, pathId(request, "id"), pathId(request, "deliveryId"));
    begin(delivery);
    await sendJson(reply, 202, deliveryResponse(delivery));
  });
}

async function sendOutcome(reply: FastifyReply, { answer, replayed }: Outcome): Promise<void> {
  const { status, location, etag, body } = answer;
  const headers = { Location: location, ETag: etag, "Idempotent-Replayed": replayed ? "true" : undefined };
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) {
      void reply.header(name, value);
    }
  }
  await sendJson(reply, status, body);
}

async function sendEndpoint(reply: FastifyReply, endpoint: Endpoint): Promise<void> {
  void reply.header("ETag", etagOf(endpoint));
  await sendJson(reply, 200, endpointResponse(endpoint));
}

function etagOf(endpoint: Endpoint): string {
  return `"${endpoint.version}"`;
}

/** An endpoint as clients get it: without its secrets. */
function endpointResponse(endpoint: Endpoint): Loose<Schemas["Webhook"]> {
  const { id, url, events, description, status, disabledReason, disabledAt, failingSince, version, createdAt, updatedAt } =
    endpoint;
  return { id, url, events, description, status, disabledReason, disabledAt, failingSince, version, createdAt, updatedAt };
}

function withSecret(endpoint: Endpoint): Loose<Schemas["WebhookWithSecret"]> {
  return { ...endpointResponse(endpoint), secret: endpoint.secret };
}

/** A delivery as clients get it. */
function deliveryResponse(delivery: Delivery): Loose<Schemas["Delivery"]> {
  const { id, eventId, eventType, status, attempts, createdAt, due, lastAttempt } = delivery;
  const nextAttemptAt = due === undefined ? undefined : new Date(due * 1000).toISOString();
  return { id, eventId, eventType, status, attempts, createdAt, nextAttemptAt, lastAttempt };
}
