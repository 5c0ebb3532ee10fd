// A new account.
import { useRef } from "preact/hooks";

import { Email } from "../account/email.tsx";
import { goOn } from "../account/next.ts";
import { Password, passwordOf } from "../account/password.tsx";
import { publicApi } from "../lib/api.ts";
import { RequestKey } from "../lib/request-key.ts";
import { t } from "../lib/texts.ts";
import { textOf, useForm } from "../ui/form.ts";
import { Button, ErrorAlert } from "../ui/index.tsx";

/** Makes an account, and goes on to the page in `?next=`. */
export default function SignupPage() {
  const key = useRef(new RequestKey());
  const form = useForm(async (values) => {
    const body = { email: textOf(values, "email"), password: passwordOf(values, "password"), cookieOnly: true };
    await key.current.send(body, (header) => publicApi.POST("/api/users/signup", { params: { header }, body }));
    goOn();
  });
  return (
    <div class="narrow">
      <h1>{t("signup.title")}</h1>
      <p class="lead muted">{t("signup.lead")}</p>
      <form class="panel" {...form.attributes}>
        <Email form={form} />
        <Password
          name="password"
          label={t("account.password")}
          hint={t("account.passwordHint")}
          autocomplete="new-password"
          form={form}
        />
        <ErrorAlert error={form.error} />
        <Button type="submit" busy={form.busy}>
          {t("signup.submit")}
        </Button>
      </form>
      <p class="aside">
        {t("signup.haveAccount")} <a href={`/signin${location.search}`}>{t("signin.title")}</a>
      </p>
    </div>
  );
}
