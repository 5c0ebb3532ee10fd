// The pass of a complete order: shown at the door, on a phone or on paper.
import { useEffect, useState } from "preact/hooks";

import { api, hasCode, messageOf, retry } from "../lib/api.ts";
import { t } from "../lib/texts.ts";
import { Alert, Badge, DateTime, Empty, Failure, LinkButton, Skeleton } from "../ui/index.tsx";
import { Resale } from "../selling/resale.tsx";
import { Fact, placeText, PrintOrBack, shortId, useShow, WhenAndWhere } from "../ui/ticket.tsx";
import { useLoaded } from "../ui/use.ts";

export default function PassPage({ id = "" }: { id?: string }) {
  const {
    data: pass,
    error,
    reload,
  } = useLoaded(
    (signal) =>
      retry(async () => (await api.GET("/api/orders/{orderId}/pass", { params: { path: { orderId: id } }, signal })).data, {
        within: 10_000,
        signal,
      }),
    [id],
  );
  const { show, loading } = useShow(pass?.showId);
  const [imageFailed, setImageFailed] = useState(false);

  useEffect(() => {
    const shownAgain = (): void => {
      if (!document.hidden) {
        reload(); // it may have been used or sold meanwhile
      }
    };
    document.addEventListener("visibilitychange", shownAgain);
    return () => {
      document.removeEventListener("visibilitychange", shownAgain);
    };
  }, []);

  if (!pass || loading) {
    return (
      <>
        <h1>{t("pass.title")}</h1>
        {error === undefined ? (
          <Skeleton rows={5} />
        ) : hasCode(error, "no_pass") ||
          hasCode(error, "pass_void") ||
          hasCode(error, "not_found") ||
          hasCode(error, "not_buyer") ? (
          <Empty title={messageOf(error)} action={<LinkButton href={`/orders/${id}`}>{t("pass.order")}</LinkButton>} />
        ) : (
          <Failure error={error} onRetry={reload} />
        )}
      </>
    );
  }
  const used = pass.status === "used";
  return (
    <>
      <h1 class="no-print">{t("pass.title")}</h1>
      {error !== undefined && !navigator.onLine && <Alert kind="warning">{t("pass.offline")}</Alert>}
      <article class={`pass${used ? " used" : ""}`} aria-labelledby="pass-title">
        <div class="pass-head">
          <p class="state">
            {used ? <Badge kind="warning">{t("pass.used")}</Badge> : <Badge kind="success">{t("pass.valid")}</Badge>}
          </p>
          <h2 id="pass-title">{show?.name ?? pass.title}</h2>
          {show && show.name !== pass.title && <p>{pass.title}</p>}
        </div>
        <dl class="pass-facts">
          <WhenAndWhere show={show} startsAt={pass.startsAt} />
          <Fact name={t("ticket.section")}>{pass.seat?.section ?? t("ui.noPlace")}</Fact>
          {pass.seat?.row && <Fact name={t("ticket.row")}>{pass.seat.row}</Fact>}
          {pass.seat?.number && <Fact name={t("ticket.number")}>{pass.seat.number}</Fact>}
          <Fact name={t("order.number")} class="number">
            {shortId(pass.orderId)}
          </Fact>
          {pass.usedAt !== undefined && (
            <Fact name={t("pass.usedAt")} class="wide">
              <DateTime at={pass.usedAt} timeZone={show?.timeZone} />
            </Fact>
          )}
        </dl>
        <div class="pass-code">
          {imageFailed ? (
            <Alert kind="error">{t("pass.imageFailed")}</Alert>
          ) : (
            <img
              src={`/api/orders/${id}/pass?format=svg`}
              width="320"
              height="320"
              alt={t("pass.code", { place: placeText(pass.seat) })}
              onError={() => {
                setImageFailed(true);
              }}
            />
          )}
          <p>{t(used ? "pass.usedHint" : "pass.hint")}</p>
        </div>
      </article>
      <PrintOrBack orderId={id} />
      <details class="no-print code-text" open={imageFailed}>
        <summary>{t("pass.codeText")}</summary>
        <p>{t("pass.codeText.hint")}</p>
        <code>{pass.code}</code>
      </details>
      {!used && <Resale ticketId={pass.ticketId} show={show} onChange={reload} />}
    </>
  );
}
