// What the tests prepare by the REST API, as other clients would: users, shows, tickets, orders.
import { randomUUID } from "node:crypto";

import type { components } from "../../contracts/typescript/src/generated/api.ts";

type Schemas = components["schemas"];

export type Show = Schemas["Show"];
export type Ticket = Schemas["Ticket"];
export type Order = Schemas["Order"];

export const password = "correct horse battery";

/** A request that the services refused. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  readonly code: string | undefined;

  constructor(request: string, status: number, text: string) {
    super(`${request}: ${status} ${text}`);
    this.status = status;
    this.code = /"code":"([^"]+)"/.exec(text)?.[1];
  }
}

/** A user with a token, as a client without a browser. */
export class Account {
  readonly url: string;
  readonly email: string;
  readonly id: string;
  readonly #token: string;

  private constructor(url: string, email: string, answer: Schemas["SignedIn"]) {
    this.url = url;
    this.email = email;
    this.id = answer.user.id;
    this.#token = answer.token ?? "";
  }

  static async signUp(url: string, name = "somebody"): Promise<Account> {
    const email = `${name}-${randomUUID()}@example.com`;
    return new Account(url, email, await send<Schemas["SignedIn"]>(url, "POST", "/api/users/signup", { email, password }));
  }

  /** Sends a request, again while its subject is not known yet. */
  async call<Answer>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const { answer } = await eventually(async () => {
      try {
        return {
          answer: await send<Answer>(this.url, method, path, body, { Authorization: `Bearer ${this.#token}`, ...headers }),
        };
      } catch (error) {
        if (error instanceof Refusal && error.code === "not_yet_known") {
          return undefined;
        }
        throw error;
      }
    });
    return answer;
  }

  /** Announces a show of a name that no other test has. The catalogue has it, and finds it by its name, when this returns. */
  async announce(members: Partial<Schemas["NewShow"]> = {}): Promise<Show> {
    const show = await this.call<Show>("POST", "/api/shows", {
      name: `Concert ${randomUUID().slice(0, 8)}`,
      venue: "Konzerthaus",
      city: "Freiburg",
      country: "DE",
      startsAt: inDays(30),
      timeZone: "Europe/Berlin",
      category: "music",
      ...members,
    });
    const search = new URLSearchParams({ q: show.name, sort: "relevance", limit: "100" });
    await eventually(async () => {
      const { shows } = await send<{ shows: Show[] }>(this.url, "GET", `/api/catalogue/shows?${search.toString()}`);
      return shows.some(({ id }) => id === show.id) || undefined;
    });
    return show;
  }

  /** Lists a ticket of a show. It can be bought when this returns. */
  async list(show: Show, seat?: Schemas["Place"], price = 4500): Promise<Ticket> {
    const ticket = await this.call<Ticket>("POST", "/api/tickets", { showId: show.id, price, ...(seat && { seat }) });
    await eventually(async () => {
      const left = await send<Ticket[]>(this.url, "GET", `/api/catalogue/shows/${show.id}/tickets?limit=100`);
      return left.some(({ id }) => id === ticket.id) || undefined;
    });
    return ticket;
  }

  reserve(ticket: Ticket): Promise<Order> {
    return this.call<Order>("POST", "/api/orders", { ticketId: ticket.id });
  }

  /** Buys a ticket: the order is complete, and the ticket sold, when this returns. */
  async buy(ticket: Ticket): Promise<Order> {
    const order = await this.reserve(ticket);
    await this.call("POST", "/api/payments", { orderId: order.id, paymentMethod: "pm_card_visa" });
    const complete = await eventually(async () => {
      const now = await this.call<Order>("GET", `/api/orders/${order.id}`);
      return now.status === "complete" ? now : undefined;
    });
    await eventually(
      async () => (await send<Ticket>(this.url, "GET", `/api/tickets/${ticket.id}`)).status === "sold" || undefined,
    );
    return complete;
  }
}

/** A moment some days from now, as the API writes it. */
export function inDays(days: number): string {
  return new Date(Date.now() + days * 24 * 60 * 60 * 1000).toISOString();
}

/** A user who owns a show with some seats for sale. */
export async function showWithSeats(url: string, seats: number, members: Partial<Schemas["NewShow"]> = {}) {
  const owner = await Account.signUp(url, "owner");
  const show = await owner.announce(members);
  const tickets: Ticket[] = [];
  for (let number = 1; number <= seats; number++) {
    tickets.push(await owner.list(show, { section: "Stalls", row: "A", number: String(number) }));
  }
  const [ticket] = tickets;
  if (ticket === undefined) {
    throw new Error("a show without seats");
  }
  return { owner, show, ticket, tickets };
}

/** Calls until there is a result, because events arrive a moment later. */
export async function eventually<Result>(read: () => Promise<Result | undefined>): Promise<Result> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const result = await read();
    if (result !== undefined) {
      return result;
    }
    if (Date.now() > deadline) {
      throw new Error("it did not happen within 20 seconds");
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Sends a request with a JSON body. */
export async function send<Answer>(
  url: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    headers: { ...(body !== undefined && { "Content-Type": "application/json" }), ...headers },
    ...(body !== undefined && { body: body instanceof Uint8Array ? new Uint8Array(body) : JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) {
    throw new Refusal(`${method} ${path}`, response.status, text);
  }
  return (text === "" ? undefined : JSON.parse(text)) as Answer;
}
