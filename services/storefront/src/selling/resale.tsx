// Sells a bought ticket again: offers it at a price, changes the price, or withdraws the listing.
import { useState } from "preact/hooks";

import { api, hasCode, paginate, type Show, type Ticket } from "../lib/api.ts";
import { editMoney, money } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { Dialog } from "../ui/dialog.tsx";
import { FieldError, useForm } from "../ui/form.ts";
import { Button, ErrorAlert } from "../ui/index.tsx";
import { useAction, useLoaded } from "../ui/use.ts";
import { AmountField } from "./amount-field.tsx";
import { amountOf, nameCap } from "./price.ts";

/** The highest price that the show allows, in the minor unit, or undefined if it allows any. */
function priceCap(faceValue: number | undefined, show: Show | undefined): number | undefined {
  return faceValue === undefined || show?.maxMarkup === undefined
    ? undefined
    : Math.floor((faceValue * (100 + show.maxMarkup)) / 100);
}

/** The reader's listing that sells a ticket again; it is among the newest of their listings. */
async function listingOf(ticketId: string, signal: AbortSignal): Promise<Ticket | undefined> {
  let read = 0;
  for await (const listing of paginate((page) =>
    api.GET("/api/tickets", { params: { query: { seller: "me", limit: 100, ...page } }, signal }),
  )) {
    if (listing.resaleOf === ticketId) {
      return listing;
    }
    if (++read >= 1000) {
      break;
    }
  }
  return undefined;
}

interface Props {
  /** The ticket of the pass. */
  ticketId: string;
  show: Show | undefined;
  /** The pass may have changed. */
  onChange: () => void;
}

/** The part of a pass's page that sells it again. */
export function Resale({ ticketId, show, onChange }: Props) {
  const loaded = useLoaded(
    async (signal) => {
      const [bought, listing] = await Promise.all([
        api.GET("/api/tickets/{ticketId}", { params: { path: { ticketId } }, signal }).then(({ data }) => data),
        listingOf(ticketId, signal),
      ]);
      return { bought, listing };
    },
    [ticketId],
  );
  const { bought, listing } = loaded.data ?? {};
  if (!bought || show?.status !== "scheduled") {
    return null;
  }
  return (
    <section class="panel resale no-print" aria-labelledby="resale-title">
      <h2 id="resale-title">{t(listing ? "resale.listed" : "resale.title")}</h2>
      {listing ? (
        <Listed listing={listing} bought={bought} show={show} onChange={loaded.reload} />
      ) : (
        <>
          <p>{t("resale.text")}</p>
          <PriceForm
            bought={bought}
            show={show}
            price={undefined}
            submit={t("resale.submit")}
            send={async (price) => {
              try {
                await api.POST("/api/tickets", {
                  params: { header: { "Idempotency-Key": crypto.randomUUID() } },
                  body: { resaleOf: ticketId, price },
                });
              } catch (error) {
                if (hasCode(error, "pass_used") || hasCode(error, "pass_void")) {
                  onChange();
                }
                throw error;
              }
              loaded.reload();
            }}
          />
        </>
      )}
    </section>
  );
}

function Listed({ listing, bought, show, onChange }: { listing: Ticket; bought: Ticket; show: Show; onChange: () => void }) {
  const [changing, setChanging] = useState(false);
  const withdraw = useAction(async () => {
    await api.DELETE("/api/tickets/{ticketId}", { params: { path: { ticketId: listing.id } } });
    onChange();
  });
  const price = money(listing.price, listing.currency);
  if (listing.status !== "available") {
    return <p>{t(listing.status === "sold" ? "resale.sold" : "resale.reserved", { price })}</p>;
  }
  const close = (): void => {
    setChanging(false);
  };
  return (
    <>
      <p role="status">{t("resale.offered", { price })}</p>
      <ErrorAlert error={withdraw.error} />
      <p class="actions">
        <Button
          kind="secondary"
          onClick={() => {
            setChanging(true);
          }}
        >
          {t("resale.change")}
        </Button>
        <Button kind="danger" busy={withdraw.busy} onClick={withdraw.run}>
          {t("resale.withdraw")}
        </Button>
      </p>
      {changing && (
        <Dialog title={t("resale.change")} close={close}>
          <PriceForm
            bought={bought}
            show={show}
            price={listing.price}
            submit={t("ui.save")}
            cancel={close}
            send={async (amount) => {
              await api.PUT("/api/tickets/{ticketId}", {
                params: { path: { ticketId: listing.id } },
                body: { price: amount, version: listing.version },
              });
              close();
              onChange();
            }}
          />
        </Dialog>
      )}
    </>
  );
}

interface PriceFormProps {
  bought: Ticket;
  show: Show | undefined;
  /** The price until now; undefined if the ticket is not listed yet. */
  price: number | undefined;
  submit: string;
  send: (price: number) => Promise<void>;
  /** Keeps the price as it is. */
  cancel?: () => void;
}

/** Asks for a price, within the show's cap. */
function PriceForm({ bought, show, price, submit, send, cancel }: PriceFormProps) {
  const { currency, faceValue } = bought;
  const cap = priceCap(faceValue, show);
  const form = useForm(async (values) => {
    const amount = amountOf(values, "price", currency);
    if (cap !== undefined && amount > cap) {
      throw new FieldError("price", t("price.max", { price: money(cap, currency) }));
    }
    try {
      await send(amount);
    } catch (error) {
      throw nameCap(error, currency);
    }
  });
  return (
    <form {...form.attributes}>
      <ErrorAlert error={form.error} />
      <AmountField
        form={form}
        name="price"
        currency={currency}
        required
        class="resale-price"
        defaultValue={editMoney(price ?? Math.min(faceValue ?? bought.price, cap ?? Infinity), currency)}
        hint={
          [
            faceValue !== undefined && t("resale.faceValue", { price: money(faceValue, currency) }),
            cap !== undefined && t("resale.cap", { price: money(cap, currency) }),
          ]
            .filter(Boolean)
            .join(" ") || undefined
        }
      />
      <p class="actions">
        <Button type="submit" busy={form.busy}>
          {submit}
        </Button>
        {cancel && (
          <Button kind="quiet" onClick={cancel}>
            {t("ui.cancel")}
          </Button>
        )}
      </p>
    </form>
  );
}
