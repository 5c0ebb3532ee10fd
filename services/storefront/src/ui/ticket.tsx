// The facts of a ticket, as the pages of an order, a pass and a receipt show them.
import type { ComponentChildren } from "preact";

import { api, type Schemas } from "../lib/api.ts";
import { dateTime, placeName } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { Button, LinkButton } from "./index.tsx";
import { useLoaded } from "./use.ts";

export type Show = Schemas["Show"];

/** The show of a ticket, when it has arrived. A page is useful without it. */
export function useShow(showId: string | undefined): Show | undefined {
  return useLoaded<Show | undefined>(
    async (signal) =>
      showId === undefined ? undefined : (await api.GET("/api/shows/{showId}", { params: { path: { showId } }, signal })).data,
    [showId],
  ).data;
}

/** "Stalls, row C, seat 12", or what a ticket without a place has. */
export function placeText(seat: Schemas["Place"] | undefined): string {
  return placeName(seat) || t("ui.noPlace");
}

/** An id for people: its last digits, which differ most. */
export function shortId(id: string): string {
  return id.slice(-8).toUpperCase();
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** When and where a show is. Both have their place before the show has arrived. */
export function WhenAndWhere({ show, startsAt }: { show: Show | undefined; startsAt?: string | undefined }) {
  const at = show?.startsAt ?? startsAt;
  return (
    <>
      <Fact name={t("ticket.when")}>{at === undefined ? "…" : <time dateTime={at}>{dateTime(at, show?.timeZone)}</time>}</Fact>
      <Fact name={t("ticket.where")}>{show ? `${show.venue}, ${show.city}` : "…"}</Fact>
    </>
  );
}

/** What the reader of a page for paper can do with it. */
export function PrintOrBack({ orderId }: { orderId: string }) {
  return (
    <p class="actions no-print">
      <Button
        kind="secondary"
        onClick={() => {
          print();
        }}
      >
        {t("pass.print")}
      </Button>
      <LinkButton kind="quiet" href={`/orders/${orderId}`}>
        {t("pass.order")}
      </LinkButton>
    </p>
  );
}
