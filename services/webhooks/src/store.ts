// Documents and decisions.
//
//   account/USER              the user's endpoints
//   registry, registry/N      which accounts have live endpoints (registry.ts)
//   delivery/ID               a delivery, for 30 days
//   deliveries/ENDPOINT       the ids of the endpoint's last deliveries; older ones in deliveries/ENDPOINT/PAGE
//   due/SECOND/SHARD          a slot: the deliveries whose next attempt is due then
//   swept                     before which second all slots are done
//   idempotency/USER/KEY      the answer to a request with an Idempotency-Key, for a day
//   deleted/USER              the user's account was deleted, for a day
//
// A pending delivery is in exactly the slot that its `due` names: both change in one transaction. A job of Dapr's scheduler fires
// for each slot. A slot whose job does not fire (the scheduler has lost its data, or is away) is found by the sweep of any process.
import { createHash } from "node:crypto";
import type { Log } from "./log.ts";
import type { Sidecar } from "./dapr.ts";
import type { DocumentStore, Documents } from "./documents.ts";
import * as rules from "./delivery.ts";
import type { Attempt, Delivery } from "./delivery.ts";
import * as endpoints from "./endpoint.ts";
import { noAccount, type Account, type Endpoint, type Settings } from "./endpoint.ts";
import { newId } from "./ids.ts";
import { revoked } from "./identity.ts";
import { Problem } from "./problem.ts";
import { accountKey, accountKeys, putAccount } from "./registry.ts";
import { newSecret } from "./signature.ts";

/** Processes with different places write different shards of a slot, and so conflict less. */
const slotShards = 4;
/** How many ids a page of the index has. */
const pageSize = 100;
/** How many deliveries of a slot are read at once. */
const claimedAtOnce = 64;
/** A slot is swept when its job should have fired so many seconds ago. */
const sweptAfter = 10;
/** Slots are swept again for so many seconds, because a slow process may have written one late. */
const sweptAgain = 60;
/** How many seconds are read at once. */
const sweptAtOnce = 120;
const idempotencySeconds = 24 * 60 * 60;
/** How long it is remembered that an account was deleted: longer than it takes until its tokens are refused (see identity.ts). */
const deletedSeconds = 24 * 60 * 60;

/** An answer that is kept for the key of its request. */
export interface Answer {
  status: number;
  /** The headers Location and ETag. */
  location?: string;
  etag?: string;
  body: unknown;
}

/** What became of a request that may have a key. */
export interface Outcome {
  answer: Answer;
  /** Whether the answer is that of an earlier request, and nothing was done. */
  replayed: boolean;
}

/** The key of a request, and a hash of its body. */
export interface IdempotencyKey {
  key: string;
  fingerprint: string;
}

interface StoredAnswer {
  schema: 1;
  fingerprint: string;
  answer: Answer;
}

/** The index of an endpoint's deliveries: ids in the order of their creation, the last page in the document itself. */
interface Index {
  schema: 1;
  page: number;
  ids: string[];
}

interface Slot {
  schema: 1;
  deliveries: string[];
}

interface Swept {
  schema: 1;
  before: number;
}

/** What is known of a delivery that was put off. */
export type PutOff = Pick<Delivery, "id" | "endpointId" | "due" | "putOff">;

export interface DeliveryPage {
  deliveries: Delivery[];
  /** The position of the next page, if there is one. */
  next: number | undefined;
}

export class Store {
  private readonly documents: DocumentStore;
  private readonly sidecar: Sidecar;
  private readonly log: Log;
  private readonly now: () => Date;
  private readonly shard: number;
  /** Slots for which this process has made a job, and the end of that memory. */
  private readonly scheduled = new Set<number>();
  private schedulerAway = false;

  constructor(documents: DocumentStore, sidecar: Sidecar, log: Log, instance: string, now: () => Date) {
    this.documents = documents;
    this.sidecar = sidecar;
    this.log = log;
    this.now = now;
    this.shard = (createHash("sha256").update(instance).digest()[0] ?? 0) % slotShards;
  }

  /** Makes the documents that must exist before the first delivery. */
  async start(): Promise<void> {
    await this.documents.ensure("swept", { schema: 1, before: seconds(this.now()) - sweptAgain } satisfies Swept);
  }

  // Endpoints.

  async account(userId: string): Promise<Account> {
    return (await this.documents.readOne<Account>(accountKey(userId))) ?? noAccount;
  }

