// The reader's orders, newest first.
import { useEffect, useState } from "preact/hooks";

import { api, type Order, type Show } from "../lib/api.ts";
import { serverNow } from "../lib/clock.ts";
import { money } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { Badge, Countdown, DateTime, Empty, Failure, LinkButton, More, Skeleton } from "../ui/index.tsx";
import { usePages } from "../ui/pages.ts";
import { placeText } from "../ui/ticket.tsx";

const pageLength = 20;

interface Item {
  order: Order;
  /** Undefined if its ticket has none, or it could not be read: the page is useful without it. */
  show: Show | undefined;
}

/** The shows that are read: each once. */
const shows = new Map<string, Promise<Show | undefined>>();

function readShow(showId: string): Promise<Show | undefined> {
  const show =
    shows.get(showId) ??
    api.GET("/api/shows/{showId}", { params: { path: { showId } } }).then(
      ({ data }) => data,
      () => undefined,
    );
  shows.set(showId, show);
  return show;
}

async function readItems(page: { cursor?: string }): Promise<{ data: Item[]; response: Response }> {
  const { data, response } = await api.GET("/api/orders", { params: { query: { limit: pageLength, ...page } } });
  const withShow = async (order: Order): Promise<Item> => {
    const { showId } = order.ticket;
    return { order, show: showId === undefined ? undefined : await readShow(showId) };
  };
  return { data: await Promise.all(data.map(withShow)), response };
}

export default function OrdersPage() {
  const orders = usePages(readItems);
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
          {orders.items.map(({ order, show }) => (
            <li key={order.id}>
              <OrderStub order={order} show={show} />
            </li>
          ))}
        </ul>
      )}
      {orders.items && orders.more && <More busy={orders.busy} onClick={orders.next} />}
    </>
  );
}

function OrderStub({ order, show }: Item) {
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
        {show && (
          <p>
            <DateTime at={show.startsAt} timeZone={show.timeZone} /> · {show.venue}, {show.city}
          </p>
        )}
        <p class="muted">
          {ticket.showId !== undefined && <>{placeText(ticket.seat)} · </>}
          {money(ticket.price, ticket.currency)}
          {!show && (
            <>
              {" "}
              · {t("orders.ordered")} <DateTime at={order.createdAt} />
            </>
          )}
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
          {valid &&
            (order.usedAt === undefined ? (
              <Badge kind="success">{t("order.paid")}</Badge>
            ) : (
              <Badge kind="warning">{t("order.used")}</Badge>
            ))}
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
