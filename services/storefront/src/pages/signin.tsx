// Sign-in.
import { Email } from "../account/email.tsx";
import { goOn } from "../account/next.ts";
import { Password, passwordOf } from "../account/password.tsx";
import { publicApi } from "../lib/api.ts";
import { t } from "../lib/texts.ts";
import { textOf, useForm } from "../ui/form.ts";
import { Button, ErrorAlert } from "../ui/index.tsx";

/** Signs in, and goes on to the page in `?next=`. */
export default function SigninPage() {
  const form = useForm(async (values) => {
    const body = { email: textOf(values, "email"), password: passwordOf(values, "password"), cookieOnly: true };
    await publicApi.POST("/api/users/signin", { body });
    goOn();
  });
  return (
    <div class="narrow">
      <h1>{t("signin.title")}</h1>
      {new URLSearchParams(location.search).has("next") && <p class="lead muted">{t("signin.next")}</p>}
      <form class="panel" {...form.attributes}>
        <Email form={form} />
        <Password name="password" label={t("account.password")} autocomplete="current-password" form={form} />
        <ErrorAlert error={form.error} />
        <Button type="submit" busy={form.busy}>
          {t("signin.submit")}
        </Button>
      </form>
      <p class="aside">
        {t("signin.noAccount")} <a href={`/signup${location.search}`}>{t("signup.title")}</a>
      </p>
    </div>
  );
}
