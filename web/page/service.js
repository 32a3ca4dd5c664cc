// The service, over HTTP (docs/serve.md). Every request here may be sent again.

/** Longest time for which a service that can't be reached is tried again, and the pauses between. */
const PATIENCE = 300_000;
const PAUSES = [250, 5_000];
/** These pass by themselves. */
const PASSING = new Set(["busy", "stopping", "unreachable", "too_slow"]);

/** A refusal, as the service or this page says it. */
export class Refusal extends Error {
  constructor({ code, cause, remedy }) {
    super(cause);
    this.code = code;
    this.remedy = remedy;
  }
}

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/** Numbers of a list of ranges such as `0-2,5`. */
function* numbers(ranges) {
  for (const range of ranges.split(",").filter(Boolean)) {
    const [from, to] = range.split("-").map(Number);
    for (let number = from; number <= (to ?? from); number++) yield number;
  }
}

/** The service of this page's own address. `digest` is BLAKE3; `waits(cause)` hears why a request is tried again, null when it was answered. */
export function service(token, digest, waits) {
  const once = async (method, path, { headers, body } = {}) => {
    let response;
    try {
      response = await fetch(path, {
        method,
        body,
        headers: { authorization: `Bearer ${token}`, ...headers },
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
      if (response.ok) return new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      throw new Refusal({ code: "unreachable", cause: "the service can't be reached", remedy: "see that it runs" });
    }
    const said = await response.json().catch(() => ({
      code: response.status >= 500 ? "unreachable" : "refused",
      cause: `the service answered ${response.status}`,
      remedy: "see that this is the address of a service",
    }));
    throw new Refusal(said);
  };
  const send = async (method, path, sent) => {
    const start = Date.now();
    for (let wait = PAUSES[0]; ; wait = Math.min(2 * wait, PAUSES[1])) {
      try {
        const answer = await once(method, path, sent);
        waits(null);
        return answer;
      } catch (error) {
        if (!PASSING.has(error.code) || Date.now() - start > PATIENCE) {
          waits(null);
          throw error;
        }
        waits(error.message);
        await pause(wait);
      }
    }
  };
  const json = async (method, path, sent) => {
    const bytes = await send(method, path, sent);
    return bytes.length ? JSON.parse(new TextDecoder().decode(bytes)) : null;
  };
  const gone = async (path) => {
    try {
      await send("DELETE", path);
    } catch (error) {
      // removed before, or by its time
      if (!["no_such_job", "no_such_keys"].includes(error.code)) throw error;
    }
  };

  return {
    plans: () => json("GET", "/v1/plans"),
    clientFile: (plan) => send("GET", `/v1/plans/${plan}/client`),
    /** Sends the parts of evaluation keys that are missing there. */
    async upload(plan, keys, part, tell) {
      const declared = JSON.stringify({ plan, digest: keys.digest, bytes: keys.length });
      const path = `/v1/keys/${keys.digest}`;
      let there = await json("POST", "/v1/keys", { body: declared, headers: { "content-type": "application/json" } });
      while (there.state !== "ready") {
        const missing = [...numbers(there.missing)];
        const all = Math.ceil(keys.length / there.part_bytes);
        for (const [i, number] of missing.entries()) {
          const offset = number * there.part_bytes;
          const body = await part(offset);
          tell(all - missing.length + i, all, body);
          await json("PUT", `${path}/parts/${offset}`, { body, headers: { "polyveil-digest": digest(body) } });
        }
        tell(all, all, null);
        try {
          there = await json("POST", `${path}/commit`, { body: "" });
        } catch (error) {
          if (error.code !== "keys_incomplete") throw error;
          there = await json("GET", path);
        }
      }
    },
    ask: (plan, keys, input, of, idempotency) =>
      json("POST", `/v1/jobs?plan=${plan}&keys=${keys}`, {
        body: input,
        headers: { "polyveil-digest": of, "idempotency-key": idempotency },
      }),
    /** Waits for a job's end; `tell` hears how it stands. */
    async follow(id, tell) {
      for (let wait = 100; ; wait = Math.min(1.2 * wait, 3_000)) {
        const job = await json("GET", `/v1/jobs/${id}`);
        tell(job);
        if (job.state === "done") return job;
        if (job.state === "failed") throw new Refusal(job.error);
        await pause(wait);
      }
    },
    /** A job's answer, held to its digest. */
    async answer(job) {
      const bytes = await send("GET", `/v1/jobs/${job.id}/answer`);
      if (digest(bytes) !== job.answer.digest) {
        throw new Refusal({ code: "altered", cause: "the answer was altered on its way", remedy: "ask again" });
      }
      return bytes;
    },
    forgetJob: (id) => gone(`/v1/jobs/${id}`),
    jobs: () => json("GET", "/v1/jobs"),
    forgetKeys: (keys) => gone(`/v1/keys/${keys}`),
  };
}
