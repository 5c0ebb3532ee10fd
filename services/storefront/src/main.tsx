// The start of every page: it mounts the component of the page that the server names in <body data-page="order" data-id="…">, and keeps
// the header right.
import { type ComponentType, render } from "preact";

import { messageOf } from "./lib/api.ts";
import "./lib/uuid.ts";
import { startHeader } from "./header.ts";
import { Alert } from "./ui/index.tsx";

interface Page {
  default: ComponentType<{ id?: string; prepared?: unknown }>;
  /** Reads what the component needs, while the reader sees what the server wrote. */
  prepare?: (id: string) => Promise<unknown>;
}

const pages: Record<string, () => Promise<Page>> = {
  account: () => import("./pages/account.tsx"),
  checkin: () => import("./pages/checkin.tsx"),
  listings: () => import("./pages/listings.tsx"),
  order: () => import("./pages/order.tsx"),
  orders: () => import("./pages/orders.tsx"),
  pass: () => import("./pages/pass.tsx"),
  receipt: () => import("./pages/receipt.tsx"),
  sell: () => import("./pages/sell.tsx"),
  show: () => import("./pages/show.tsx"),
  signin: () => import("./pages/signin.tsx"),
  signup: () => import("./pages/signup.tsx"),
};

startHeader();

const { page = "", id } = document.body.dataset;
const app = document.getElementById("app");
const load = pages[page];
if (app && load) {
  start(app, load).catch((error: unknown) => {
    // The page's script or data did not arrive. What the server wrote stays.
    const alert = document.createElement("div");
    app.prepend(alert);
    render(<Alert kind="error">{messageOf(error)}</Alert>, alert);
  });
}

async function start(app: HTMLElement, load: () => Promise<Page>): Promise<void> {
  const { default: Component, prepare } = await load();
  const prepared = await prepare?.(id ?? "");
  app.replaceChildren(); // Preact keeps what it does not reuse
  render(<Component {...(id && { id })} prepared={prepared} />, app);
}
