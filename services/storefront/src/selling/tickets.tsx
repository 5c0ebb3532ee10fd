// The tickets on the page of listings: to change and to withdraw.
import { Fragment } from "preact";
import { useState } from "preact/hooks";

import { api, hasCode, messageOf, type Show, type Ticket } from "../lib/api.ts";
import { date, dateTime, editMoney, money, placeName } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { Dialog } from "../ui/dialog.tsx";
import { textOf, useForm } from "../ui/form.ts";
import { Alert, Badge, Button, Empty, ErrorAlert, Field, LinkButton, More, Select, Skeleton } from "../ui/index.tsx";
import { usePages } from "../ui/pages.ts";
import { useAction, useLoaded } from "../ui/use.ts";
import { AmountField } from "./amount-field.tsx";
import { byShow, type Group } from "./groups.ts";
import { myShows } from "./my-shows.ts";
import { amountOf, nameCap } from "./price.ts";

const badges = { available: "success", reserved: "warning", sold: "note", withheld: "error" } as const;

/** The reader's listings: all, newest first, or those of a show that the reader chooses. */
export function Tickets() {
  const shows = useLoaded(myShows);
  const [chosen, setChosen] = useState(new URLSearchParams(location.search).get("show") ?? "");
  if (shows.data === undefined && shows.loading) {
    return <Skeleton rows={5} />;
  }
  const all = shows.data ?? [];
  const showId = all.some(({ id }) => id === chosen) ? chosen : undefined;
  return (
    <>
      <ErrorAlert error={shows.error} />
      {all.length > 0 && (
        <Select
          name="show"
          label={t("tickets.ofShow")}
          class="show-choice"
          options={[
            { value: "", label: t("tickets.ofAll") },
            ...all.map(({ id, name, startsAt, timeZone }) => ({ value: id, label: `${name}, ${date(startsAt, timeZone)}` })),
          ]}
          value={showId ?? ""}
          onChange={(event) => {
            const { value } = event.currentTarget;
            history.replaceState(null, "", value === "" ? "/listings" : `/listings?show=${value}`);
            setChosen(value);
          }}
        />
      )}
      <List key={showId} showId={showId} shows={all} />
    </>
  );
}

interface ListProps {
  /** The show whose tickets are listed; undefined for all tickets. */
  showId: string | undefined;
  /** The reader's shows. */
  shows: readonly Show[];
}

/** Listings by their show. Those that no order has can be changed and withdrawn. */
function List({ showId, shows }: ListProps) {
  const query = { seller: "me", limit: 100, ...(showId !== undefined && { showId }) } as const;
  const tickets = usePages((page) => api.GET("/api/tickets", { params: { query: { ...query, ...page } } }));
  const [edited, setEdited] = useState<Ticket>();
  const [withdrawn, setWithdrawn] = useState<Ticket>();
  const [done, setDone] = useState("");
  const close = (): void => {
    setEdited(undefined);
    setWithdrawn(undefined);
  };
  return (
    <>
      <div role="status">{done && <p class="alert success">{done}</p>}</div>
      <ErrorAlert error={tickets.error} />
      {tickets.items === undefined && tickets.error === undefined && <Skeleton rows={5} />}
      {tickets.items?.length === 0 &&
        (showId === undefined ? (
          <Empty title={t("tickets.none")} action={<LinkButton href="/sell">{t("nav.sell")}</LinkButton>}>
            {t("tickets.noneText")}
          </Empty>
        ) : (
          <Empty
            title={t("tickets.noneOfShow")}
            action={<LinkButton href={`/sell?show=${showId}`}>{t("sell.listTickets")}</LinkButton>}
          >
            {t("tickets.noneText")}
          </Empty>
        ))}
      {byShow(tickets.items ?? []).map((group) => (
        <Fragment key={group.showId}>
          <Title group={group} shows={shows} />
          <ul class="rows">
            {group.tickets.map((ticket) => (
              <Row key={ticket.id} ticket={ticket} edit={setEdited} withdraw={setWithdrawn} />
            ))}
          </ul>
        </Fragment>
      ))}
      {tickets.more && <More busy={tickets.busy} onClick={tickets.next} />}
      {edited && (
        <Edit
          ticket={edited}
          close={close}
          saved={(ticket) => {
            tickets.replace(edited, ticket);
            close();
            setDone(t("tickets.saved", { ticket: nameOf(ticket), price: money(ticket.price, ticket.currency) }));
          }}
        />
      )}
      {withdrawn && (
        <Withdraw
          ticket={withdrawn}
          close={close}
          gone={() => {
            tickets.replace(withdrawn, undefined);
            close();
            setDone(t("tickets.gone", { ticket: nameOf(withdrawn) }));
          }}
        />
      )}
    </>
  );
}

/** What the listings of a group have in common. */
function Title({ group: { showId, tickets }, shows }: { group: Group; shows: readonly Show[] }) {
  if (showId === undefined) {
    return <h2 class="rows-title">{t("tickets.withoutShow")}</h2>;
  }
  const show = shows.find(({ id }) => id === showId); // none for a resale
  return (
    <>
      <h2 class="rows-title">
        <a href={`/shows/${showId}`}>{show?.name ?? tickets[0]?.title}</a>
      </h2>
      {show && (
        <p class="muted">
          {dateTime(show.startsAt, show.timeZone)} · {show.venue}, {show.city}
        </p>
      )}
    </>
  );
}

