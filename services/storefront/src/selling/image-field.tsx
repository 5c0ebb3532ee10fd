// The image of a show's form: chosen, shown, and sent.
import { useId, useRef, useState } from "preact/hooks";

import { api, type Schemas, type Show } from "../lib/api.ts";
import { t } from "../lib/texts.ts";
import { Button } from "../ui/index.tsx";
import { imageTypes, readImage, type Image } from "./image.ts";

/** What the owner has chosen: an image, or to remove the one that there is. */
export type ImageChoice = Image | "none";

interface ImageFieldProps {
  /** The image that the show has. */
  current: Schemas["ShowImage"] | undefined;
  choose: (choice: ImageChoice | undefined) => void;
}

/** Chooses the image of a show, by the button or by dropping a file, and shows it. */
export function ImageField({ current, choose }: ImageFieldProps) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [choice, setChoice] = useState<ImageChoice>();
  const [wrong, setWrong] = useState(false);

  const set = (next: ImageChoice | undefined): void => {
    setChoice(next);
    choose(next);
  };
  const read = async (file: File | undefined): Promise<void> => {
    if (file === undefined) {
      return;
    }
    try {
      set(await readImage(file));
      setWrong(false);
    } catch {
      setWrong(true);
    }
    if (input.current !== null) {
      input.current.value = ""; // the same file may be chosen again
    }
  };
  const shown = choice === undefined ? current && { preview: current.url, ...current } : choice === "none" ? undefined : choice;

  return (
    <div
      class="field image-field"
      onDragOver={(event) => {
        event.preventDefault();
      }}
      onDrop={(event) => {
        event.preventDefault();
        void read(event.dataTransfer?.files[0]);
      }}
    >
      <label for={id}>{t("image.label")}</label>
      {shown === undefined ? (
        <div class="image-none" aria-hidden="true" />
      ) : (
        <img class="image-preview" src={shown.preview} width={shown.width} height={shown.height} alt={t("image.preview")} />
      )}
      <input
        id={id}
        ref={input}
        type="file"
        accept={imageTypes.join(",")}
        aria-describedby={`${id}-hint${wrong ? ` ${id}-error` : ""}`}
        {...(wrong && { "aria-invalid": "true" as const })}
        onChange={(event) => {
          void read(event.currentTarget.files?.[0]);
        }}
      />
      <p class="hint" id={`${id}-hint`}>
        {t("image.hint")}
      </p>
      {wrong && (
        <p class="field-error" id={`${id}-error`} role="alert">
          {t("image.wrong")}
        </p>
      )}
      {shown !== undefined && (
        <p class="actions">
          <Button
            kind="quiet"
            onClick={() => {
              set(choice === undefined ? "none" : undefined);
            }}
          >
            {t(choice === undefined ? "image.remove" : "image.undo")}
          </Button>
        </p>
      )}
      {choice === "none" && (
        <p class="actions">
          <span>{t("image.removed")}</span>
          <Button
            kind="quiet"
            onClick={() => {
              set(undefined);
            }}
          >
            {t("image.undo")}
          </Button>
        </p>
      )}
    </div>
  );
}

/** Sends the image that was chosen, or removes the one that there is. It returns the show as it is then. */
export async function sendImage(show: Show, choice: ImageChoice | undefined): Promise<Show> {
  if (choice === undefined) {
    return show;
  }
  const path = { showId: show.id };
  const params = { path, header: { "If-Match": `"${show.version}"` } };
  if (choice === "none") {
    await api.DELETE("/api/shows/{showId}/image", { params });
    return (await api.GET("/api/shows/{showId}", { params: { path } })).data;
  }
  const { data } = await api.PUT("/api/shows/{showId}/image", {
    params,
    body: choice.file as unknown as string, // openapi-typescript writes the bytes of a file as a string
    bodySerializer: () => choice.file,
    headers: { "Content-Type": choice.file.type },
  });
  return data;
}
