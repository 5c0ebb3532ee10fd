// One order: paid here, or what became of it.
import { useEffect, useRef, useState } from "preact/hooks";

import { api, messageOf, type Order, type Payment, type Show } from "../lib/api.ts";
import { serverNow } from "../lib/clock.ts";
import { money } from "../lib/format.ts";
import { t, tn } from "../lib/texts.ts";
import {
  Alert,
  Badge,
  Button,
  Countdown,
  DateTime,
  Empty,
  ErrorAlert,
  LinkButton,
  Skeleton,
  useServerNow,
} from "../ui/index.tsx";
import { Fact, placeText, shortId, useShow, WhenAndWhere } from "../ui/ticket.tsx";
import { useAction } from "../ui/use.ts";
import { type LiveOrder, useOrder } from "../order/live.ts";
import { declineMessage, goToBank, PayForm } from "../order/pay.tsx";

/** What the buyer can do, or waits for. */
type Phase = "loading" | "pay" | "bank" | "settling" | "expiring" | "complete" | "cancelled";

/** After this many reads without news, a buyer who came back from the bank is asked again. */
const patience = 6;

function phaseOf({ order, payment, paymentKnown, unchanged }: LiveOrder, over: boolean, returned: boolean): Phase {
  if (!order) {
    return "loading";
  }
  if (order.status !== "created") {
    return order.status;
  }
  if (payment?.status === "authorized") {
    return "settling";
  }
  if (over) {
    return "expiring";
  }
  if (!paymentKnown) {
    return "loading";
  }
  switch (payment?.status) {
    case "requires_action":
      if (returned && unchanged < patience) {
        return "settling";
      }
      // A client that sent no return URL has begun it: the buyer begins anew here.
      return payment.redirectUrl === undefined && unchanged >= 2 ? "pay" : "bank";
    case "pending":
      return unchanged < patience ? "settling" : "pay";
    case "captured":
      return "settling";
    default:
      return "pay";
  }
}

/** Whether the browser comes back from the bank. The members that Stripe adds to the address are secrets, so they are taken out of it. */
function takeReturn(): boolean {
  const returned = new URLSearchParams(location.search).has("payment_intent");
  if (returned) {
    history.replaceState(null, "", location.pathname);
  }
  return returned;
}

export default function OrderPage({ id = "" }: { id?: string }) {
  const [returned] = useState(takeReturn);
  const live = useOrder(id, returned);
  const { order, payment } = live;
  const [over, setOver] = useState(false);
  const { show, loading } = useShow(order?.ticket.showId);
  const shown = loading ? undefined : order;
  const phase = loading ? "loading" : phaseOf(live, over, returned);
  const panel = useRef<HTMLElement>(null);

  useEffect(() => {
    if (order && Date.parse(order.expiresAt) <= serverNow()) {
      setOver(true);
    }
  }, [order]);

  // A phase that begins takes away what had the focus; then its heading gets it.
  const before = useRef<Phase>("loading");
  useEffect(() => {
    if (before.current !== "loading" && before.current !== phase && (document.activeElement ?? document.body) === document.body) {
      panel.current?.querySelector<HTMLElement>("h2")?.focus();
    }
    before.current = phase;
  }, [phase]);

  const onOver = (): void => {
    setOver(true);
    live.refresh();
  };
  if (live.error !== undefined) {
    return (
      <>
        <h1>{t("order.title")}</h1>
        <Empty title={messageOf(live.error)} action={<LinkButton href="/orders">{t("nav.orders")}</LinkButton>} />
      </>
    );
  }
  return (
    <>
      <h1>{t("order.title")}</h1>
      {live.disconnected && <Alert kind="warning">{t(navigator.onLine ? "order.noAnswer" : "order.offline")}</Alert>}
      {/* All at once, so that no part of it moves when another one arrives. */}
      <div class="order" key={shown ? "order" : "loading"}>
        {shown ? <Ticket order={shown} show={show} /> : <Skeleton rows={2} />}
        <section class={`panel phase-${phase}`} ref={panel} aria-label={t("order.state")}>
          {order && phase === "pay" && <Pay order={order} payment={payment} live={live} onOver={onOver} />}
          {order && phase === "bank" && <Bank order={order} payment={payment} live={live} onOver={onOver} />}
          {phase === "settling" && <Wait title={t("order.settling")}>{t("order.settling.text")}</Wait>}
          {phase === "expiring" && <Wait title={t("order.expiring")}>{t("order.expiring.text")}</Wait>}
          {order && phase === "complete" && <Complete order={order} payment={payment} timeZone={show?.timeZone} />}
          {order && phase === "cancelled" && <Cancelled order={order} payment={payment} />}
          {phase === "loading" && (
            <>
              {shown && <TimeLeft order={shown} onOver={live.refresh} />}
              <Skeleton rows={shown ? 4 : 5} />
            </>
          )}
        </section>
      </div>
      <Announcements phase={phase} order={order} />
    </>
  );
}

