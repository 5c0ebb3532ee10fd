// The sales on the page of listings.
import { useEffect, useState } from "preact/hooks";

import { api, nextCursor, type Schemas } from "../lib/api.ts";
import { dateTime, money, placeName } from "../lib/format.ts";
import { t, tn, tValue } from "../lib/texts.ts";
import { Badge, Empty, ErrorAlert, LinkButton, More, Skeleton } from "../ui/index.tsx";

type Sale = Schemas["Sale"];

/** How many sales are shown at once. */
const shownAtOnce = 50;
/** How many sales are read for the total; the file has them all. */
const mostRead = 10_000;

const csv = "/api/orders/sales?format=csv";

/** What the reader has sold, newest first, and what they have earned. */
export function Sales() {
  const [sales, setSales] = useState<Sale[]>([]);
  const [state, setState] = useState<"loading" | "complete" | "partial">("loading");
  const [error, setError] = useState<unknown>();
  const [shown, setShown] = useState(shownAtOnce);

  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    const load = async (): Promise<void> => {
      const all: Sale[] = [];
      let cursor: string | undefined;
      do {
        const query = { limit: 200, ...(cursor !== undefined && { cursor }) };
        const { data, response } = await api.GET("/api/orders/sales", { params: { query }, signal });
        all.push(...data);
        setSales([...all]);
        cursor = nextCursor(response);
      } while (cursor !== undefined && all.length < mostRead);
      setState(cursor === undefined ? "complete" : "partial");
    };
    load().catch((failure: unknown) => {
      if (!signal.aborted) {
        setError(failure);
        setState("partial");
      }
    });
    return () => {
      controller.abort();
    };
  }, []);

  const download = async (): Promise<void> => {
    try {
      await api.GET("/api/orders/sales", { params: { query: { limit: 1 } } }); // a token that has expired is refreshed
      location.assign(csv); // the browser saves the file and stays on this page: a header of the answer demands it
    } catch (failure) {
      setError(failure);
    }
  };
  return (
    <>
      <ErrorAlert error={error} />
      {sales.length > 0 && (
        <div class="earned panel">
          <div>
            <p class="muted">{t(state === "partial" ? "sales.earnedPart" : "sales.earned")}</p>
            <p class="earned-sum" aria-live="polite">
              {state === "loading" ? "…" : sum(sales)}
            </p>
          </div>
          <p class="actions">
            <a
              class="button secondary"
              href={csv}
              onClick={(event) => {
                event.preventDefault();
                void download();
              }}
            >
              {t("sales.csv")}
            </a>
          </p>
        </div>
      )}
      {state === "loading" && sales.length === 0 && <Skeleton rows={5} />}
      {state === "complete" && sales.length === 0 && (
        <Empty title={t("sales.none")} action={<LinkButton href="/sell">{t("nav.sell")}</LinkButton>}>
          {t("sales.noneText")}
        </Empty>
      )}
      <ul class="rows">
        {sales.slice(0, shown).map((sale) => (
          <li key={sale.orderId} class="row">
            <div class="row-main">
              <strong>{sale.showId === undefined ? sale.title : <a href={`/shows/${sale.showId}`}>{sale.title}</a>}</strong>
              <span class="muted">{[placeName(sale.seat), dateTime(sale.soldAt)].filter(Boolean).join(" · ")}</span>
            </div>
            <div class="row-facts">
              {sale.status === "cancelled" && (
                <Badge kind="error">{tValue(`sales.reason.${sale.reason ?? ""}`, t("sales.cancelled"))}</Badge>
              )}
              <span class={sale.status === "cancelled" ? "price struck" : "price"}>{money(sale.price, sale.currency)}</span>
            </div>
          </li>
        ))}
      </ul>
      {shown < sales.length && (
        <More
          busy={false}
          onClick={() => {
            setShown(shown + shownAtOnce);
          }}
        />
      )}
      {sales.length > 0 && <p class="muted">{tn("sales.count", sales.length)}</p>}
    </>
  );
}

/** What all sales that were not cancelled come to, for each currency. */
function sum(sales: readonly Sale[]): string {
  const sums = new Map<string, number>();
  for (const { status, price, currency } of sales) {
    if (status === "complete") {
      sums.set(currency, (sums.get(currency) ?? 0) + price);
    }
  }
  return [...sums].map(([currency, amount]) => money(amount, currency)).join(" + ") || "–";
}