  /** Adds an endpoint. answerOf makes the answer that is kept for the key of the request. */
  async create(
    userId: string,
    settings: Settings,
    key: IdempotencyKey | undefined,
    answerOf: (endpoint: Endpoint) => Answer,
  ): Promise<Outcome> {
    const id = newId();
    const secret = newSecret();
    return this.once(userId, key, [...accountKeys(userId), deletedKey(userId)], (documents) => {
      if (documents.get(deletedKey(userId))) {
        throw revoked();
      }
      const before = documents.get<Account>(accountKey(userId)) ?? noAccount;
      // After a commit whose answer was lost, the decision may be made again.
      const done = before.endpoints.some((each) => each.id === id);
      const account = done ? before : endpoints.addEndpoint(before, id, secret, settings, this.now());
      putAccount(documents, userId, account);
      return answerOf(endpoints.findEndpoint(account, id));
    });
  }

  /**
   * Makes a decision once for each key: its answer is kept in the same transaction, and a request with the key gets that. Without a key
   * the decision is made for each request.
   */
  private once(
    userId: string,
    key: IdempotencyKey | undefined,
    keys: string[],
    decide: (documents: Documents) => Answer,
  ): Promise<Outcome> {
    const document = `idempotency/${userId}/${key?.key ?? ""}`;
    return this.documents.decide(key === undefined ? keys : [...keys, document], (documents) => {
      if (key === undefined) {
        return { answer: decide(documents), replayed: false };
      }
      const stored = documents.get<StoredAnswer>(document);
      if (stored && stored.fingerprint !== key.fingerprint) {
        const message = "This Idempotency-Key was used before, with another body. Use a new key for a new request.";
        throw new Problem("conflict", { field: "Idempotency-Key", code: "idempotency_key_reused", message });
      }
      if (stored) {
        return { answer: stored.answer, replayed: true };
      }
      const answer = decide(documents);
      const kept: StoredAnswer = { schema: 1, fingerprint: key.fingerprint, answer };
      documents.put(document, kept, idempotencySeconds);
      return { answer, replayed: false };
    });
  }

  update(
    userId: string,
    id: string,
    expected: number | undefined,
    settings: Settings,
    status: Endpoint["status"] | undefined,
  ): Promise<Endpoint> {
    return this.documents.decide(accountKeys(userId), (documents) => {
      const before = documents.get<Account>(accountKey(userId)) ?? noAccount;
      const account = endpoints.changeEndpoint(before, id, expected, settings, status, this.now());
      putAccount(documents, userId, account);
      return endpoints.findEndpoint(account, id);
    });
  }

  /** Replaces the secret of an endpoint. answerOf and key are as for create. */
  rotate(
    userId: string,
    id: string,
    key: IdempotencyKey | undefined,
    answerOf: (endpoint: Endpoint) => Answer,
  ): Promise<Outcome> {
    const secret = newSecret();
    return this.once(userId, key, accountKeys(userId), (documents) => {
      const before = documents.get<Account>(accountKey(userId)) ?? noAccount;
      const account = endpoints.rotateSecret(before, id, secret, this.now());
      putAccount(documents, userId, account);
      return answerOf(endpoints.findEndpoint(account, id));
    });
  }

  async remove(userId: string, id: string): Promise<void> {
    await this.documents.decide(accountKeys(userId), (documents) => {
      const account = documents.get<Account>(accountKey(userId)) ?? noAccount;
      putAccount(documents, userId, endpoints.removeEndpoint(account, id));
    });
  }

  /**
   * Removes all endpoints of a user whose account was deleted, and refuses new ones: for some seconds a token of the user may still be
   * accepted. The account changes also if it has no endpoints, so that an endpoint that is made at the same moment is a conflict.
   */
  async removeAccount(userId: string): Promise<void> {
    await this.documents.decide([...accountKeys(userId), deletedKey(userId)], (documents) => {
      const account = documents.get<Account>(accountKey(userId)) ?? noAccount;
      if (account.endpoints.length === 0 && documents.get(deletedKey(userId))) {
        return;
      }
      putAccount(documents, userId, { ...account, version: account.version + 1, endpoints: [] });
      documents.put(deletedKey(userId), { schema: 1 }, deletedSeconds);
    });
  }

  // Deliveries.