function Ticket({ order, show }: { order: Order; show: Show | undefined }) {
  const { ticket } = order;
  return (
    <section class="order-ticket" aria-label={t("order.ticket")}>
      <h2>{ticket.showId === undefined ? ticket.title : <a href={`/shows/${ticket.showId}`}>{ticket.title}</a>}</h2>
      <dl>
        {ticket.showId !== undefined && <WhenAndWhere show={show} />}
        {ticket.showId !== undefined && <Fact name={t("ticket.place")}>{placeText(ticket.seat)}</Fact>}
        <Fact name={t("order.number")}>{shortId(order.id)}</Fact>
        <div class="order-price">
          <dt>{t("ticket.price")}</dt>
          <dd>{money(ticket.price, ticket.currency)}</dd>
        </div>
      </dl>
    </section>
  );
}

interface OpenProps {
  order: Order;
  payment: Payment | undefined;
  live: LiveOrder;
  onOver: () => void;
}

/** What is left of the reservation window, as a countdown. */
function TimeLeft({ order, onOver }: { order: Order; onOver: () => void }) {
  const until = Date.parse(order.expiresAt);
  const most = until - Date.parse(order.createdAt);
  const left = Math.max(0, until - useServerNow());
  return (
    <div class={`time-left${left < 60_000 ? " last-minute" : ""}`}>
      <p>
        {t("order.reservedFor")} <Countdown until={order.expiresAt} most={most} onEnd={onOver} />
      </p>
      <progress max={most} value={left} aria-hidden="true" />
    </div>
  );
}

/** `focused`: it takes the place of something that had the focus. */
function Pay({ order, payment, live, onOver, focused = false }: OpenProps & { focused?: boolean }) {
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (focused) {
      title.current?.focus();
    }
  }, []);
  return (
    <>
      <TimeLeft order={order} onOver={onOver} />
      <h2 tabIndex={-1} ref={title}>
        {t("pay.title")}
      </h2>
      <PayForm
        order={order}
        declined={payment?.status === "failed" ? (payment.declineCode ?? "") : undefined}
        onChange={live.refresh}
      />
      <Cancel order={order} onChange={live.refresh} />
    </>
  );
}

/** The bank wants to authenticate the buyer, who has not done so yet. */
function Bank({ order, payment, live, onOver }: OpenProps) {
  const [otherCard, setOtherCard] = useState(false);
  const url = payment?.redirectUrl;
  if (otherCard) {
    return <Pay order={order} payment={payment} live={live} onOver={onOver} focused />;
  }
  return (
    <>
      <TimeLeft order={order} onOver={onOver} />
      <h2 tabIndex={-1}>{t("bank.title")}</h2>
      <p>{t("bank.text")}</p>
      <p class="actions">
        <Button
          disabled={url === undefined}
          onClick={() => {
            goToBank(url ?? "");
          }}
        >
          {t("bank.continue")}
        </Button>
        <Button
          kind="secondary"
          onClick={() => {
            setOtherCard(true);
          }}
        >
          {t("bank.otherCard")}
        </Button>
      </p>
      <Cancel order={order} onChange={live.refresh} />
    </>
  );
}

function Wait({ title, children }: { title: string; children: string }) {
  return (
    <div class="waiting">
      <span class="spinner" aria-hidden="true" />
      <h2 tabIndex={-1}>{title}</h2>
      <p>{children}</p>
    </div>
  );
}

function Cancel({ order, onChange }: { order: Order; onChange: () => void }) {
  const [asked, setAsked] = useState(false);
  const question = useRef<HTMLDivElement>(null);
  const cancel = useAction(async () => {
    try {
      await api.DELETE("/api/orders/{orderId}", { params: { path: { orderId: order.id } } });
    } finally {
      onChange();
    }
  });
  useEffect(() => {
    if (asked) {
      question.current?.querySelector<HTMLElement>("button")?.focus();
    }
  }, [asked]);
  return (
    <div class="cancel">
      <ErrorAlert error={cancel.error} />
      {asked ? (
        <div role="group" aria-labelledby="cancel-question" ref={question}>
          <p id="cancel-question">{t("cancel.question")}</p>
          <p class="actions">
            <Button
              kind="secondary"
              onClick={() => {
                setAsked(false);
              }}
            >
              {t("cancel.keep")}
            </Button>
            <Button kind="danger" busy={cancel.busy} onClick={cancel.run}>
              {t("cancel.confirm")}
            </Button>
          </p>
        </div>
      ) : (
        <Button
          kind="quiet"
          onClick={() => {
            setAsked(true);
          }}
        >
          {t("cancel.ask")}
        </Button>
      )}
    </div>
  );
}

