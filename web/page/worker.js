// Everything that takes time or is secret: the client, the browser's store, the service. The page sees pictures, answers and ciphertexts.

import { load, Refused } from "./client.js";
import { Refusal, service } from "./service.js";
import { NotKept, open } from "./store.js";

const PART = 4 << 20;
const random = (bytes) => crypto.getRandomValues(bytes);
const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
const tell = (event, more, transfer) => postMessage({ event, ...more }, transfer ?? []);

let client;
let store;
let remote;
/** The plan that was chosen: as the service describes it, its client file, and what is known of its keys. */
let plan = null;
/** What the browser has no room for is here until the page is closed. */
const held = new Map();

async function start() {
  if (store) return;
  client = await load(await (await fetch("client.wasm")).arrayBuffer(), random);
  store = await open();
}

async function keep(name, value) {
  try {
    await store.put(name, value);
    held.delete(name);
    return true;
  } catch (error) {
    if (!(error instanceof NotKept)) throw error;
    held.set(name, value);
    return false;
  }
}

const kept = async (name) => held.get(name) ?? (await store.get(name));

async function drop(prefix) {
  for (const name of held.keys()) if (name.startsWith(prefix)) held.delete(name);
  await store.remove(prefix);
}

const named = (what) => `${plan.name}/${what}`;

/** How things stand with the chosen plan. */
async function stands() {
  const names = [...held.keys()];
  return {
    key: plan.key,
    made: Boolean(plan.keys),
    sent: Boolean(plan.keys?.sent),
    job: Boolean(await kept(named("job"))),
    // what is lost when the page is closed
    unkept: names.includes(named("key")) ? "key" : names.some((n) => n.startsWith(plan.name)) ? "parts" : null,
  };
}

const operations = {
  /** With a token, or the one that was kept: the plans that are served. */
  async enter({ token, remember }) {
    await start();
    token = token || (await kept("token"));
    if (!token) return { token: false };
    remote = service(token, client.digest, (cause) => tell("waits", { cause }));
    const plans = await remote.plans();
    if (remember) await keep("token", token);
    return { token: true, plans: plans.filter((p) => !p.retired) };
  },

  /** A plan: what it takes, and what there is of keys and jobs. */
  async choose({ of }) {
    const file = await remote.clientFile(of.name);
    const network = client.open(file);
    if (network.plan !== of.digest) {
      throw new Refused("the client file is of another plan than the service says; tell its operator");
    }
    plan = { ...of, network, key: false, keys: null };
    const secret = await kept(named("key"));
    let replaced = false;
    if (secret) {
      try {
        client.openKey(secret);
        plan.key = true;
        plan.keys = (await kept(named("keys"))) ?? null;
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        replaced = true;
      }
    }
    return { network, plan: of, replaced, stands: await stands() };
  },

  /** A new secret key. */
  async newKey() {
    const secret = client.newKey();
    await drop(`${plan.name}/`);
    plan.keys = null;
    await keep(named("key"), secret);
    plan.key = true;
    return makeKeys();
  },

  /** A secret key from a file; the service gets new evaluation keys for it. */
  async openKey({ file }) {
    client.openKey(file);
    await drop(`${plan.name}/`);
    plan.keys = null;
    await keep(named("key"), file);
    plan.key = true;
    return makeKeys();
  },

  /** The secret key's file. */
  async key() {
    return { file: await kept(named("key")) };
  },

  /** Evaluation keys go to the service; what is there is not sent again. */
  async send() {
    if (!plan.keys) await makeKeys();
    const part = async (offset) => {
      const bytes = await kept(named(`part/${offset}`));
      if (!bytes) throw new Refusal({ code: "no_part", cause: "keys are no longer in this browser", remedy: "make them again" });
      return bytes;
    };
    const start = performance.now();
    await remote.upload(plan.name, plan.keys, part, (done, all) => tell("sent", { done, all }));
    plan.keys = { ...plan.keys, sent: true };
    await drop(named("part/"));
    await keep(named("keys"), plan.keys);
    return { seconds: (performance.now() - start) / 1000, stands: await stands() };
  },

  /** A picture's file at the network's size. */
  look: ({ file }) => client.look(file),

  /** Encrypts pixels, and has them evaluated. */
  async ask({ pixels }) {
    const start = performance.now();
    const { bytes, digest, ciphertexts } = client.encrypt(pixels);
    const encrypted = (performance.now() - start) / 1000;
    const idempotency = hex(random(new Uint8Array(16)));
    // before it is sent: whatever breaks, the same request finds the same job
    await keep(named("job"), { input: bytes, digest, idempotency, pixels, encrypted, ciphertexts, began: Date.now() });
    return evaluate();
  },

  /** Goes on with the job that there is. */
  resume: () => evaluate(),

  /** Keys and jobs go, here and at the service. */
  async forget() {
    if (plan.keys) {
      for (const job of await remote.jobs()) {
        if (job.keys === plan.keys.digest) await remote.forgetJob(job.id);
      }
      await remote.forgetKeys(plan.keys.digest);
    }
    await drop(`${plan.name}/`);
    [plan.key, plan.keys] = [false, null];
    // nothing secret stays in the client's memory
    client = await load(await (await fetch("client.wasm")).arrayBuffer(), random);
    client.open(await remote.clientFile(plan.name));
    return { stands: await stands() };
  },
};

