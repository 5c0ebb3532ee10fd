/** The currency of every price of this site, in lower case. The server names it in the page. */
export function currency(): string {
  return document.body.dataset["currency"] ?? "usd";
}
