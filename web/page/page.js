// What is seen: asks the worker, shows what it says.

import { drawing, paint } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const show = (id, visible) => ($(id).hidden = !visible);
const size = (bytes) => {
  const unit = bytes >= 1e6 ? [1e6, "MB"] : bytes >= 1e3 ? [1e3, "kB"] : [1, "bytes"];
  return `${(bytes / unit[0]).toFixed(unit[0] > 1 ? 1 : 0)} ${unit[1]}`;
};
const seconds = (s) => `${s < 10 ? s.toFixed(2) : s.toFixed(0)} s`;

/** Bytes that are drawn side by side. */
const ROW = 1024;

// where scripts need leave to start others, this one has it for one file
const policy = globalThis.trustedTypes?.createPolicy("polyveil", {
  createScriptURL: (url) => {
    if (url !== "worker.js") throw new TypeError(url);
    return url;
  },
});
const worker = new Worker(policy ? policy.createScriptURL("worker.js") : "worker.js", { type: "module" });
const waiting = new Map();
let number = 0;

let network = null;
let plan = null;
let stands = null;
let pixels = null;
let busy = false;

function call(operation, given) {
  return new Promise((resolve, reject) => {
    waiting.set(++number, { resolve, reject });
    worker.postMessage({ id: number, operation, given });
  });
}
worker.onmessage = ({ data }) => {
  if (data.event) return events[data.event](data);
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.stands) stands = data.stands;
  if (data.refused) reject(data.refused);
  else resolve(data.result);
};
worker.onerror = () => alarm({ cause: "the part of this page that encrypts could not be started", remedy: "use a newer browser" });

function alarm(refused) {
  $("alert").textContent = refused ? `${refused.cause}${refused.remedy ? `; ${refused.remedy}` : ""}.` : "";
  show("alert", refused);
}

/** Does one thing at a time; what fails is shown. */
async function act(work) {
  if (busy) return;
  busy = true;
  alarm(null);
  update();
  try {
    await work();
  } catch (refused) {
    alarm(refused.cause ? refused : { cause: String(refused), remedy: "load the page again" });
  }
  busy = false;
  update();
}

const events = {
  waits({ cause }) {
    $("waits").textContent = cause ? `${cause}; trying again…` : "";
    show("waits", cause);
  },
  made({ done, all }) {
    say("keys", `Making keys: ${done} of ${all}`, done / all);
  },
  sent({ done, all }) {
    say("keys", `Sending the public part: ${done} of ${all} pieces`, done / all);
  },
  leaves({ bytes, pixels: given, ciphertexts, encrypted }) {
    pixels = given;
    see("What was encrypted");
    show("leaves", true);
    show("answer", false);
    paint($("bytes"), bytes, ROW, Math.ceil(bytes.length / ROW), 1);
    $("leaves-say").textContent =
      `${bytes.length.toLocaleString("en")} bytes, ${ciphertexts} ${ciphertexts === 1 ? "ciphertext" : "ciphertexts"}, encrypted in ${seconds(encrypted)}. Here they are, each byte a grey value:`;
    $("bytes").scrollIntoView({ block: "nearest" });
  },
  job({ how }) {
    const words = {
      waiting: () => `In the queue${how.place ? `, place ${how.place}` : ""}; a run takes about ${seconds(how.predicted_seconds)}.`,
      loading: () => "The service loads the keys.",
      running: () => `The service computes: step ${how.step} of ${how.steps}${how.seconds_left ? `, about ${seconds(how.seconds_left)} left` : ""}.`,
      done: () => "The answer is there.",
    };
    say("job", words[how.state]?.() ?? how.state, how.steps ? how.step / how.steps : how.state === "done" ? 1 : null);
  },
};

/** A line and a bar; without a bar for `undefined`, with one that moves for null. */
function say(where, words, part) {
  $(where === "keys" ? "keys-say" : "job").textContent = words;
  const bar = $(`${where}-progress`);
  bar.hidden = part === undefined;
  if (part === null) bar.removeAttribute("value");
  else bar.value = part ?? 0;
}