/** Evaluation keys for the secret key that there is, kept until they are sent. */
async function makeKeys() {
  await drop(named("part/"));
  const start = performance.now();
  const parts = [];
  const { digest, length } = client.evaluationKeys(
    (part) => parts.push(part),
    (done, all) => tell("made", { done, all }),
  );
  const seconds = (performance.now() - start) / 1000;
  for (const [i, part] of parts.entries()) await keep(named(`part/${i * PART}`), part);
  plan.keys = { digest, length, sent: false };
  // last: keys that are named are whole
  await keep(named("keys"), plan.keys);
  return { seconds, length, stands: await stands() };
}

async function evaluate() {
  const job = await kept(named("job"));
  const { input, digest, idempotency, pixels, encrypted, ciphertexts, began } = job;
  tell("leaves", { bytes: input, pixels, encrypted, ciphertexts });
  let asked;
  try {
    asked = await remote.ask(plan.name, plan.keys.digest, input, digest, idempotency);
    asked = await remote.follow(asked.id, (how) => tell("job", { how }));
  } catch (error) {
    if (error.code === "no_such_keys") {
      // they were past their time there: the same secret key gets new ones
      plan.keys = null;
      await drop(named("keys"));
    }
    if (!["unreachable", "busy", "stopping"].includes(error.code)) await drop(named("job"));
    throw error;
  }
  const waited = (Date.now() - began) / 1000;
  const answer = await remote.answer(asked);
  const start = performance.now();
  let said;
  try {
    said = client.decrypt(answer);
  } finally {
    await remote.forgetJob(asked.id);
    await drop(named("job"));
  }
  const decrypted = (performance.now() - start) / 1000;
  const took = { encrypted, waited, decrypted, predicted: asked.predicted_seconds, cpu: asked.cpu_seconds };
  const bytes = { keys: plan.keys.length, input: input.length, answer: answer.length };
  return { said, took, bytes, ciphertexts };
}

/** A failure as the page shows it. */
function refusal(error) {
  if (error instanceof Refused) return { cause: error.message };
  if (error instanceof Refusal) return { code: error.code, cause: error.message, remedy: error.remedy };
  if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) {
    // a module that stopped in the middle is not used again
    client = null;
    return {
      cause: `the client in this page stopped (${error.message}); there may be too little memory for these keys`,
      remedy: "load the page again; where that does not help, use the program `polyveil`",
    };
  }
  return { cause: String(error?.message ?? error), remedy: "load the page again" };
}

// one after another
let last = Promise.resolve();
onmessage = ({ data: { id, operation, given } }) => {
  last = last.then(async () => {
    try {
      postMessage({ id, result: await operations[operation](given ?? {}) });
    } catch (error) {
      postMessage({ id, refused: refusal(error), stands: plan && store ? await stands().catch(() => null) : null });
    }
  });
};
