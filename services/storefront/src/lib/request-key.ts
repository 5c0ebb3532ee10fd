// Idempotency keys of forms.
import { Problem, retry } from "./api.ts";

/** For how long a request is repeated while there is no answer, in milliseconds. */
const patience = 15_000;

/**
 * The `Idempotency-Key` of a form's request. It stays the same while there is no answer and the body does not change: if an answer was
 * lost, and the button is pressed again, the request is done once.
 */
export class RequestKey {
  #body = "";
  #key = "";

  /** Sends a request, and repeats it while the answer is 429 or 503, or while there is none. */
  async send<Result>(body: unknown, request: (header: { "Idempotency-Key": string }) => Promise<Result>): Promise<Result> {
    const text = JSON.stringify(body);
    if (this.#key === "" || text !== this.#body) {
      this.#body = text;
      this.#key = crypto.randomUUID();
    }
    const key = this.#key;
    try {
      const result = await retry(() => request({ "Idempotency-Key": key }), { within: patience });
      this.#key = "";
      return result;
    } catch (error) {
      if (error instanceof Problem && error.status < 500) {
        this.#key = ""; // it was refused: nothing was done
      }
      throw error;
    }
  }
}
