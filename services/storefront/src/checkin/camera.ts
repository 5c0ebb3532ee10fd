// The camera: which ones there are, their picture, and their light.
/** Why there is no picture of a camera. */
export type CameraFailure = "denied" | "missing" | "busy" | "unsupported";

export class CameraError extends Error {
  readonly failure: CameraFailure;

  constructor(failure: CameraFailure) {
    super(failure);
    this.failure = failure;
  }
}

export interface Camera {
  /** The id of the camera's device. */
  device: string | undefined;
  /** Switches the lamp, where the camera has one. */
  light: ((on: boolean) => Promise<void>) | undefined;
  /** Is called if the camera ends by itself: it was unplugged, or the permission was taken back. */
  ended(then: () => void): void;
  /** Ends the camera. */
  stop(): void;
}

/**
 * Shows the picture of a camera: that of `device`, or the one at the back of a telephone.
 *
 * @throws {CameraError}
 */
export async function startCamera(video: HTMLVideoElement, device?: string): Promise<Camera> {
  const stream = await open(device);
  const stop = (): void => {
    for (const track of stream.getTracks()) {
      track.stop();
    }
    video.srcObject = null;
  };
  try {
    video.srcObject = stream;
    await video.play();
  } catch {
    stop();
    throw new CameraError("busy");
  }
  const track = stream.getVideoTracks()[0];
  // Some browsers have no getCapabilities.
  const capabilities = (track !== undefined && "getCapabilities" in track ? track.getCapabilities() : {}) as { torch?: boolean };
  const light =
    track !== undefined && capabilities.torch === true
      ? (on: boolean): Promise<void> => track.applyConstraints({ advanced: [{ torch: on } as MediaTrackConstraintSet] })
      : undefined;
  return {
    device: track?.getSettings().deviceId,
    light,
    ended: (then) => track?.addEventListener("ended", then, { once: true }),
    stop,
  };
}

async function open(device: string | undefined): Promise<MediaStream> {
  // Browsers have no cameras for pages without https, except of this machine.
  const devices = (navigator as { mediaDevices?: MediaDevices }).mediaDevices;
  if (devices === undefined) {
    throw new CameraError("unsupported");
  }
  const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
  const which = device === undefined ? { facingMode: { ideal: "environment" } } : { deviceId: { exact: device } };
  try {
    return await devices.getUserMedia({ audio: false, video: { ...size, ...which } });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "NotAllowedError" || name === "SecurityError") {
      throw new CameraError("denied");
    }
    if (name === "NotFoundError" || name === "OverconstrainedError") {
      throw new CameraError("missing");
    }
    throw new CameraError("busy");
  }
}

/** Keeps the screen on, where the browser can. The browser itself ends that when the page is hidden. */
export async function keepAwake(): Promise<WakeLockSentinel | undefined> {
  try {
    return await (navigator as { wakeLock?: WakeLock }).wakeLock?.request("screen");
  } catch {
    return undefined; // the battery is low
  }
}

/** The cameras of the device. They have names once the reader has allowed one. */
export async function cameras(): Promise<{ device: string; name: string }[]> {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter(({ kind, deviceId }) => kind === "videoinput" && deviceId !== "")
    .map(({ deviceId, label }) => ({ device: deviceId, name: label }));
}
