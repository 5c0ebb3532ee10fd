// The shows on the page of listings.
import { useState } from "preact/hooks";

import { api, hasCode, type Show } from "../lib/api.ts";
import { serverNow } from "../lib/clock.ts";
import { dateTime } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { Dialog } from "../ui/dialog.tsx";
import { Badge, Button, Empty, ErrorAlert, LinkButton, Skeleton } from "../ui/index.tsx";
import { useAction, useLoaded } from "../ui/use.ts";
import { myShows } from "./my-shows.ts";

/** The shows that the reader has announced, the next one first. */
export function Shows() {
  const shows = useLoaded(myShows);
  const [cancelled, setCancelled] = useState<Show>();
  const [done, setDone] = useState("");
  return (
    <>
      <div role="status">{done && <p class="alert success">{done}</p>}</div>
      <ErrorAlert error={shows.error} />
      {shows.data === undefined && shows.loading && <Skeleton rows={5} />}
      {shows.data?.length === 0 && (
        <Empty title={t("myShows.none")} action={<LinkButton href="/sell?new=show">{t("sell.show")}</LinkButton>}>
          {t("myShows.noneText")}
        </Empty>
      )}
      <ul class="rows">
        {shows.data?.map((show) => {
          const state =
            show.status === "cancelled" ? "cancelled" : Date.parse(show.startsAt) <= serverNow() ? "started" : "scheduled";
          return (
            <li key={show.id} class="row">
              <div class="row-main">
                <strong>
                  <a href={`/shows/${show.id}`}>{show.name}</a>
                </strong>
                <span class="muted">
                  {dateTime(show.startsAt, show.timeZone)} · {show.venue}, {show.city}
                </span>
              </div>
              <div class="row-facts">
                <Badge kind={state === "scheduled" ? "success" : state === "cancelled" ? "error" : "note"}>
                  {t(`myShows.${state}`)}
                </Badge>
              </div>
              <div class="row-actions">
                <LinkButton kind="quiet" href={`/listings?show=${show.id}`}>
                  {t("listings.tab.tickets")}
                </LinkButton>
                {state !== "cancelled" && (
                  <LinkButton kind="quiet" href={`/checkin/${show.id}`}>
                    {t("checkin.title")}
                  </LinkButton>
                )}
                {state === "scheduled" && (
                  <>
                    <LinkButton kind="quiet" href={`/sell?show=${show.id}`}>
                      {t("sell.listTickets")}
                    </LinkButton>
                    <LinkButton kind="quiet" href={`/sell?edit=${show.id}`}>
                      {t("tickets.edit")}
                    </LinkButton>
                    <Button
                      kind="quiet"
                      aria-label={t("myShows.cancelOf", { show: show.name })}
                      onClick={() => {
                        setCancelled(show);
                      }}
                    >
                      {t("myShows.cancel")}
                    </Button>
                  </>
                )}
              </div>
            </li>
          );
        })}
      </ul>
      {cancelled && (
        <Cancel
          show={cancelled}
          close={() => {
            setCancelled(undefined);
          }}
          changed={(show) => {
            shows.set(shows.data?.map((one) => (one.id === show.id ? show : one)) ?? []);
            if (show.status === "cancelled") {
              setCancelled(undefined);
              setDone(t("myShows.isCancelled", { show: show.name }));
            } else {
              setCancelled(show);
            }
          }}
        />
      )}
    </>
  );
}

/** Asks before a show is cancelled. A show that was changed meanwhile is shown as it is now, and asked about again. */
function Cancel({ show, close, changed }: { show: Show; close: () => void; changed: (show: Show) => void }) {
  const [sure, setSure] = useState(false);
  const path = { showId: show.id };
  const cancel = useAction(async () => {
    try {
      await api.DELETE("/api/shows/{showId}", { params: { path, header: { "If-Match": `"${show.version}"` } } });
    } catch (error) {
      if (hasCode(error, "stale_version")) {
        changed((await api.GET("/api/shows/{showId}", { params: { path } })).data);
      }
      throw error;
    }
    changed({ ...show, status: "cancelled" });
  });
  return (
    <Dialog title={t("myShows.cancelQuestion")} close={close}>
      <ErrorAlert error={cancel.error} />
      <p>
        <strong>{show.name}</strong>
        <br />
        {dateTime(show.startsAt, show.timeZone)} · {show.venue}, {show.city}
      </p>
      <p>{t("myShows.cancelText")}</p>
      <label class="check">
        <input
          type="checkbox"
          checked={sure}
          onChange={(event) => {
            setSure(event.currentTarget.checked);
          }}
        />
        <span>{t("myShows.sure")}</span>
      </label>
      <p class="actions">
        <Button kind="danger" disabled={!sure} busy={cancel.busy} onClick={cancel.run}>
          {t("myShows.cancelShow")}
        </Button>
        <Button kind="quiet" onClick={close}>
          {t("myShows.keep")}
        </Button>
      </p>
    </Dialog>
  );
}