  /**
   * Adds a delivery. It returns undefined if there is one already: then its event is a repeat. One that is long overdue is in a slot that
   * no sweep reads again, because the store committed it long after its time. It is taken again.
   */
  async add(delivery: Delivery): Promise<Delivery | undefined> {
    const key = deliveryKey(delivery.id);
    const slot = this.slotKey(delivery.due ?? 0);
    const added = await this.documents.decide([key, indexKey(delivery.endpointId), slot], (documents) => {
      const known = documents.get<Delivery>(key);
      if (known && rules.isOverdue(known, this.now()) && delivery.due !== undefined) {
        return this.put(documents, { ...known, due: delivery.due });
      }
      if (known) {
        return undefined;
      }
      this.put(documents, delivery);
      append(documents, delivery);
      return delivery;
    });
    if (added) {
      this.afterCommit(added);
    }
    return added;
  }

  /** The deliveries of an endpoint, newest first. before is the position of the newest one, counted from 0. */
  async list(endpointId: string, limit: number, before: number | undefined): Promise<DeliveryPage> {
    const index = await this.documents.readOne<Index>(indexKey(endpointId));
    if (!index) {
      return { deliveries: [], next: undefined };
    }
    const count = index.page * pageSize + index.ids.length;
    let at = Math.min(before ?? count, count) - 1;
    const deliveries: Delivery[] = [];
    for (let page = Math.floor(at / pageSize); page >= 0 && deliveries.length < limit && at >= 0; page--) {
      const ids = page === index.page ? index.ids : (await this.documents.readOne<Index>(pageKey(endpointId, page)))?.ids;
      if (!ids) {
        return { deliveries, next: undefined }; // its time has ended, and that of all pages before it
      }
      const wanted: string[] = [];
      for (; at >= page * pageSize && deliveries.length + wanted.length < limit; at--) {
        wanted.push(ids[at - page * pageSize] ?? "");
      }
      const found = await this.documents.read(wanted.map(deliveryKey));
      deliveries.push(...wanted.flatMap((id) => (found.get(deliveryKey(id)) as Delivery | undefined) ?? []));
    }
    return { deliveries, next: at >= 0 ? at + 1 : undefined };
  }

  /** Makes a delivery pending again. */
  async redeliver(userId: string, endpointId: string, id: string): Promise<Delivery> {
    const now = this.now();
    const keys = [accountKey(userId), deliveryKey(id), this.slotKey(rules.leasedSlot(now))];
    const changed = await this.documents.decide(keys, (documents) => {
      liveEndpoint(documents.get<Account>(accountKey(userId)), endpointId);
      const delivery = documents.get<Delivery>(deliveryKey(id));
      if (delivery?.endpointId !== endpointId) {
        throw new Problem("notFound", { code: "not_found", message: "There is nothing with this id." });
      }
      return this.put(documents, rules.redeliver(delivery, now));
    });
    this.afterCommit(changed);
    return changed;
  }

  /** Adds a delivery that tests an endpoint, and gives it to begin. answerOf and key are as for create. */
  async test(
    userId: string,
    endpointId: string,
    key: IdempotencyKey | undefined,
    answerOf: (delivery: Delivery) => Answer,
    begin: (delivery: Delivery) => void,
  ): Promise<Outcome> {
    const now = this.now();
    const delivery = rules.newDelivery(endpointId, userId, rules.testEvent(newId(), now), rules.testMessage(now), now);
    const own = [deliveryKey(delivery.id), indexKey(endpointId), this.slotKey(delivery.due ?? 0)];
    const outcome = await this.once(userId, key, [accountKey(userId), ...own], (documents) => {
      liveEndpoint(documents.get<Account>(accountKey(userId)), endpointId);
      // After a commit whose answer was lost, the decision may be made again.
      if (!documents.get<Delivery>(deliveryKey(delivery.id))) {
        this.put(documents, delivery);
        append(documents, delivery);
      }
      return answerOf(delivery);
    });
    if (!outcome.replayed) {
      this.afterCommit(delivery);
      begin(delivery);
    }
    return outcome;
  }

  /** Takes a delivery of a slot that has come due, or puts it off. It returns undefined if it is not due any more. */
  private async claim(
    known: PutOff,
    slot: number,
    hasRoom: (endpointId: string) => boolean,
  ): Promise<{ delivery: Delivery; room: boolean } | undefined> {
    const now = this.now();
    const key = deliveryKey(known.id);
    const putOff = known.putOff ?? 0;
    const leased = rules.leasedSlot(now);
    const later = rules.laterSlot(now, putOff, Math.random());
    const claimed = await this.documents.decide([key, this.slotKey(leased), this.slotKey(later)], (documents) => {
      const delivery = documents.get<Delivery>(key);
      if (delivery?.status !== "pending" || (delivery.due ?? 0) > slot) {
        return undefined;
      }
      const room = hasRoom(delivery.endpointId);
      const moved = room ? { ...delivery, due: leased } : { ...delivery, due: later, putOff: putOff + 1 };
      return { delivery: this.put(documents, moved), room };
    });
    if (claimed) {
      this.afterCommit(claimed.delivery);
    }
    return claimed;
  }