interface CompleteProps {
  order: Order;
  payment: Payment | undefined;
  /** Of the show. */
  timeZone: string | undefined;
}

function Complete({ order, payment, timeZone }: CompleteProps) {
  const { usedAt, resoldAt, ticket } = order;
  const hasPass = ticket.showId !== undefined && resoldAt === undefined;
  return (
    <>
      <p class="state">
        {resoldAt !== undefined ? (
          <Badge kind="warning">{t("order.resold")}</Badge>
        ) : (
          <Badge kind="success">{t("order.paid")}</Badge>
        )}
      </p>
      <h2 tabIndex={-1}>{t(resoldAt === undefined ? "complete.title" : "complete.resold")}</h2>
      <p>
        {resoldAt !== undefined ? (
          <>
            {t("complete.resold.text")} <DateTime at={resoldAt} timeZone={timeZone} />
          </>
        ) : usedAt !== undefined ? (
          <>
            {t("complete.used")} <DateTime at={usedAt} timeZone={timeZone} />
          </>
        ) : (
          t(hasPass ? "complete.text" : "complete.noPass")
        )}
      </p>
      {payment?.refunded !== undefined && (
        <Alert kind="note">{t("complete.refunded", { amount: money(payment.refunded, payment.currency) })}</Alert>
      )}
      <p class="actions">
        {hasPass && <LinkButton href={`/orders/${order.id}/pass`}>{t("complete.pass")}</LinkButton>}
        <LinkButton kind="secondary" href={`/orders/${order.id}/receipt`}>
          {t("complete.receipt")}
        </LinkButton>
      </p>
    </>
  );
}

function Cancelled({ order, payment }: { order: Order; payment: Payment | undefined }) {
  const reason = order.reason ?? "user";
  const refunded = payment?.status === "refunded";
  return (
    <>
      <p class="state">
        <Badge kind={reason === "user" ? "note" : "warning"}>{t("order.cancelled")}</Badge>
      </p>
      <h2 tabIndex={-1}>{t(`cancelled.${reason}`)}</h2>
      {payment?.declineCode !== undefined && reason === "payment" && <p>{declineMessage(payment.declineCode)}</p>}
      <p>
        {t(
          refunded
            ? "cancelled.refunded.text"
            : payment?.refundFailed
              ? "cancelled.refundFailed"
              : payment?.status === "captured"
                ? "cancelled.refunding"
                : "cancelled.notCharged",
        )}
      </p>
      <p class="actions">
        <LinkButton href={order.ticket.showId === undefined ? "/" : `/shows/${order.ticket.showId}`}>
          {t(order.ticket.showId === undefined ? "nav.shows" : "cancelled.again")}
        </LinkButton>
        {(refunded || payment?.status === "captured") && (
          <LinkButton kind="secondary" href={`/orders/${order.id}/receipt`}>
            {t("complete.receipt")}
          </LinkButton>
        )}
      </p>
    </>
  );
}

/** Times of the countdown that a screen reader announces, in minutes before the end. */
const announced = [10, 5, 2, 1];

/** Announces what changes, and the end of the window in a few steps: every second would be noise. */
function Announcements({ phase, order }: { phase: Phase; order: Order | undefined }) {
  const [text, setText] = useState("");
  const now = useServerNow();
  const open = phase === "pay" || phase === "bank";
  const minutes = order && open ? Math.ceil((Date.parse(order.expiresAt) - now) / 60_000) : Infinity;
  const step = announced.filter((each) => minutes <= each).at(-1) ?? Infinity;
  const last = useRef(phase);
  useEffect(() => {
    if (last.current !== phase && last.current !== "loading") {
      setText(
        phase === "settling"
          ? t("order.settling")
          : phase === "expiring"
            ? t("order.expiring")
            : phase === "complete"
              ? t("complete.title")
              : phase === "cancelled"
                ? t(`cancelled.${order?.reason ?? "user"}`)
                : "",
      );
    }
    last.current = phase;
  }, [phase]);
  const lastStep = useRef<number>();
  useEffect(() => {
    if (!open) {
      return;
    }
    if (lastStep.current !== undefined && step < lastStep.current) {
      setText(tn("order.minutes", step));
    }
    lastStep.current = step;
  }, [step, open]);
  return (
    <p class="visually-hidden" role="status">
      {text}
    </p>
  );
}
