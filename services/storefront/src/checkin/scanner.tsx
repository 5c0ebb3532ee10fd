// The picture of the camera at the door.
import { useEffect, useRef, useState } from "preact/hooks";

import { t } from "../lib/texts.ts";
import { CameraError, cameras, keepAwake, startCamera, type Camera, type CameraFailure } from "./camera.ts";
import { createDecoder } from "./decoder.ts";
import { scan } from "./scan.ts";

/** The picture of a camera. `found` gets each code that is put before it. The camera starts when the reader presses the button. */
export function Scanner({ found }: { found: (code: string) => void }) {
  const video = useRef<HTMLVideoElement>(null);
  const [on, setOn] = useState(false);
  const [device, setDevice] = useState<string>();
  const [failure, setFailure] = useState<CameraFailure>();
  const [camera, setCamera] = useState<Camera>();
  const [others, setOthers] = useState<{ device: string; name: string }[]>([]);
  const [lit, setLit] = useState(false);
  const report = useRef(found);
  report.current = found;

  useEffect(() => {
    const element = video.current;
    if (!on || element === null) {
      return;
    }
    const controller = new AbortController();
    const isOver = (): boolean => controller.signal.aborted;
    let started: Camera | undefined;
    let awake: WakeLockSentinel | undefined;
    const run = async (): Promise<void> => {
      try {
        const loading = createDecoder();
        loading.catch(() => undefined); // it is awaited below, if there is a camera
        const current = await startCamera(element, device);
        started = current;
        if (isOver()) {
          current.stop();
          return;
        }
        const decoder = await loading;
        current.ended(() => {
          setFailure("busy");
          setOn(false);
        });
        setCamera(current);
        awake = await keepAwake();
        if (isOver()) {
          void awake?.release();
          return;
        }
        setOthers(await cameras());
        await scan(
          element,
          decoder,
          (code) => {
            report.current(code);
          },
          controller.signal,
        );
      } catch (error) {
        if (!controller.signal.aborted) {
          setFailure(error instanceof CameraError ? error.failure : "busy");
          setOn(false);
        }
      }
    };
    void run();
    return () => {
      controller.abort();
      started?.stop();
      void awake?.release();
      setCamera(undefined);
      setLit(false);
    };
  }, [on, device]);

  const current = device ?? camera?.device;
  return (
    <section class="scanner" aria-label={t("checkin.camera")}>
      <div class="scanner-picture" data-on={on}>
        <video ref={video} muted playsInline hidden={!on} aria-hidden="true" />
        {on && <span class="scanner-frame" aria-hidden="true" />}
        {on && camera === undefined && <p class="scanner-note">{t("checkin.cameraStarts")}</p>}
        {!on && (
          <div class="scanner-note">
            {failure !== undefined && <p role="alert">{t(`checkin.camera.${failure}`)}</p>}
            <button
              type="button"
              class="button"
              onClick={() => {
                setFailure(undefined);
                setOn(true);
              }}
            >
              {t(failure === undefined ? "checkin.cameraStart" : "checkin.cameraAgain")}
            </button>
          </div>
        )}
      </div>
      {on && camera !== undefined && (
        <div class="scanner-tools">
          {others.length > 1 && (
            <select
              aria-label={t("checkin.cameraChoose")}
              value={current}
              onChange={(event) => {
                setDevice(event.currentTarget.value);
              }}
            >
              {others.map(({ device: id, name }, number) => (
                <option key={id} value={id}>
                  {name || t("checkin.cameraNumber", { number: number + 1 })}
                </option>
              ))}
            </select>
          )}
          {camera.light !== undefined && (
            <button
              type="button"
              class="button quiet"
              aria-pressed={lit}
              onClick={() => {
                void camera.light?.(!lit).then(
                  () => {
                    setLit(!lit);
                  },
                  () => undefined,
                );
              }}
            >
              {t("checkin.light")}
            </button>
          )}
          <button
            type="button"
            class="button quiet"
            onClick={() => {
              setOn(false);
            }}
          >
            {t("checkin.cameraStop")}
          </button>
        </div>
      )}
    </section>
  );
}