function update() {
  show("keys", network && !network.cannot);
  show("picture", stands?.sent && !stands.job);
  show("resume", stands?.job && !busy);
  if (stands?.job) show("leaves", true);
  for (const button of document.querySelectorAll("button, select, input[type=file]")) button.disabled = busy;
  if (!stands) return;
  show("make", !stands.key);
  show("open-key", !stands.key);
  show("send", stands.key && !stands.sent);
  show("save", stands.key);
  show("forget", stands.key);
  $("ask").disabled = busy || !pixels;
  if (busy) return;
  show("keys-progress", false);
  const sizes = size(plan.key_bytes);
  $("keys-say").textContent = !stands.key
    ? `A secret key, which stays here, and ${sizes} of public keys, which the service needs to compute.`
    : stands.sent
      ? "The secret key is in this browser, the public keys are at the service."
      : `The secret key is in this browser. The service still needs the public part, ${sizes}.`;
  if (stands.unkept === "key") {
    $("keys-say").textContent += " This browser has no room to keep the secret key: save it in a file, or it is lost when this page is closed.";
  } else if (stands.unkept === "parts") {
    $("keys-say").textContent += " This browser has no room to keep everything that is not sent yet: leave this page open until it is.";
  }
}

async function enter(token) {
  const entered = await call("enter", { token, remember: $("remember").checked });
  show("token-form", !entered.token);
  if (!entered.token) return;
  $("token").value = "";
  const plans = entered.plans;
  if (!plans.length) throw { cause: "this service has no network yet", remedy: "ask its operator to publish one" };
  $("plan").replaceChildren(...plans.map((p) => new Option(`${p.name}: ${p.network}, takes ${p.takes}`, p.name)));
  show("plans", true);
  $("plan").onchange = () => act(() => choose(plans));
  await choose(plans);
}

async function choose(plans) {
  [network, stands, pixels] = [null, null, null];
  for (const id of ["leaves", "answer"]) show(id, false);
  plan = plans.find((p) => p.name === $("plan").value);
  const chosen = await call("choose", { of: plan });
  [network, stands] = [chosen.network, chosen.stands];
  $("network").textContent =
    `${plan.parameters}, ${network.toy ? "INSECURE: a toy that protects nothing" : `${plan.security_bits} bits of security`}; ` +
    `a run takes about ${seconds(plan.seconds)} there; public keys ${size(plan.key_bytes)}, an encrypted picture ${size(plan.input_bytes)}.`;
  if (chosen.replaced) {
    alarm({ cause: "the keys in this browser belong to an earlier network of this name", remedy: "make new keys" });
  }
  if (network.cannot) throw { cause: network.cannot };
  show("drawing", network.picture.channels === 1);
  draw.clear();
  // what was begun before this page was loaded
  if (stands.job) await evaluate(() => call("resume"));
}

/** Encrypts, waits, decrypts; or goes on with what was begun. */
async function evaluate(asked) {
  show("answer", false);
  try {
    const result = await asked();
    stands = { ...stands, job: false };
    answer(result);
  } finally {
    say("job", "", undefined);
  }
}

