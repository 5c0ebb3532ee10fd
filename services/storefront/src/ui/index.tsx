// The parts that pages are made of. Their styles are in styles/; a page has no styles of its own.
import type {
  ButtonHTMLAttributes,
  ComponentChildren,
  InputHTMLAttributes,
  SelectHTMLAttributes,
  TextareaHTMLAttributes,
} from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { messageOf } from "../lib/api.ts";
import { serverNow } from "../lib/clock.ts";
import { dateTime, duration, money } from "../lib/format.ts";
import { t } from "../lib/texts.ts";

interface ButtonProps extends Omit<ButtonHTMLAttributes, "class" | "disabled" | "icon"> {
  kind?: "primary" | "secondary" | "quiet" | "danger";
  class?: string | undefined;
  /** The action runs: the button shows it and does nothing. It keeps the focus, unlike a disabled one. */
  busy?: boolean;
  disabled?: boolean;
}

export function Button({
  kind = "primary",
  busy = false,
  disabled = false,
  onClick,
  children,
  class: more,
  type = "button",
  ...rest
}: ButtonProps) {
  return (
    <button
      {...rest}
      type={type}
      class={`button ${kind}${more ? ` ${more}` : ""}`}
      aria-disabled={busy || disabled ? "true" : undefined}
      aria-busy={busy ? "true" : undefined}
      onClick={(event) => {
        if (busy || disabled) {
          event.preventDefault();
        } else {
          onClick?.(event);
        }
      }}
    >
      {children}
    </button>
  );
}

/** A link in the form of a button. */
export function LinkButton({
  kind = "primary",
  href,
  children,
}: {
  kind?: "primary" | "secondary" | "quiet";
  href: string;
  children: ComponentChildren;
}) {
  return (
    <a class={`button ${kind}`} href={href}>
      {children}
    </a>
  );
}

interface FieldProps extends Omit<InputHTMLAttributes, "class" | "label" | "name" | "ref"> {
  label: string;
  name: string;
  class?: string | undefined;
  hint?: string | undefined;
  error?: string | undefined;
}

/** A labelled input. The error is announced with it. */
export function Field({ label, name, hint, error, class: more, ...rest }: FieldProps) {
  const id = useId();
  return (
    <Labelled id={id} label={label} hint={hint} error={error} class={more}>
      <input {...rest} {...described(id, hint, error)} id={id} name={name} />
    </Labelled>
  );
}

interface TextAreaProps extends Omit<TextareaHTMLAttributes, "class" | "label" | "name" | "ref"> {
  label: string;
  name: string;
  class?: string | undefined;
  hint?: string | undefined;
  error?: string | undefined;
}

export function TextArea({ label, name, hint, error, class: more, ...rest }: TextAreaProps) {
  const id = useId();
  return (
    <Labelled id={id} label={label} hint={hint} error={error} class={more}>
      <textarea rows={4} {...rest} {...described(id, hint, error)} id={id} name={name} />
    </Labelled>
  );
}

interface SelectProps extends Omit<SelectHTMLAttributes, "class" | "label" | "name" | "ref"> {
  label: string;
  name: string;
  class?: string | undefined;
  hint?: string | undefined;
  error?: string | undefined;
  options: readonly { value: string; label: string }[];
}

export function Select({ label, name, hint, error, options, class: more, value, ...rest }: SelectProps) {
  const id = useId();
  return (
    <Labelled id={id} label={label} hint={hint} error={error} class={more}>
      <select {...rest} {...described(id, hint, error)} id={id} name={name} value={value}>
        {options.map((option) => (
          <option key={option.value} value={option.value} selected={option.value === value}>
            {option.label}
          </option>
        ))}
      </select>
    </Labelled>
  );
}

function described(
  id: string,
  hint: string | undefined,
  error: string | undefined,
): { "aria-describedby"?: string; "aria-invalid"?: "true" } {
  const ids = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return { ...(ids && { "aria-describedby": ids }), ...(error && { "aria-invalid": "true" }) };
}

interface LabelledProps {
  id: string;
  label: string;
  hint: string | undefined;
  error: string | undefined;
  class: string | undefined;
  children: ComponentChildren;
}

function Labelled({ id, label, hint, error, class: more, children }: LabelledProps) {
  return (
    <div class={`field${more ? ` ${more}` : ""}`}>
      <label for={id}>{label}</label>
      {children}
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {error && (
        <p class="field-error" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}

/** A message. An error takes a screen reader's attention at once; the others wait for a pause. */
export function Alert({ kind, children }: { kind: "error" | "success" | "note" | "warning"; children: ComponentChildren }) {
  return (
    <div class={`alert ${kind}`} role={kind === "error" ? "alert" : "status"} tabIndex={-1}>
      {children}
    </div>
  );
}

/** Why something failed. Without an error there is nothing. */
export function ErrorAlert({ error }: { error: unknown }) {
  return error === undefined ? null : <Alert kind="error">{messageOf(error)}</Alert>;
}

/** Why something could not be loaded, with a button to try again. */
export function Failure({ error, busy = false, onRetry }: { error: unknown; busy?: boolean; onRetry: () => void }) {
  return (
    <Alert kind="error">
      <p>{messageOf(error)}</p>
      <Button kind="secondary" busy={busy} onClick={onRetry}>
        {t("ui.retry")}
      </Button>
    </Alert>
  );
}

export function Price({ amount, currency }: { amount: number; currency: string }) {
  return <span class="price">{money(amount, currency)}</span>;
}

/** A date with time: at the place of the show if its time zone is given, else at the reader's. A page that has a show uses the show's. */
export function DateTime({ at, timeZone }: { at: string; timeZone?: string | undefined }) {
  return <time dateTime={at}>{dateTime(at, timeZone)}</time>;
}

/** The time of the server, once a second; it also changes when the page comes back from the background. */
export function useServerNow(): number {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    const update = (): void => {
      setNow(serverNow());
    };
    const timer = setInterval(update, 1000);
    document.addEventListener("visibilitychange", update);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", update);
    };
  }, []);
  return now;
}

/** What is left until a time of the server, at most `most` milliseconds. `onEnd` is called once, when it is over. */
export function Countdown({ until, most = Infinity, onEnd }: { until: string; most?: number; onEnd?: () => void }) {
  const left = Math.min(most, Date.parse(until) - useServerNow());
  const ended = useRef(false);
  useEffect(() => {
    if (left <= 0 && !ended.current) {
      ended.current = true;
      onEnd?.();
    }
  }, [left <= 0]);
  return (
    <span class="countdown" role="timer">
      {duration(left)}
    </span>
  );
}

/** What a list shows when it has nothing, with what to do. */
export function Empty({ title, children, action }: { title: string; children?: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children && <p>{children}</p>}
      {action && <p class="actions">{action}</p>}
    </div>
  );
}

/** Holds the place of a list while it loads. */
export function Skeleton({ rows = 3 }: { rows?: number }) {
  return (
    <div class="skeleton" role="status" aria-label={t("ui.loading")}>
      {Array.from({ length: rows }, (_, row) => (
        <div class="skeleton-row" key={row} />
      ))}
    </div>
  );
}

export function Badge({
  kind = "note",
  children,
}: {
  kind?: "note" | "success" | "warning" | "error";
  children: ComponentChildren;
}) {
  return <span class={`badge ${kind}`}>{children}</span>;
}

/** The button for the next page of a list. */
export function More({ busy, onClick }: { busy: boolean; onClick: () => void }) {
  return (
    <p class="more">
      <Button kind="secondary" busy={busy} onClick={onClick}>
        {t("ui.more")}
      </Button>
    </p>
  );
}
