// The account of the reader: password, sign-out, deletion.
import { useState } from "preact/hooks";

import { Password, passwordOf } from "../account/password.tsx";
import { api, currentUser } from "../lib/api.ts";
import { goToSignIn, noteSignedIn } from "../lib/session.ts";
import { t } from "../lib/texts.ts";
import { Dialog } from "../ui/dialog.tsx";
import { useForm } from "../ui/form.ts";
import { Button, ErrorAlert } from "../ui/index.tsx";
import { useAction } from "../ui/use.ts";

/** Reads who is signed in before the page is shown. */
export async function prepare(): Promise<{ email: string }> {
  const user = await currentUser();
  if (user === undefined) {
    goToSignIn();
    return new Promise(() => undefined); // the page ends
  }
  return user;
}

export default function AccountPage({ prepared }: { id?: string; prepared?: unknown }) {
  const { email } = prepared as { email: string };
  return (
    <div class="narrow">
      <h1>{t("account.title")}</h1>
      <p class="lead muted">
        {t("account.signedInAs")} <strong class="who">{email}</strong>
      </p>
      <ChangePassword email={email} />
      <SignOut />
      <Delete email={email} />
    </div>
  );
}

/** Shows password managers whose password the form has. */
function Username({ email }: { email: string }) {
  return <input type="email" name="username" autocomplete="username" value={email} readOnly hidden />;
}

function ChangePassword({ email }: { email: string }) {
  const [done, setDone] = useState(false);
  const form = useForm(async (values) => {
    setDone(false);
    const body = {
      oldPassword: passwordOf(values, "oldPassword"),
      newPassword: passwordOf(values, "newPassword"),
      cookieOnly: true,
    };
    await api.POST("/api/users/password", { body });
    form.attributes.ref.current?.reset();
    setDone(true);
  });
  return (
    <section aria-labelledby="change-password">
      <h2 id="change-password">{t("account.changePassword")}</h2>
      <form class="panel" {...form.attributes}>
        <Username email={email} />
        <Password name="oldPassword" label={t("account.oldPassword")} autocomplete="current-password" form={form} />
        <Password
          name="newPassword"
          label={t("account.newPassword")}
          hint={t("account.passwordHint")}
          autocomplete="new-password"
          form={form}
        />
        <p class="hint">{t("account.changeEnds")}</p>
        <ErrorAlert error={form.error} />
        <Button type="submit" busy={form.busy}>
          {t("account.changePassword")}
        </Button>
        <div role="status">{done && <p class="alert success">{t("account.changed")}</p>}</div>
      </form>
    </section>
  );
}

function SignOut() {
  const out = useAction(async (path: "/api/users/signout" | "/api/users/signout-everywhere") => {
    await api.POST(path);
    noteSignedIn(false);
    location.assign("/");
  });
  return (
    <section aria-labelledby="sign-out">
      <h2 id="sign-out">{t("account.signOut")}</h2>
      <div class="panel">
        <ErrorAlert error={out.error} />
        <p>{t("account.signOutText")}</p>
        <p class="actions">
          <Button
            kind="secondary"
            busy={out.busy}
            onClick={() => {
              out.run("/api/users/signout");
            }}
          >
            {t("account.signOutHere")}
          </Button>
          <Button
            kind="secondary"
            busy={out.busy}
            onClick={() => {
              out.run("/api/users/signout-everywhere");
            }}
          >
            {t("account.signOutEverywhere")}
          </Button>
        </p>
      </div>
    </section>
  );
}

function Delete({ email }: { email: string }) {
  const [asking, setAsking] = useState(false);
  return (
    <section aria-labelledby="delete-account">
      <h2 id="delete-account">{t("account.delete")}</h2>
      <div class="panel">
        <p>{t("account.deleteText")}</p>
        <p class="actions">
          <Button
            kind="danger"
            onClick={() => {
              setAsking(true);
            }}
          >
            {t("account.delete")}
          </Button>
        </p>
      </div>
      {asking && (
        <DeleteDialog
          email={email}
          close={() => {
            setAsking(false);
          }}
        />
      )}
    </section>
  );
}

function DeleteDialog({ email, close }: { email: string; close: () => void }) {
  const form = useForm(async (values) => {
    await api.DELETE("/api/users/currentuser", { body: { password: passwordOf(values, "password") } });
    noteSignedIn(false);
    location.assign("/");
  });
  return (
    <Dialog title={t("account.deleteQuestion")} close={close}>
      <form {...form.attributes}>
        <Username email={email} />
        <p>{t("account.deleteConsequence")}</p>
        <Password name="password" label={t("account.password")} autocomplete="current-password" form={form} />
        <ErrorAlert error={form.error} />
        <p class="actions">
          <Button type="submit" kind="danger" busy={form.busy}>
            {t("account.deleteForEver")}
          </Button>
          <Button kind="quiet" onClick={close}>
            {t("ui.cancel")}
          </Button>
        </p>
      </form>
    </Dialog>
  );
}
