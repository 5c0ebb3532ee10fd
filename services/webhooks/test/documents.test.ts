import { expect, test, vi } from "vitest";
import { Refusal } from "../src/dapr.ts";
import { anchor, DocumentStore } from "../src/documents.ts";
import { Problem } from "../src/problem.ts";
import { MemorySidecar } from "./sidecar.ts";

interface Counter {
  n: number;
}

function increment(store: DocumentStore, key: string): Promise<number> {
  return store.decide([key, anchor], (documents) => {
    const n = (documents.get<Counter>(key)?.n ?? 0) + 1;
    documents.put(key, { n });
    return n;
  });
}

async function newStore(): Promise<{ sidecar: MemorySidecar; store: DocumentStore }> {
  const sidecar = new MemorySidecar();
  const store = new DocumentStore(sidecar);
  await store.ensure(anchor, {});
  sidecar.transactions = 0;
  return { sidecar, store };
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error instanceof Problem ? error.details[0]?.code : String(error);
}

test("decisions at the same time share a transaction, and each sees those before it", async () => {
  const { sidecar, store } = await newStore();
  const answers = await Promise.all(Array.from({ length: 50 }, () => increment(store, "a")));
  expect(answers.at(-1)).toBe(50);
  expect(sidecar.value<Counter>("a")?.n).toBe(50);
  expect(sidecar.transactions).toBe(1);
});

test("two replicas lose no change", async () => {
  const { sidecar, store } = await newStore();
  const other = new DocumentStore(sidecar);
  for (let round = 0; round < 20; round++) {
    await Promise.all([increment(store, "a"), increment(other, "a"), increment(store, "b"), increment(other, "b")]);
  }
  expect(sidecar.value<Counter>("a")?.n).toBe(40);
  expect(sidecar.value<Counter>("b")?.n).toBe(40);
});

test("a document that exists is not created a second time", async () => {
  const { sidecar, store } = await newStore();
  sidecar.before = () => {
    sidecar.before = () => undefined;
    sidecar.set("a", { n: 41 });
  };
  expect(await increment(store, "a")).toBe(42);
});

test("a decision that is refused changes nothing, and those beside it are made", async () => {
  const { sidecar, store } = await newStore();
  const refused = store.decide(["a"], (documents) => {
    documents.put("a", { n: 1000 });
    throw new Problem("conflict", { code: "stale_version", message: "No." });
  });
  const [code, n] = await Promise.all([codeOf(refused), increment(store, "a")]);
  expect(code).toBe("stale_version");
  expect(n).toBe(1);
  expect(sidecar.value<Counter>("a")?.n).toBe(1);
});

test("a commit whose answer is lost is found", async () => {
  const { sidecar, store } = await newStore();
  sidecar.after = () => {
    sidecar.after = () => undefined;
    throw new Error("the connection was reset");
  };
  expect(await increment(store, "a")).toBe(1);
  expect(sidecar.value<Counter>("a")?.n).toBe(1);
});

test("if the store refuses without a conflict, nothing has happened, and the code shows it", async () => {
  const { sidecar, store } = await newStore();
  sidecar.before = () => {
    throw new Refusal("transact", 500, "disk full");
  };
  expect(await codeOf(increment(store, "a"))).toBe("unavailable");
});

test("if the sidecar does not answer, the outcome is not known, and the code shows it", async () => {
  const { sidecar, store } = await newStore();
  sidecar.before = () => {
    throw new Error("timeout");
  };
  expect(await codeOf(increment(store, "a"))).toBe("outcome_unknown");
});

test("a document that changes all the time ends in a conflict", async () => {
  const { sidecar, store } = await newStore();
  sidecar.before = () => {
    sidecar.set("a", { n: 0 });
  };
  expect(await codeOf(increment(store, "a"))).toBe("conflict");
});

test("a bulk read that broke off is not taken for documents that do not exist", async () => {
  const { sidecar, store } = await newStore();
  sidecar.set("a", { n: 1 });
  sidecar.documents.delete(anchor);
  expect(await codeOf(store.read(["a", "b"]))).toBe("unavailable");
});

test("a document can be deleted", async () => {
  const { sidecar, store } = await newStore();
  await increment(store, "a");
  await store.decide(["a"], (documents) => {
    documents.remove("a");
  });
  expect(sidecar.value("a")).toBeUndefined();
  expect(await increment(store, "a")).toBe(1);
});

test("a decision may use only the documents that it has named", async () => {
  const { store } = await newStore();
  await expect(store.decide(["a"], (documents) => documents.get("b"))).rejects.toThrow(/has not named/);
});

test("a decision does not wait without end for a slow store", async () => {
  const { sidecar, store } = await newStore();
  let time = Date.now();
  const clock = vi.spyOn(Date, "now").mockImplementation(() => time);
  let second: Promise<string | undefined> | undefined;
  sidecar.before = () => {
    second = codeOf(increment(store, "a"));
    time += 11_000;
  };
  expect(await increment(store, "a")).toBe(1);
  expect(await second).toBe("unavailable");
  clock.mockRestore();
});