function answer({ said, took, bytes, ciphertexts }) {
  show("answer", true);
  const best = said.best === null ? null : said.rows[said.best];
  $("best").textContent = best ? `${best.name}, with a share of ${(100 * best.share).toFixed(1)} %` : "";
  if (said.close) $("best").textContent += "; the two largest values lie so close that either may be first";
  $("doubt").textContent = said.doubt ? `Nobody can tell whether this answer is right: ${said.doubt}. Don't rely on it alone.` : "";
  show("doubt", said.doubt);
  const cell = (text, number) => {
    const td = document.createElement("td");
    td.append(text);
    if (number) td.className = "number";
    return td;
  };
  const row = (cells, best) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    if (best) tr.className = "best";
    return tr;
  };
  const bar = (share) => {
    if (share === null) return "";
    const meter = document.createElement("meter");
    meter.value = share;
    meter.title = `${(100 * share).toFixed(2)} %`;
    meter.textContent = meter.title;
    return meter;
  };
  $("rows").tBodies[0].replaceChildren(
    ...said.rows.map((r, i) => row([cell(r.name), cell(bar(r.share)), cell(r.value.toFixed(4), true)], i === said.best)),
  );
  $("alarm").textContent = said.alarm
    ? `The alarm is silent: it reads ${said.alarm.reads.toFixed(2)} of ${said.alarm.most.toFixed(1)} allowed, so no value is far outside the interval it was calibrated for.`
    : "This network has no alarm: nobody can tell whether a value left its interval.";
  $("error").textContent = `Each value is within ${said.error.toExponential(1)} of what the polynomial network gives in the clear.`;
  const lines = [
    ["network", `${network.name}, plan ${network.plan.slice(0, 16)}…`],
    ["parameters", `${plan.parameters}, ${plan.security_bits} bits of security`],
    ["public keys, sent once", size(bytes.keys)],
    ["sent: the encrypted picture", `${bytes.input.toLocaleString("en")} bytes in ${ciphertexts} ${ciphertexts === 1 ? "ciphertext" : "ciphertexts"}`],
    ["received: the encrypted answer", `${bytes.answer.toLocaleString("en")} bytes`],
    ["encrypted in", seconds(took.encrypted)],
    ["from asking to the answer", seconds(took.waited)],
    ["computed by the service", took.cpu ? `${seconds(took.cpu)} of CPU time` : `about ${seconds(took.predicted)}`],
    ["decrypted in", seconds(took.decrypted)],
  ];
  $("report").tBodies[0].replaceChildren(...lines.map(([what, value]) => row([cell(what), cell(value)])));
  $("answer").scrollIntoView({ block: "nearest" });
}

function see(words) {
  const { width, height, channels } = network.picture;
  paint($("seen"), pixels ?? new Uint8Array(width * height * channels), width, height, channels);
  $("seen-say").textContent = words;
}

const draw = drawing($("draw"), () => {
  if (!network?.picture) return;
  pixels = draw.pixels(network.picture.width, network.picture.height);
  $("file").value = "";
  see(`What is encrypted: ${network.picture.width}×${network.picture.height} pixels`);
  update();
});

const read = async (input) => new Uint8Array(await input.files[0].arrayBuffer());
const keysMade = async (made) => {
  stands = made.stands;
  update();
  stands = (await call("send")).stands;
};

$("token-form").onsubmit = (event) => {
  event.preventDefault();
  act(() => enter($("token").value.trim()));
};
$("make").onclick = () => act(async () => keysMade(await call("newKey")));
$("send").onclick = () => act(async () => (stands = (await call("send")).stands));
$("key-file").onchange = () =>
  act(async () => {
    if ($("key-file").files.length) await keysMade(await call("openKey", { file: await read($("key-file")) }));
  });
$("save").onclick = () =>
  act(async () => {
    const { file } = await call("key");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([file], { type: "application/octet-stream" }));
    link.download = "client.key";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
$("forget").onclick = () =>
  act(async () => {
    stands = (await call("forget")).stands;
    for (const id of ["leaves", "answer"]) show(id, false);
  });
$("clear").onclick = () => draw.clear();
$("file").onchange = () =>
  act(async () => {
    if (!$("file").files.length) return;
    const looked = await call("look", { file: await read($("file")) });
    pixels = looked.bytes;
    see(`What is encrypted${looked.lost.length ? `: ${looked.lost.join("; ")}` : ""}`);
  });
$("ask").onclick = () => act(() => evaluate(() => call("ask", { pixels })));
$("resume").onclick = () => act(() => evaluate(() => call("resume")));

// whoever is on an unprotected way could have changed this page
if (!isSecureContext) {
  alarm({ cause: "this page came over an unprotected way, on which it could have been changed", remedy: "open it by https, or on the machine of the service" });
  for (const button of document.querySelectorAll("button")) button.disabled = true;
} else {
  // what stands behind # is never sent; it is taken off the address
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname);
  act(() => enter(token ?? ""));
}
