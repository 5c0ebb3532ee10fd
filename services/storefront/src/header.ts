// The header's links for a signed-in reader. The server writes them if there is a token; this finds the session of a reader whose token
// has expired.
import { maySignedIn, noteSignedIn, refresh } from "./lib/session.ts";

export function startHeader(): void {
  const { signedIn } = document.body.dataset;
  if (signedIn === "true") {
    noteSignedIn(true);
  } else if (maySignedIn()) {
    void refresh().then(
      (refreshed) => {
        if (refreshed) {
          for (const element of document.querySelectorAll<HTMLElement>("[data-for]")) {
            element.hidden = element.dataset["for"] !== "signed-in";
          }
        }
      },
      () => undefined,
    );
  }
  // A browser shows a page as it was when the reader goes back to it: after a sign-out perhaps to the next person at the device.
  const before = maySignedIn();
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted && before && !maySignedIn()) {
      location.reload();
    }
  });
}
