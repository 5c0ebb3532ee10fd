// The metrics, with the names of the Go services', on METRICS_ADDRESS.
import { createServer, type Server } from "node:http";
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

export class Metrics {
  readonly registry = new Registry();

  readonly requests = new Histogram({
    name: "boxoffice_http_request_duration_seconds",
    help: "Duration of requests on the public port, by method, route and status.",
    labelNames: ["method", "route", "status"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: [this.registry],
  });
  readonly handled = new Counter({
    name: "boxoffice_events_handled_total",
    help: "Events delivered to this service, by type and outcome (success, ignored, retry, dead).",
    labelNames: ["type", "outcome"],
    registers: [this.registry],
  });
  readonly letters = new Counter({
    name: "boxoffice_events_dead_letters_total",
    help: "Events that this service published as dead letters, by reason (undecodable, foreign, refused, failed).",
    labelNames: ["code"],
    registers: [this.registry],
  });
  readonly eventAge = new Histogram({
    name: "boxoffice_events_age_seconds",
    help: "Age of events when they were handled, by the time that they name.",
    buckets: Array.from({ length: 11 }, (_, n) => 0.005 * 4 ** n),
    registers: [this.registry],
  });
  readonly deliveries = new Counter({
    name: "boxoffice_webhooks_attempts_total",
    help: "Attempts to deliver to an endpoint, by outcome (delivered, retry, failed).",
    labelNames: ["outcome"],
    registers: [this.registry],
  });
  readonly latency = new Histogram({
    name: "boxoffice_webhooks_latency_seconds",
    help: "Time from an event to the end of the first attempt to deliver it, if that succeeded.",
    buckets: [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers: [this.registry],
  });
  readonly inFlight = new Gauge({
    name: "boxoffice_webhooks_attempts_in_flight",
    help: "Attempts that this process makes at the moment.",
    registers: [this.registry],
  });
  readonly waiting = new Gauge({
    name: "boxoffice_webhooks_deliveries_waiting",
    help: "Deliveries that wait in this process for the end of other attempts to the same endpoint.",
    registers: [this.registry],
  });

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    for (const code of ["undecodable", "foreign", "refused", "failed"]) {
      this.letters.inc({ code }, 0);
    }
    for (const outcome of ["delivered", "retry", "failed"]) {
      this.deliveries.inc({ outcome }, 0);
    }
  }

  /** Adds a gauge whose value is computed at each scrape. */
  computed(name: string, help: string, value: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(value());
      },
    });
  }

  /** Serves only /metrics, because the public port can be reached by anyone. */
  async serve(address: { host: string | undefined; port: number }): Promise<Server> {
    const server = createServer({ requestTimeout: 5000, headersTimeout: 5000, maxHeaderSize: 8192 }, (request, response) => {
      if (request.method !== "GET" || request.url?.split("?")[0] !== "/metrics") {
        response.writeHead(404).end();
        return;
      }
      this.registry.metrics().then(
        (text) => response.writeHead(200, { "Content-Type": this.registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      );
    });
    server.keepAliveTimeout = 120_000;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(address.port, address.host, resolve);
    });
    return server;
  }
}
