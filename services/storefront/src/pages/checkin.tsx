// Check-in at the door of a show, and the choice of the show.
import { useEffect, useRef, useState } from "preact/hooks";

import { api, currentUser, messageOf, type Schemas } from "../lib/api.ts";
import { date, dateTime, placeName, time } from "../lib/format.ts";
import { goToSignIn } from "../lib/session.ts";
import { t } from "../lib/texts.ts";
import { Door, loadTally, saveTally, type Outcome, type Result, type Tally } from "../checkin/door.ts";
import { Choice } from "../checkin/choice.tsx";
import { Scanner } from "../checkin/scanner.tsx";
import { Alert, Skeleton } from "../ui/index.tsx";

/** Checks passes at the door of a show: with the camera, or by typing. Without a show, the owner chooses one. */
export default function CheckinPage({ id }: { id?: string }) {
  return id === undefined ? <Choice /> : <CheckinOf showId={id} />;
}

/** How many results are listed below the last one. */
const listed = 10;

function CheckinOf({ showId }: { showId: string }) {
  const [show, setShow] = useState<Schemas["Show"]>();
  const [problem, setProblem] = useState<unknown>();
  const [owner, setOwner] = useState<boolean>();
  const [results, setResults] = useState<Result[]>([]);
  const [checking, setChecking] = useState(0);
  const [tally, setTally] = useState<Tally>(() => loadTally(showId));
  const [typed, setTyped] = useState("");
  const door = useRef<Door>();
  door.current ??= new Door(showId);
  const field = useRef<HTMLInputElement>(null);

  useEffect(() => {
    const load = async (): Promise<void> => {
      const [user, { data }] = await Promise.all([
        currentUser(),
        api.GET("/api/shows/{showId}", { params: { path: { showId } } }),
      ]);
      if (user === undefined) {
        goToSignIn();
        return;
      }
      setShow(data);
      setOwner(user.id === data.userId);
    };
    load().catch(setProblem);
  }, [showId]);

  const check = async (code: string): Promise<void> => {
    setChecking((count) => count + 1);
    const result = await door.current?.check(code);
    setChecking((count) => count - 1);
    if (result === undefined) {
      return;
    }
    setResults((before) => [result, ...before].slice(0, listed + 1));
    setTally((before) => {
      const after = count(before, result.outcome);
      saveTally(showId, after);
      return after;
    });
  };

  if (problem !== undefined) {
    return <Alert kind="error">{messageOf(problem)}</Alert>;
  }
  if (owner === false) {
    return <Alert kind="error">{t("error.not_show_owner")}</Alert>;
  }
  if (show === undefined) {
    return (
      <>
        <h1>{t("checkin.title")}</h1>
        <Skeleton />
      </>
    );
  }
  const [last, ...earlier] = results;
  return (
    <>
      <header class="checkin-head">
        <p class="kicker">{t("checkin.title")}</p>
        <h1>{show.name}</h1>
        <p>
          {dateTime(show.startsAt, show.timeZone)} · {show.venue}
        </p>
      </header>
      <div class="checkin-work">
        <Scanner found={(code) => void check(code)} />
        <div class="checkin-side">
          <Panel result={last} timeZone={show.timeZone} checking={checking > 0} again={(code) => void check(code)} />
          <dl class="tally">
            <div>
              <dt>{t("checkin.admitted")}</dt>
              <dd>{tally.admitted}</dd>
            </div>
            <div>
              <dt>{t("checkin.refused")}</dt>
              <dd>{tally.refused}</dd>
            </div>
          </dl>
          <form
            class="checkin-typing"
            onSubmit={(event) => {
              event.preventDefault();
              const code = typed.replace(/\s/g, "");
              setTyped("");
              field.current?.focus();
              if (code !== "") {
                void check(code);
              }
            }}
          >
            <label for="code">{t("checkin.code")}</label>
            <div class="line">
              <input
                id="code"
                ref={field}
                value={typed}
                aria-describedby="code-hint"
                autocomplete="off"
                autocapitalize="off"
                spellcheck={false}
                onInput={(event) => {
                  setTyped(event.currentTarget.value);
                }}
              />
              <button class="button primary">{t("checkin.check")}</button>
            </div>
            <p id="code-hint" class="hint">
              {t("checkin.codeHint")}
            </p>
          </form>
        </div>
      </div>
      {earlier.length > 0 && (
        <section class="checkin-earlier">
          <h2>{t("checkin.earlier")}</h2>
          <ol>
            {earlier.map((result) => (
              <li key={result.number} data-outcome={result.outcome}>
                <span class="mark" aria-hidden="true">
                  {marks[result.outcome]}
                </span>
                <span>
                  {t(`checkin.outcome.${result.outcome}`)}
                  {result.seat && ` · ${placeName(result.seat)}`}
                </span>
                <time dateTime={result.at.toISOString()}>{time(result.at, show.timeZone)}</time>
              </li>
            ))}
          </ol>
        </section>
      )}
    </>
  );
}

const marks: Record<Outcome, string> = {
  admitted: "✓",
  used: "✕",
  void: "✕",
  wrong: "✕",
  invalid: "✕",
  failed: "!",
};

interface PanelProps {
  result: Result | undefined;
  /** Of the show. */
  timeZone: string;
  checking: boolean;
  again: (code: string) => void;
}

/** The last result, in a colour, with a sign and in words: none of them is needed to understand the others. */
function Panel({ result, timeZone, checking, again }: PanelProps) {
  if (result === undefined) {
    return (
      <div class="verdict" data-outcome="none" role="status" aria-live="assertive" aria-atomic="true">
        <p class="verdict-word">{t(checking ? "checkin.checking" : "checkin.ready")}</p>
      </div>
    );
  }
  return (
    // A new element for each result: two that are alike are both read aloud, and seen to be two.
    <div
      class="verdict"
      data-outcome={result.outcome}
      data-checking={checking}
      role="status"
      aria-live="assertive"
      aria-atomic="true"
    >
      <div class="verdict-text" key={result.number}>
        <span class="verdict-mark" aria-hidden="true">
          {marks[result.outcome]}
        </span>
        <p class="verdict-word">{t(`checkin.outcome.${result.outcome}`)}</p>
        {result.seat && <p class="verdict-seat">{placeName(result.seat)}</p>}
        <p>{explain(result, timeZone)}</p>
      </div>
      {result.outcome === "failed" && (
        <button
          type="button"
          class="button"
          onClick={() => {
            again(result.code);
          }}
        >
          {t("checkin.again")}
        </button>
      )}
    </div>
  );
}

function explain(result: Result, timeZone: string): string {
  switch (result.outcome) {
    case "admitted":
      return result.title ?? "";
    case "used":
      return result.usedAt === undefined ? t("error.already_used") : usedAt(result.usedAt, timeZone);
    case "void":
      return t("checkin.void");
    default:
      return messageOf(result.error);
  }
}

/** When a pass was used, at the place of the show; also on which day, if that is not today. */
function usedAt(moment: string, timeZone: string): string {
  const today = date(moment, timeZone) === date(new Date(), timeZone);
  return today
    ? t("checkin.usedAt", { time: time(moment, timeZone) })
    : t("checkin.usedOn", { time: dateTime(moment, timeZone) });
}

function count(tally: Tally, outcome: Outcome): Tally {
  switch (outcome) {
    case "admitted":
      return { ...tally, admitted: tally.admitted + 1 };
    case "failed":
      return tally;
    default:
      return { ...tally, refused: tally.refused + 1 };
  }
}