  /** Takes deliveries that were put off before their time has come, as fire does. */
  async take(putOff: PutOff[], hasRoom: (endpointId: string) => boolean, begin: (delivery: Delivery) => void): Promise<void> {
    for (const claimed of await Promise.all(putOff.map((each) => this.claim(each, each.due ?? 0, hasRoom)))) {
      if (claimed?.room) {
        begin(claimed.delivery);
      }
    }
  }

  /** Records an attempt: of the delivery, and whether the endpoint is failing. */
  async record(delivery: Delivery, attempt: Attempt): Promise<Delivery> {
    const now = this.now();
    const random = Math.random();
    const key = deliveryKey(delivery.id);
    // The slot is known only when the delivery was read, but its key must be named before. So each possible one is named.
    const slots = [delivery.failures + 1, 1].map((failures) => rules.slotOf(now.getTime() + rules.pauseAfter(failures, random)));
    const keys = [key, ...accountKeys(delivery.userId), ...new Set(slots.map((slot) => this.slotKey(slot)))];
    const changed = await this.documents.decide(keys, (documents) => {
      const known = documents.get<Delivery>(key) ?? delivery;
      // Another process may have recorded an attempt meanwhile; then this one counts from there.
      const failures = known.failures === 0 ? 0 : delivery.failures;
      const after = rules.afterAttempt({ ...known, failures }, attempt, now, random);
      this.put(documents, after);
      const account = documents.get<Account>(accountKey(delivery.userId));
      if (account) {
        const noted = rules.isSuccess(attempt)
          ? endpoints.noteSuccess(account, delivery.endpointId)
          : endpoints.noteFailure(account, delivery.endpointId, now);
        if (noted !== account) {
          putAccount(documents, delivery.userId, noted);
        }
      }
      return after;
    });
    this.afterCommit(changed);
    return changed;
  }

  /** Ends a delivery whose endpoint is disabled or removed. */
  async abandon(delivery: Delivery): Promise<void> {
    const key = deliveryKey(delivery.id);
    await this.documents.decide([key], (documents) => {
      const known = documents.get<Delivery>(key);
      // One that has another slot meanwhile was sent again by its owner.
      if (known?.status === "pending" && known.due === delivery.due) {
        this.put(documents, rules.abandon(known));
      }
    });
  }

  /** Writes a delivery, and adds it to its slot if it is pending. */
  private put(documents: Documents, delivery: Delivery): Delivery {
    documents.put(deliveryKey(delivery.id), delivery, rules.secondsLeft(delivery, this.now()));
    if (delivery.due !== undefined) {
      const key = this.slotKey(delivery.due);
      const slot = documents.get<Slot>(key);
      documents.put(key, { schema: 1, deliveries: [...(slot?.deliveries ?? []), delivery.id] }, rules.keptSeconds);
    }
    return delivery;
  }

  // Slots.

  private slotKey(second: number): string {
    return `due/${second}/${this.shard}`;
  }

  /** Makes the job of a delivery's slot. Nobody waits for it: without the job the sweep finds the slot. */
  private afterCommit(delivery: Delivery): void {
    const due = delivery.due;
    if (due === undefined || this.scheduled.has(due)) {
      return;
    }
    if (this.scheduled.size > 10_000) {
      this.scheduled.clear();
    }
    this.scheduled.add(due);
    this.sidecar.schedule(`due-${due}`, new Date(due * 1000)).then(
      () => {
        this.schedulerAway = false;
      },
      (error: unknown) => {
        this.scheduled.delete(due);
        if (!this.schedulerAway) {
          this.schedulerAway = true;
          this.log.warn("the scheduler does not take jobs; attempts are made when a sweep finds them", { error });
        }
      },
    );
  }

  /**
   * Takes the deliveries of a slot that has come due. Those for which there is room are given to begin. The others are put off, and given
   * to putOff. It may be called by several processes at once.
   */
  async fire(
    second: number,
    hasRoom: (endpointId: string) => boolean,
    begin: (delivery: Delivery) => void,
    putOff: (delivery: Delivery) => void = () => undefined,
  ): Promise<void> {
    const found = await this.documents.read(slotKeys(second));
    for (const [key, value] of found) {
      if (value !== undefined) {
        await this.fireShard(key, value as Slot, second, hasRoom, begin, putOff);
      }
    }
  }

