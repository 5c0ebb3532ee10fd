// The form of a ticket without a show.
import { useRef, useState } from "preact/hooks";

import { api, type Schemas } from "../lib/api.ts";
import { money } from "../lib/format.ts";
import { RequestKey } from "../lib/request-key.ts";
import { t } from "../lib/texts.ts";
import { textOf, useForm } from "../ui/form.ts";
import { Button, ErrorAlert, Field, LinkButton } from "../ui/index.tsx";
import { AmountField } from "./amount-field.tsx";
import { amountOf } from "./price.ts";

/** Lists one ticket that belongs to no show of this site. */
export function TicketForm({ currency }: { currency: string }) {
  const key = useRef(new RequestKey());
  const [listed, setListed] = useState<Schemas["Ticket"]>();
  const form = useForm(async (values) => {
    setListed(undefined);
    const body = { title: textOf(values, "title"), price: amountOf(values, "price", currency) };
    const { data } = await key.current.send(body, (header) => api.POST("/api/tickets", { params: { header }, body }));
    form.attributes.ref.current?.reset();
    setListed(data);
  });
  return (
    <form class="panel" {...form.attributes}>
      <ErrorAlert error={form.error} />
      <Field
        name="title"
        label={t("ticketForm.name")}
        hint={t("ticketForm.nameHint")}
        error={form.errorOf("title")}
        maxLength={200}
        autocomplete="off"
        required
      />
      <AmountField form={form} name="price" currency={currency} class="short" required />
      <p class="actions">
        <Button type="submit" busy={form.busy}>
          {t("ticketForm.submit")}
        </Button>
      </p>
      <div role="status">
        {listed && (
          <div class="alert success">
            <p>{t("ticketForm.listed", { title: listed.title, price: money(listed.price, listed.currency) })}</p>
            <p class="actions">
              <LinkButton kind="secondary" href="/listings">
                {t("listings.title")}
              </LinkButton>
            </p>
          </div>
        )}
      </div>
    </form>
  );
}
