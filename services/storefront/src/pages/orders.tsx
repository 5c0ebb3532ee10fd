// The reader's orders, newest first.
import { useEffect, useState } from "preact/hooks";

import { api, type Schemas } from "../lib/api.ts";
import { serverNow } from "../lib/clock.ts";
import { money } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { Badge, Countdown, DateTime, Empty, Failure, LinkButton, More, Skeleton } from "../ui/index.tsx";
import { usePages } from "../ui/pages.ts";
import { placeText } from "../ui/ticket.tsx";

type Order = Schemas["Order"];

const pageLength = 20;

export default function OrdersPage() {
  const orders = usePages((page) => api.GET("/api/orders", { params: { query: { limit: pageLength, ...page } } }));
  useEffect(() => {
    const shownAgain = (event: PageTransitionEvent): void => {
      if (event.persisted) {
        orders.reload(); // the back button: an order may have been paid since
      }
    };
    addEventListener("pageshow", shownAgain);
    return () => {
      removeEventListener("pageshow", shownAgain);
    };
  }, []);

  return (
    <>
      <h1>{t("orders.title")}</h1>
      {orders.error !== undefined && <Failure error={orders.error} busy={orders.busy} onRetry={orders.next} />}
      {!orders.items && orders.error === undefined && <Skeleton rows={4} />}
      {orders.items?.length === 0 && (
        <Empty title={t("orders.none")} action={<LinkButton href="/">{t("orders.none.action")}</LinkButton>}>
          {t("orders.none.text")}
        </Empty>
      )}
      {orders.items && orders.items.length > 0 && (
        <ul class="plain orders">
          {orders.items.map((order) => (
            <li key={order.id}>
              <OrderStub order={order} />
            </li>
          ))}
        </ul>
      )}
      {orders.items && orders.more && <More busy={orders.busy} onClick={orders.next} />}
    </>
  );
}

function OrderStub({ order }: { order: Order }) {
  const { id, ticket, status, reason } = order;
  const [over, setOver] = useState(Date.parse(order.expiresAt) <= serverNow());
  const open = status === "created" && !over;
  const valid = status === "complete" && order.resoldAt === undefined;
  return (
    <article class={`stub order-stub${valid || open ? "" : " past"}`}>
      <div>
        <h2>
          <a href={`/orders/${id}`}>{ticket.title}</a>
        </h2>
        <p class="muted">
          {ticket.showId !== undefined && <>{placeText(ticket.seat)} · </>}
          {money(ticket.price, ticket.currency)} · <DateTime at={order.createdAt} />
        </p>
        <p class="state">
          {open && (
            <>
              <Badge kind="warning">{t("order.open")}</Badge>{" "}
              <Countdown
                until={order.expiresAt}
                onEnd={() => {
                  setOver(true);
                }}
              />
            </>
          )}
          {status === "created" && over && <Badge>{t("order.expiring")}</Badge>}
          {valid && <Badge kind="success">{t(order.usedAt === undefined ? "order.paid" : "order.used")}</Badge>}
          {order.resoldAt !== undefined && <Badge>{t("order.resold")}</Badge>}
          {status === "cancelled" && (
            <>
              <Badge>{t("order.cancelled")}</Badge> <span class="muted">{t(`cancelled.${reason ?? "user"}`)}</span>
            </>
          )}
        </p>
      </div>
      <div>
        {open && <LinkButton href={`/orders/${id}`}>{t("orders.pay")}</LinkButton>}
        {valid && ticket.showId !== undefined && <LinkButton href={`/orders/${id}/pass`}>{t("complete.pass")}</LinkButton>}
        {valid && ticket.showId === undefined && (
          <LinkButton kind="secondary" href={`/orders/${id}/receipt`}>
            {t("complete.receipt")}
          </LinkButton>
        )}
        {!open && !valid && (
          <LinkButton kind="quiet" href={`/orders/${id}`}>
            {t("orders.details")}
          </LinkButton>
        )}
      </div>
    </article>
  );
}
