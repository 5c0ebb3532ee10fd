// Pages whose forms need a sign-in.
import { useEffect } from "preact/hooks";

import { currentUser } from "../lib/api.ts";
import { goToSignIn } from "../lib/session.ts";

/** Sends a reader who is not signed in to the page to sign in, before they fill in a form. */
export function useSignedIn(): void {
  useEffect(() => {
    if (document.body.dataset["signedIn"] !== "true") {
      currentUser().then(
        (user) => {
          if (user === undefined) {
            goToSignIn();
          }
        },
        () => undefined, // the form itself shows that there is no connection
      );
    }
  }, []);
}
