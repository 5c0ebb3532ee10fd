// What the reader sells: tickets, shows, sales.
import { Sales } from "../selling/sales.tsx";
import { Shows } from "../selling/shows.tsx";
import { Tickets } from "../selling/tickets.tsx";
import { t } from "../lib/texts.ts";

const tabs = ["tickets", "shows", "sales"] as const;

/** What the reader sells. Each part has an address of its own: `/listings`, `/listings?tab=shows` and `/listings?tab=sales`. */
export default function ListingsPage() {
  const tab = new URLSearchParams(location.search).get("tab");
  return (
    <>
      <div class="title-line">
        <h1>{t("listings.title")}</h1>
        <a class="button primary" href="/sell">
          {t("nav.sell")}
        </a>
      </div>
      <nav class="tabs" aria-label={t("listings.title")}>
        <ul>
          {tabs.map((name, index) => (
            <li key={name}>
              <a
                href={index === 0 ? "/listings" : `/listings?tab=${name}`}
                {...((tab ?? "tickets") === name && { "aria-current": "page" as const })}
              >
                {t(`listings.tab.${name}`)}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      {tab === "shows" ? <Shows /> : tab === "sales" ? <Sales /> : <Tickets />}
    </>
  );
}
