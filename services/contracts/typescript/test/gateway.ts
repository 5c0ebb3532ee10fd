/** A gateway in memory: it answers requests in the order of its answers, and keeps the requests. */
export class Gateway {
  readonly requests: Request[] = [];
  readonly #answers: (() => Response | Promise<Response>)[] = [];

  /** The `fetch` of a client of this gateway. */
  readonly fetch = async (request: Request): Promise<Response> => {
    this.requests.push(request);
    const answer = this.#answers.shift();
    if (answer === undefined) {
      throw new Error(`${request.method} ${request.url}: no more requests were expected`);
    }
    return await answer();
  };

  /** Adds an answer with a JSON body. */
  answer(status: number, body: unknown, headers: Record<string, string> = {}): this {
    const type = status < 400 ? "application/json" : "application/problem+json";
    return this.does(() => new Response(JSON.stringify(body), { status, headers: { "Content-Type": type, ...headers } }));
  }

  /** Adds a problem with one error. */
  refuse(status: number, code: string, headers: Record<string, string> = {}): this {
    return this.answer(status, { status, errors: [{ message: `It is ${code}.`, code }], requestId: "r-1" }, headers);
  }

  does(answer: () => Response | Promise<Response>): this {
    this.#answers.push(answer);
    return this;
  }
}
