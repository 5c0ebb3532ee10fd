// Sign-in.
import { nextAddress } from "../account/next.ts";
import { Password, passwordOf } from "../account/password.tsx";
import { messageOf, publicApi } from "../lib/api.ts";
import { noteSignedIn } from "../lib/session.ts";
import { t } from "../lib/texts.ts";
import { textOf, useForm } from "../ui/form.ts";
import { Alert, Button, Field } from "../ui/index.tsx";

/** Signs in, and goes on to the page in `?next=`. */
export default function SigninPage() {
  const form = useForm(async (values) => {
    const body = { email: textOf(values, "email"), password: passwordOf(values, "password"), cookieOnly: true };
    await publicApi.POST("/api/users/signin", { body });
    noteSignedIn(true);
    location.replace(nextAddress(location.search, location.origin)); // the back button does not come back to this page
  });
  return (
    <div class="narrow">
      <h1>{t("signin.title")}</h1>
      {new URLSearchParams(location.search).has("next") && <p class="lead muted">{t("signin.next")}</p>}
      <form class="panel" {...form.attributes}>
        {form.error !== undefined && <Alert kind="error">{messageOf(form.error)}</Alert>}
        <Field
          name="email"
          label={t("account.email")}
          error={form.errorOf("email")}
          type="email"
          autocomplete="username"
          required
        />
        <Password name="password" label={t("account.password")} autocomplete="current-password" form={form} />
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
