// The facts of a ticket, as the pages of an order, a pass and a receipt show them.
import type { ComponentChildren } from "preact";

import { api, type Schemas, type Show } from "../lib/api.ts";
import { placeName } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { Button, DateTime, LinkButton } from "./index.tsx";
import { useLoaded } from "./use.ts";

/** For how many milliseconds a page waits for the show of its ticket. */
const patience = 5000;

/** The show of a ticket. A page is useful without it, and waits while it is `loading`: what it has shown does not move then. */
export function useShow(showId: string | undefined): { show: Show | undefined; loading: boolean } {
  const { data: show, error } = useLoaded<Show | undefined>(async () => {
    if (showId === undefined) {
      return undefined;
    }
    const signal = AbortSignal.timeout(patience);
    return (await api.GET("/api/shows/{showId}", { params: { path: { showId } }, signal })).data;
  }, [showId]);
  return { show, loading: showId !== undefined && show === undefined && error === undefined };
}

/** "Stalls, row C, seat 12", or what a ticket without a place has. */
export function placeText(seat: Schemas["Place"] | undefined): string {
  return placeName(seat) || t("ui.noPlace");
}

/** An id for people: its last digits, which differ most. */
export function shortId(id: string): string {
  return id.slice(-8).toUpperCase();
}

export function Fact({ name, children, class: more }: { name: string; children: ComponentChildren; class?: string }) {
  return (
    <div class={more}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** When and where a show is: what is known of it. */
export function WhenAndWhere({ show, startsAt }: { show: Show | undefined; startsAt?: string | undefined }) {
  const at = show?.startsAt ?? startsAt;
  return (
    <>
      {at !== undefined && (
        <Fact name={t("ticket.when")} class="wide">
          <DateTime at={at} timeZone={show?.timeZone} />
        </Fact>
      )}
      {show && (
        <Fact name={t("ticket.where")} class="wide">
          {show.venue}, {show.city}
        </Fact>
      )}
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