interface RowProps {
  ticket: Ticket;
  edit: (ticket: Ticket) => void;
  withdraw: (ticket: Ticket) => void;
}

function Row({ ticket, edit, withdraw }: RowProps) {
  return (
    <li class="row">
      <div class="row-main">
        <strong>{placeName(ticket.seat) || ticket.title}</strong>
        <span class="muted">{t("tickets.since", { date: date(ticket.createdAt) })}</span>
        {ticket.status === "withheld" && <span class="hint">{t("tickets.withheld")}</span>}
      </div>
      <div class="row-facts">
        {ticket.resaleOf !== undefined && <Badge>{t("tickets.resale")}</Badge>}
        <Badge kind={badges[ticket.status]}>{t(`tickets.status.${ticket.status}`)}</Badge>
        <span class="price">{money(ticket.price, ticket.currency)}</span>
      </div>
      <div class="row-actions">
        {(ticket.status === "available" || ticket.status === "withheld") && (
          <>
            <Button
              kind="quiet"
              aria-label={t("tickets.editOf", { ticket: nameOf(ticket) })}
              onClick={() => {
                edit(ticket);
              }}
            >
              {t("tickets.edit")}
            </Button>
            <Button
              kind="quiet"
              aria-label={t("tickets.withdrawOf", { ticket: nameOf(ticket) })}
              onClick={() => {
                withdraw(ticket);
              }}
            >
              {t("tickets.withdraw")}
            </Button>
          </>
        )}
      </div>
    </li>
  );
}

function nameOf(ticket: Ticket): string {
  return [ticket.title, placeName(ticket.seat)].filter(Boolean).join(", ");
}

/** Changes the price of a listing; also the title of a ticket without a show, and the face value of one that its owner sells. */
function Edit({ ticket, close, saved }: { ticket: Ticket; close: () => void; saved: (ticket: Ticket) => void }) {
  const [current, setCurrent] = useState(ticket);
  const { currency } = ticket;
  const form = useForm(async (values) => {
    const path = { ticketId: ticket.id };
    try {
      const { data } = await api.PUT("/api/tickets/{ticketId}", {
        params: { path, header: { "If-Match": `"${current.version}"` } },
        body: {
          price: amountOf(values, "price", currency),
          ...(values.has("title") && { title: textOf(values, "title") }),
          ...(values.has("faceValue") && { faceValue: amountOf(values, "faceValue", currency) }),
        },
      });
      saved(data);
    } catch (error) {
      if (hasCode(error, "stale_version")) {
        // The reader sees what it is now, and may save again.
        setCurrent((await api.GET("/api/tickets/{ticketId}", { params: { path } })).data);
      }
      throw nameCap(error, currency);
    }
  });
  return (
    <Dialog title={t("tickets.editTitle")} close={close}>
      <form {...form.attributes}>
        {form.error !== undefined && (
          <Alert kind="error">
            <p>{messageOf(form.error)}</p>
            {current !== ticket && (
              <p>
                {t("tickets.now", {
                  ticket: nameOf(current),
                  price: money(current.price, currency),
                  status: t(`tickets.status.${current.status}`),
                })}
              </p>
            )}
          </Alert>
        )}
        <p class="muted">{nameOf(current)}</p>
        {ticket.showId === undefined && (
          <Field
            name="title"
            label={t("ticketForm.name")}
            error={form.errorOf("title")}
            defaultValue={ticket.title}
            maxLength={200}
            required
          />
        )}
        <AmountField form={form} name="price" currency={currency} defaultValue={editMoney(ticket.price, currency)} required />
        {ticket.faceValue !== undefined &&
          (ticket.resaleOf === undefined ? (
            <AmountField
              form={form}
              name="faceValue"
              currency={currency}
              defaultValue={editMoney(ticket.faceValue, currency)}
              required
            />
          ) : (
            <p class="hint">{t("show.faceValue", { price: money(ticket.faceValue, currency) })}</p>
          ))}
        {ticket.status === "withheld" && <p class="hint">{t("tickets.offersAgain")}</p>}
        <p class="actions">
          <Button type="submit" busy={form.busy}>
            {t(ticket.status === "withheld" ? "tickets.offer" : "ui.save")}
          </Button>
          <Button kind="quiet" onClick={close}>
            {t("ui.cancel")}
          </Button>
        </p>
      </form>
    </Dialog>
  );
}

function Withdraw({ ticket, close, gone }: { ticket: Ticket; close: () => void; gone: () => void }) {
  const withdraw = useAction(async () => {
    try {
      await api.DELETE("/api/tickets/{ticketId}", { params: { path: { ticketId: ticket.id } } });
    } catch (error) {
      if (!hasCode(error, "not_found")) {
        throw error;
      }
    }
    gone();
  });
  return (
    <Dialog title={t("tickets.withdrawQuestion")} close={close}>
      <ErrorAlert error={withdraw.error} />
      <p>
        <strong>{nameOf(ticket)}</strong>
      </p>
      <p>{t(ticket.resaleOf === undefined ? "tickets.withdrawText" : "tickets.withdrawResale")}</p>
      <p class="actions">
        <Button kind="danger" busy={withdraw.busy} onClick={withdraw.run}>
          {t("tickets.withdraw")}
        </Button>
        <Button kind="quiet" onClick={close}>
          {t("ui.cancel")}
        </Button>
      </p>
    </Dialog>
  );
}
