// The form of a show, new or changed.
import { useMemo, useRef, useState } from "preact/hooks";

import { api, hasCode, messageOf, type Schemas, type Show } from "../lib/api.ts";
import { RequestKey } from "../lib/request-key.ts";
import { language, t, tValue } from "../lib/texts.ts";
import { textOf, useForm } from "../ui/form.ts";
import { Alert, Button, Field, Select, TextArea } from "../ui/index.tsx";
import { countries, ownCountry } from "./countries.ts";
import { ImageField, sendImage, type ImageChoice } from "./image-field.tsx";
import { momentOf, ownTimeZone, timeZones, wallOf, zoneIn } from "./zone.ts";

type NewShow = Schemas["NewShow"];

const categories = ["music", "theatre", "comedy", "dance", "sport", "family", "festival", "other"] as const;

interface ShowFormProps {
  /** The show that is changed. Without it, a show is announced. */
  show?: Show;
  /** Gets the show, and why its image was not saved, if only the image was not. */
  saved: (show: Show, imageProblem?: unknown) => void;
}

/** Announces a show, or changes one. */
export function ShowForm({ show, saved }: ShowFormProps) {
  const key = useRef(new RequestKey());
  const [category, setCategory] = useState<string>(show?.category ?? "music");
  const [country, setCountry] = useState(show?.country ?? ownCountry);
  const [timeZone, setTimeZone] = useState(show?.timeZone ?? ownTimeZone);
  const [image, setImage] = useState<ImageChoice>();
  const zones = useMemo(() => timeZones(timeZone).map((zone) => ({ value: zone, label: zone.replaceAll("_", " ") })), [timeZone]);
  const places = useMemo(() => countries(language).map(({ code, name }) => ({ value: code, label: name })), []);

  const form = useForm(async (values) => {
    const body = newShow(values);
    let result: Show;
    if (show === undefined) {
      result = (await key.current.send(body, (header) => api.POST("/api/shows", { params: { header }, body }))).data;
    } else {
      const params = { path: { showId: show.id }, header: { "If-Match": `"${show.version}"` } };
      result = (await api.PUT("/api/shows/{showId}", { params, body })).data;
    }
    try {
      saved(await sendImage(result, image));
    } catch (problem) {
      saved(result, problem);
    }
  });

  return (
    <form class="panel" {...form.attributes}>
      {form.error !== undefined && (
        <Alert kind="error">
          <p>{messageOf(form.error)}</p>
          {hasCode(form.error, "stale_version") && (
            <p>
              <a href={location.href}>{t("showForm.reload")}</a>
            </p>
          )}
        </Alert>
      )}
      <Field
        name="name"
        label={t("showForm.name")}
        error={form.errorOf("name")}
        defaultValue={show?.name}
        maxLength={200}
        required
      />
      <div class="fields">
        <Select
          name="category"
          label={t("showForm.category")}
          error={form.errorOf("category")}
          options={categories.map((value) => ({ value, label: tValue(`category.${value}`, value) }))}
          value={category}
          onChange={(event) => {
            setCategory(event.currentTarget.value);
          }}
        />
        <Field
          name="venue"
          label={t("showForm.venue")}
          error={form.errorOf("venue")}
          defaultValue={show?.venue}
          maxLength={200}
          required
        />
      </div>
      <div class="fields">
        <Field
          name="city"
          label={t("showForm.city")}
          error={form.errorOf("city")}
          defaultValue={show?.city}
          maxLength={100}
          required
        />
        <Select
          name="country"
          label={t("showForm.country")}
          error={form.errorOf("country")}
          options={[{ value: "", label: t("form.choose") }, ...places]}
          value={country}
          onChange={(event) => {
            const { value } = event.currentTarget;
            setCountry(value);
            setTimeZone((zone) => zoneIn(value, zone));
          }}
          required
        />
      </div>
      <div class="fields">
        <Field
          name="startsAt"
          label={t("showForm.startsAt")}
          hint={t("showForm.startsAtHint")}
          error={form.errorOf("startsAt")}
          type="datetime-local"
          defaultValue={show && wallOf(show.startsAt, show.timeZone)}
          required
        />
        <Select
          name="timeZone"
          label={t("showForm.timeZone")}
          error={form.errorOf("timeZone")}
          options={zones}
          value={timeZone}
          onChange={(event) => {
            setTimeZone(event.currentTarget.value);
          }}
        />
      </div>
      <TextArea
        name="description"
        label={t("showForm.description")}
        hint={t("showForm.descriptionHint")}
        error={form.errorOf("description")}
        defaultValue={show?.description}
        rows={5}
        maxLength={2000}
      />
      <Field
        name="maxMarkup"
        label={t("showForm.maxMarkup")}
        hint={t("showForm.maxMarkupHint")}
        error={form.errorOf("maxMarkup")}
        class="short"
        inputMode="numeric"
        defaultValue={show?.maxMarkup?.toString()}
        maxLength={4}
      />
      <ImageField current={show?.image} choose={setImage} />
      <p class="actions">
        <Button type="submit" busy={form.busy}>
          {t(show === undefined ? "showForm.announce" : "ui.save")}
        </Button>
      </p>
    </form>
  );
}

/** The show of the form. What is missing or wrong in it is sent, too: the API names all of that at once. */
function newShow(values: FormData): NewShow {
  const text = (field: string): string => textOf(values, field);
  const startsAt = momentOf(text("startsAt"), text("timeZone"));
  const maxMarkup = text("maxMarkup").replace(/\s*%$/, "");
  return {
    name: text("name"),
    venue: text("venue"),
    city: text("city"),
    country: text("country"),
    startsAt: startsAt?.toISOString() ?? "",
    timeZone: text("timeZone"),
    category: text("category") as NewShow["category"],
    ...(text("description") && { description: text("description") }),
    ...(maxMarkup && { maxMarkup: /^\d{1,4}$/.test(maxMarkup) ? Number(maxMarkup) : -1 }),
  };
}
