// The start of every page: it mounts the component of the page that the server names in <body data-page="order" data-id="…">, and keeps
// the header right.
import { type ComponentType, render } from "preact";

import { messageOf } from "./lib/api.ts";
import "./lib/uuid.ts";
import { startHeader } from "./header.ts";
import { Alert } from "./ui/index.tsx";

interface Page {
  default: ComponentType<{ id?: string }>;
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
  load().then(
    ({ default: Component }) => {
      render(<Component {...(id && { id })} />, app);
    },
    (error: unknown) => {
      render(<Alert kind="error">{messageOf(error)}</Alert>, app); // the script of the page did not arrive
    },
  );
}
