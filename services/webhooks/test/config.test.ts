import { expect, test } from "vitest";
import { ConfigError, loadConfig } from "../src/config.ts";

const complete = {
  PORT: "8107",
  APP_PORT: "8207",
  DAPR_HTTP_PORT: "3507",
  APP_API_TOKEN: "0123456789abcdef",
  AUTH_URL: "http://localhost:8101/, https://auth:8443",
};

test("what is not set has the defaults of the Go services", () => {
  expect(loadConfig({ ...complete, INSTANCE: "one", LOG_LEVEL: "" })).toMatchObject({
    metricsAddress: { host: undefined, port: 9091 },
    instance: "one",
    logLevel: "info",
    bodyLimit: 65536,
    maxConnections: 4096,
    headerTimeout: 5000,
    bodyTimeout: 15_000,
    maxDeliveries: 10,
    shutdownTimeout: 15_000,
    authUrls: ["http://localhost:8101", "https://auth:8443"],
    authPeriod: 20_000,
    publicUrl: "http://localhost:8080",
    allowLoopback: false,
  });
});

test("values are read as the Go services read them", () => {
  const config = loadConfig({
    ...complete,
    METRICS_ADDRESS: "[::1]:8307",
    LOG_LEVEL: "WARN",
    HEADER_TIMEOUT: "1m30s",
    BODY_TIMEOUT: "100ms",
    WEBHOOKS_ALLOW_LOOPBACK: "true",
  });
  expect(config).toMatchObject({
    metricsAddress: { host: "::1", port: 8307 },
    logLevel: "warn",
    headerTimeout: 90_000,
    bodyTimeout: 100,
    allowLoopback: true,
  });
});

test("all settings that are missing or wrong are named at once", () => {
  const wrong = {
    PORT: "0",
    APP_API_TOKEN: "short",
    HEADER_TIMEOUT: "10",
    AUTH_PERIOD: "1h",
    LOG_FORMAT: "xml",
    METRICS_ADDRESS: "here",
    AUTH_URL: "auth",
    TLS_CERT_FILE: "a",
    WEBHOOKS_ALLOW_LOOPBACK: "maybe",
    BODY_LIMIT: "many",
  };
  expect(() => loadConfig(wrong)).toThrow(ConfigError);
  const message = ((): string => {
    try {
      loadConfig(wrong);
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  })();
  for (const name of [
    ...Object.keys(wrong).filter((each) => each !== "TLS_CERT_FILE"),
    "TLS_KEY_FILE",
    "APP_PORT",
    "DAPR_HTTP_PORT",
  ]) {
    expect(message).toMatch(new RegExp(`\\n {2}- ${name}[ =]`));
  }
});
