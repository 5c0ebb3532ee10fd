// The receipt of an order that was paid, to read or to print.
import { api, retry } from "../lib/api.ts";
import { money } from "../lib/format.ts";
import { t, tValue } from "../lib/texts.ts";
import { DateTime, Empty, Failure, LinkButton, Skeleton } from "../ui/index.tsx";
import { Fact, placeText, PrintOrBack, WhenAndWhere } from "../ui/ticket.tsx";
import { useLoaded } from "../ui/use.ts";

const absent = (): undefined => undefined;

export default function ReceiptPage({ id = "" }: { id?: string }) {
  const { data, error, reload } = useLoaded(
    (signal) =>
      retry(
        async () => {
          const { data: order } = await api.GET("/api/orders/{orderId}", { params: { path: { orderId: id } }, signal });
          const { id: ticketId, showId } = order.ticket;
          // A listing that was deleted since has no seller to show, and a receipt is useful without its show.
          const [payments, seller, show] = await Promise.all([
            api.GET("/api/payments", { params: { query: { orderId: id } }, signal }),
            api
              .GET("/api/tickets/{ticketId}", { params: { path: { ticketId } }, signal })
              .then(({ data }) => data.userId, absent),
            showId === undefined
              ? undefined
              : api.GET("/api/shows/{showId}", { params: { path: { showId } }, signal }).then(({ data }) => data, absent),
          ]);
          return { order, payment: payments.data[0], seller, show };
        },
        { within: 10_000, signal },
      ),
    [id],
  );
  if (!data) {
    return (
      <>
        <h1>{t("receipt.title")}</h1>
        {error === undefined ? <Skeleton rows={5} /> : <Failure error={error} onRetry={reload} />}
      </>
    );
  }
  const { order, payment, seller, show } = data;
  const { ticket } = order;
  if (!payment || !["authorized", "captured", "refunded"].includes(payment.status)) {
    return (
      <>
        <h1>{t("receipt.title")}</h1>
        <Empty title={t("receipt.none")} action={<LinkButton href={`/orders/${id}`}>{t("pass.order")}</LinkButton>}>
          {t("receipt.none.text")}
        </Empty>
      </>
    );
  }
  const { amount, currency, refunded = 0 } = payment;
  return (
    <>
      <article class="receipt panel" aria-labelledby="receipt-title">
        <header>
          <h1 id="receipt-title">{t("receipt.title")}</h1>
          <p class="muted">{t("site.name")}</p>
        </header>
        <dl>
          <Fact name={t("receipt.order")}>
            <code>{order.id}</code>
          </Fact>
          <Fact name={t("receipt.ordered")}>
            <DateTime at={order.createdAt} timeZone={show?.timeZone} />
          </Fact>
          <Fact name={t("receipt.paid")}>
            <DateTime at={payment.createdAt} timeZone={show?.timeZone} />
          </Fact>
          <Fact name={t("receipt.payment")}>
            <code>{payment.stripeId}</code>
          </Fact>
          <Fact name={t("receipt.status")}>{tValue(`payment.${payment.status}`, payment.status)}</Fact>
          {seller !== undefined && (
            <Fact name={t("receipt.seller")}>
              <code>{seller}</code>
            </Fact>
          )}
          {ticket.showId !== undefined && <WhenAndWhere show={show} />}
        </dl>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("receipt.item")}</th>
              <th scope="col">{t("receipt.amount")}</th>
            </tr>
          </thead>
          <tbody>
            <tr>
              <td>
                {t("receipt.ticket", { title: ticket.title })}
                {ticket.showId !== undefined && <span class="muted">{placeText(ticket.seat)}</span>}
              </td>
              <td>{money(amount, currency)}</td>
            </tr>
            {refunded > 0 && (
              <tr>
                <td>{t("receipt.refund")}</td>
                <td>{money(-refunded, currency)}</td>
              </tr>
            )}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">{t("receipt.total")}</th>
              <td>{money(amount - refunded, currency)}</td>
            </tr>
          </tfoot>
        </table>
        <p class="hint">{t("receipt.note")}</p>
      </article>
      <PrintOrBack orderId={id} />
    </>
  );
}