  private async fireShard(
    key: string,
    slot: Slot,
    second: number,
    hasRoom: (endpointId: string) => boolean,
    begin: (delivery: Delivery) => void,
    putOff: (delivery: Delivery) => void,
  ): Promise<void> {
    for (let from = 0; from < slot.deliveries.length; from += claimedAtOnce) {
      const ids = slot.deliveries.slice(from, from + claimedAtOnce);
      const found = await this.documents.read(ids.map(deliveryKey));
      const due = ids.flatMap((id) => {
        const delivery = found.get(deliveryKey(id)) as Delivery | undefined;
        return delivery?.status === "pending" && (delivery.due ?? 0) <= second ? delivery : [];
      });
      for (const claimed of await Promise.all(due.map((each) => this.claim(each, second, hasRoom)))) {
        if (claimed) {
          (claimed.room ? begin : putOff)(claimed.delivery);
        }
      }
    }
    const done = new Set(slot.deliveries);
    await this.documents.decide([key, ...slot.deliveries.map(deliveryKey)], (documents) => {
      // If a clock was set back meanwhile, a delivery may be due in this slot again.
      const isDone = (id: string) => {
        const delivery = done.has(id) ? documents.get<Delivery>(deliveryKey(id)) : undefined;
        return done.has(id) && !(delivery?.status === "pending" && delivery.due === second);
      };
      const now = documents.get<Slot>(key);
      const rest = [...new Set(now?.deliveries)].filter((id) => !isDone(id));
      if (rest.length > 0) {
        documents.put(key, { schema: 1, deliveries: rest }, rules.keptSeconds);
      } else if (now) {
        documents.remove(key);
      }
    });
  }

  /** Fires the slots whose job has not fired. */
  async sweep(
    hasRoom: (endpointId: string) => boolean,
    begin: (delivery: Delivery) => void,
    putOff: (delivery: Delivery) => void = () => undefined,
  ): Promise<void> {
    const start = await this.documents.readOne<Swept>("swept");
    const end = seconds(this.now()) - sweptAfter;
    for (let from = start?.before ?? end; from < end; from += sweptAtOnce) {
      const to = Math.min(end, from + sweptAtOnce);
      const keys: string[] = [];
      for (let second = from; second < to; second++) {
        keys.push(...slotKeys(second));
      }
      const found = await this.documents.read(keys);
      for (const [key, value] of found) {
        if (value !== undefined) {
          await this.fireShard(key, value as Slot, Number(key.split("/")[1]), hasRoom, begin, putOff);
        }
      }
      const before = Math.min(to, seconds(this.now()) - sweptAgain);
      await this.documents.decide(["swept"], (documents) => {
        const swept = documents.get<Swept>("swept");
        if (swept && swept.before < before - 10) {
          documents.put("swept", { schema: 1, before });
        }
      });
    }
  }

  /** Whether the store answers. */
  async ping(): Promise<void> {
    await this.documents.readOne("swept");
  }
}

function liveEndpoint(account: Account | undefined, id: string): Endpoint {
  const endpoint = endpoints.findEndpoint(account ?? noAccount, id);
  if (endpoint.status === "disabled") {
    throw new Problem("conflict", { code: "endpoint_disabled", message: "The endpoint is disabled. Enable it first." });
  }
  return endpoint;
}

/** Adds a delivery to the index of its endpoint. A full page becomes a document of its own. */
function append(documents: Documents, delivery: Delivery): void {
  const key = indexKey(delivery.endpointId);
  let index = documents.get<Index>(key) ?? { schema: 1, page: 0, ids: [] };
  if (index.ids.length >= pageSize) {
    documents.overwrite(pageKey(delivery.endpointId, index.page), index, rules.keptSeconds);
    index = { schema: 1, page: index.page + 1, ids: [] };
  }
  documents.put(key, { ...index, ids: [...index.ids, delivery.id] }, rules.keptSeconds);
}

function slotKeys(second: number): string[] {
  return Array.from({ length: slotShards }, (_, shard) => `due/${second}/${shard}`);
}

function deletedKey(userId: string): string {
  return "deleted/" + userId;
}

function deliveryKey(id: string): string {
  return "delivery/" + id;
}

function indexKey(endpointId: string): string {
  return "deliveries/" + endpointId;
}

function pageKey(endpointId: string, page: number): string {
  return `deliveries/${endpointId}/${page}`;
}

function seconds(at: Date): number {
  return Math.floor(at.getTime() / 1000);
}
