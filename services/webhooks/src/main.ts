// Webhooks is the service that reports what happens to its users' tickets and orders to their own servers, by HTTP.
import { ConfigError, loadConfig, type Config } from "./config.ts";
import { newCallbackApp } from "./callbacks.ts";
import { Health, probe } from "./health.ts";
import { newLog, textOfError, type Log } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { newApp } from "./rest.ts";

const name = "webhooks";

async function main(): Promise<void> {
  const command = process.argv[2];
  if (command === "healthz" || command === "readyz") {
    await probe(command, process.env);
    return;
  }
  const config = loadConfig(process.env);
  const log = newLog(config, { service: name }, (line) => process.stdout.write(line));
  await run(config, log);
}

async function run(config: Config, log: Log): Promise<void> {
  const started = Date.now();
  const metrics = new Metrics();
  const health = new Health(log);
  const app = newApp(config, log, metrics);
  health.register(app);
  const callbacks = newCallbackApp(config);
  callbacks.post("/events", (request) => {
    const bulk = JSON.parse((request.body as Buffer).toString()) as { entries: { entryId: string }[] };
    return { statuses: bulk.entries.map((entry) => ({ entryId: entry.entryId, status: "SUCCESS" })) };
  });

  const metricsServer = await metrics.serve(config.metricsAddress);
  await callbacks.listen({ port: config.callbackPort, host: "127.0.0.1" });
  await app.listen({ port: config.port, host: "::" });
  health.state = "running";
  log.info("ready", { port: config.port, callbackPort: config.callbackPort, took: `${Date.now() - started}ms` });

  await new Promise<void>((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
  log.info("shutting down");
  health.state = "shutting down";
  const late = setTimeout(() => {
    log.error("the service ends", { error: "the shutdown took too long" });
    process.exit(1);
  }, config.shutdownTimeout);
  late.unref();
  await Promise.all([app.close(), callbacks.close()]);
  metricsServer.close();
  process.exit(0);
}

main().catch((error: unknown) => {
  process.stderr.write(`${name}: ${error instanceof ConfigError ? error.message : textOfError(error)}\n`);
  process.exit(1);
});
