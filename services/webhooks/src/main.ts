// Webhooks is the service that reports what happens to its users' tickets and orders to their own servers, by HTTP.
//
// Read endpoint.ts and delivery.ts first: they have the rules. Then store.ts (documents and decisions), subscriptions.ts (events),
// dispatcher.ts and deliverer.ts (attempts), api.ts (REST). This file only wires.
import { setTimeout as pause } from "node:timers/promises";
import { registerApi } from "./api.ts";
import { newCallbackApp } from "./callbacks.ts";
import { ConfigError, loadConfig, type Config } from "./config.ts";
import { Dapr } from "./dapr.ts";
import { Deliverer } from "./deliverer.ts";
import { Dispatcher } from "./dispatcher.ts";
import { DocumentStore } from "./documents.ts";
import { Health, probe } from "./health.ts";
import { Auth, Verifier } from "./identity.ts";
import { newLog, textOfError, type Log } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { Registry } from "./registry.ts";
import { newApp } from "./rest.ts";
import { Store } from "./store.ts";
import { Subscriptions } from "./subscriptions.ts";

const name = "webhooks";
/** The pause between two sweeps, in milliseconds, give or take a fifth. */
const sweepPause = 5000;
/** The least time between two reads of which accounts have endpoints, in milliseconds. Events wait for one at most so long. */
const readPause = 25;

async function main(): Promise<void> {
  const command = process.argv[2];
  if (command === "healthz" || command === "readyz") {
    await probe(command, process.env);
    return;
  }
  const config = loadConfig(process.env);
  const log = newLog(config, { service: name }, (line) => process.stdout.write(line));
  try {
    await run(config, log);
    process.exit(0);
  } catch (error) {
    log.error("the service ends", { error });
    process.exit(1);
  }
}

async function run(config: Config, log: Log): Promise<void> {
  const started = Date.now();
  const stopping = new AbortController();
  const stop = new Promise<void>((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
  // A defect in one request or delivery does not end the process.
  process.on("unhandledRejection", (error) => {
    log.error("a defect", { error, stack: error instanceof Error ? error.stack : undefined });
  });
  const now = () => new Date();

  const metrics = new Metrics();
  const dapr = new Dapr(config.daprHttpPort, config.daprApiToken);
  const documents = new DocumentStore(dapr);
  const registry = new Registry(documents, readPause);
  const store = new Store(documents, dapr, log, config.instance, now);
  const deliverer = new Deliverer({ allowLoopback: config.allowLoopback });
  const dispatcher = new Dispatcher(store, deliverer, metrics, log);
  const hasRoom = (endpointId: string) => dispatcher.hasRoom(endpointId);
  const begin: Dispatcher["begin"] = (delivery) => {
    dispatcher.begin(delivery);
  };
  const putOff: Dispatcher["putOff"] = (delivery) => {
    dispatcher.putOff(delivery);
  };
  const subscriptions = new Subscriptions({
    ...{ store, registry, begin, sidecar: dapr, metrics, log, now },
    instance: config.instance,
    publicUrl: config.publicUrl,
    maxDeliveries: config.maxDeliveries,
  });
  const auth = new Auth(config);
  const verifier = new Verifier(() => auth.fetch());
  metrics.computed(
    "boxoffice_revocations_age_seconds",
    "How long ago keys and revocations were last fetched from auth, or the process started.",
    () => verifier.age(),
  );

  const health = new Health(log);
  health.check("sidecar", () => dapr.ping());
  health.check("store", () => store.ping());
  const app = newApp(config, log, metrics);
  health.register(app);
  registerApi(app, { store, verifier, begin, allowLoopback: config.allowLoopback });
  const callbacks = newCallbackApp(config);
  callbacks.post("/events", async (request, reply) => {
    const response = await subscriptions.handle(request.body as Buffer);
    await reply.header("Content-Type", "application/json").send(JSON.stringify(response));
  });
  callbacks.post<{ Params: { name: string } }>("/job/:name", async (request, reply) => {
    const [, second] = /^due-(\d+)$/.exec(request.params.name) ?? [];
    if (second !== undefined) {
      await store.fire(Number(second), hasRoom, begin, putOff);
    }
    await reply.code(200).send();
  });
  callbacks.setErrorHandler(async (error, request, reply) => {
    log.warn("a call of the sidecar failed and will be repeated", { path: request.url, error });
    await reply.code(500).send();
  });

  const metricsServer = await metrics.serve(config.metricsAddress);
  // The sidecar waits for this port before its API answers.
  await callbacks.listen({ port: config.callbackPort, host: "127.0.0.1" });
  await startStore(registry, store, config.startTimeout, stopping.signal);
  await app.listen({ port: config.port, host: "::" });
  health.state = "running";
  log.info("ready", { port: config.port, callbackPort: config.callbackPort, took: `${Date.now() - started}ms` });
  const watching = verifier.watch(config.authPeriod, log, stopping.signal);
  const sweeping = sweep(() => store.sweep(hasRoom, begin, putOff), log, stopping.signal);

  await stop;
  log.info("shutting down");
  health.state = "shutting down";
  stopping.abort();
  const ended = Promise.all([app.close(), callbacks.close(), dispatcher.stop(config.shutdownTimeout * 0.8), watching, sweeping]);
  const late = pause(config.shutdownTimeout, "late", { ref: false });
  if ((await Promise.race([ended, late])) === "late") {
    throw new Error("the shutdown did not end in time");
  }
  metricsServer.close();
  await deliverer.close();
  await dapr.close();
}

/** Waits for the sidecar and the store, and makes the documents that must exist. */
async function startStore(registry: Registry, store: Store, timeout: number, signal: AbortSignal): Promise<void> {
  for (const end = Date.now() + timeout; ;) {
    try {
      await registry.start();
      await store.start();
      return;
    } catch (error) {
      if (Date.now() > end || signal.aborted) {
        throw new Error("the sidecar or the store does not answer", { cause: error });
      }
      await pause(100);
    }
  }
}

/** Finds the slots whose job did not fire, until the signal. */
async function sweep(once: () => Promise<void>, log: Log, signal: AbortSignal): Promise<void> {
  for (let failing = false; !signal.aborted;) {
    try {
      await once();
      failing = false;
    } catch (error) {
      if (!failing) {
        log.warn("deliveries that are due cannot be searched; it is tried again", { error });
      }
      failing = true;
    }
    await pause(sweepPause * (0.8 + Math.random() * 0.4), undefined, { signal }).catch(() => undefined);
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`${name}: ${error instanceof ConfigError ? error.message : textOfError(error)}\n`);
  process.exit(1);
});
