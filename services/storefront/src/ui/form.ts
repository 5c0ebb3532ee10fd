// Forms: their values, their errors by field, and where the focus goes.
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { fieldErrors, Problem } from "../lib/api.ts";
import { t } from "../lib/texts.ts";

/** What the page itself finds wrong with a field, before it sends a form. */
export class FieldError extends Error {
  readonly field: string;

  constructor(field: string, message: string) {
    super(message);
    this.field = field;
  }
}

/** The state of a form, and what its element needs: `<form {...form.attributes}>`. */
export interface Form {
  attributes: { ref: RefObject<HTMLFormElement>; noValidate: true; onSubmit: (event: Event) => void };
  busy: boolean;
  /** What is wrong with a field, by its name. */
  errorOf: (field: string) => string | undefined;
  /** What is wrong beside that. Show it in an Alert. */
  error: unknown;
}

/**
 * A form whose rules are the API's: the fields have the names of the API's members. `send` gets the form's values. What it throws is shown:
 * a problem at its fields, or else above the button. The focus moves to the first field that is wrong, or to the message.
 */
export function useForm(send: (values: FormData) => Promise<void>): Form {
  const ref = useRef<HTMLFormElement>(null);
  const running = useRef(false);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<{ fields: Record<string, string>; error?: unknown }>({ fields: {} });

  useEffect(() => {
    ref.current?.querySelector<HTMLElement>('[aria-invalid="true"], .alert.error')?.focus();
  }, [failure]);

  const submit = async (form: HTMLFormElement): Promise<void> => {
    running.current = true;
    setBusy(true);
    try {
      await send(new FormData(form));
      setFailure({ fields: {} });
    } catch (error) {
      const fields = error instanceof FieldError ? { ...missing(form), [error.field]: error.message } : shown(error, form);
      setFailure(Object.keys(fields).length > 0 ? { fields } : { fields, error });
    } finally {
      running.current = false;
      setBusy(false);
    }
  };
  return {
    attributes: {
      ref,
      noValidate: true,
      onSubmit: (event) => {
        event.preventDefault();
        if (!running.current) {
          void submit(event.currentTarget as HTMLFormElement);
        }
      },
    },
    busy,
    errorOf: (field) => failure.fields[field],
    error: failure.error,
  };
}

/** What the reader has typed into a field, without spaces around it; "" without such a field. */
export function textOf(values: FormData, field: string): string {
  const value = values.get(field);
  return typeof value === "string" ? value.trim() : "";
}

/** The fields that are required and blank. The API would name them, too, but gets no form in which the page finds something wrong. */
function missing(form: HTMLFormElement): Record<string, string> {
  const fields = [...form.querySelectorAll<HTMLInputElement | HTMLSelectElement>("[required]")];
  return Object.fromEntries(fields.filter(({ value }) => value.trim() === "").map(({ name }) => [name, t("error.required")]));
}

/** The errors of a problem that are about fields of the form. */
function shown(error: unknown, form: HTMLFormElement): Record<string, string> {
  return error instanceof Problem
    ? Object.fromEntries(Object.entries(fieldErrors(error)).filter(([field]) => form.elements.namedItem(field) !== null))
    : {};
}
