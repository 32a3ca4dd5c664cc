// The client's side of the boundary of src/lib.rs: bytes and JSON in, bytes and JSON out. In a worker, or in Node.

const OPERATIONS = ["open", "digest", "newKey", "openKey", "evaluationKeys", "look", "encrypt", "decrypt"];

/** What the client refuses, in its own words. */
export class Refused extends Error {}

/** Loads the client. `random(bytes)` fills bytes with randomness for secrets; `made(done, all)` hears how many keys are made. */
export async function load(wasm, random) {
  let onPart = () => {};
  let onMade = () => {};
  const { instance } = await WebAssembly.instantiate(wasm, {
    page: {
      // a copy: the module's memory moves when it grows
      part: (at, length) => onPart(new Uint8Array(memory.buffer, at, length).slice()),
      made: (done, all) => onMade(done, all),
    },
  });
  const { memory, room, call, text, text_length, bytes, bytes_length } = instance.exports;

  const seed = () => {
    const drawn = new Uint8Array(32);
    random(drawn);
    return drawn;
  };
  const carryOut = (name, ...given) => {
    for (const argument of given) {
      const at = room(argument.length) >>> 0;
      if (at === 0) throw new Refused(`${argument.length} bytes are too many`);
      new Uint8Array(memory.buffer, at, argument.length).set(argument);
    }
    const refused = call(OPERATIONS.indexOf(name));
    const said = new Uint8Array(memory.buffer, text() >>> 0, text_length());
    const json = JSON.parse(new TextDecoder().decode(said));
    if (refused) throw new Refused(json.cause);
    return { ...json, bytes: new Uint8Array(memory.buffer, bytes() >>> 0, bytes_length()).slice() };
  };
  return {
    /** Opens a network by its client file: says what it takes. */
    open: (file) => carryOut("open", file),
    /** BLAKE3 of some bytes. */
    digest: (of) => carryOut("digest", of).digest,
    /** Makes a secret key: its file's bytes. */
    newKey: () => carryOut("newKey", seed()).bytes,
    /** Opens a secret key's file. */
    openKey: (file) => carryOut("openKey", file),
    /** Makes evaluation keys: `part` gets each 4 MiB of them; gives their digest and length. */
    evaluationKeys: (part, made) => {
      [onPart, onMade] = [part, made];
      return carryOut("evaluationKeys", seed());
    },
    /** A picture's file at the network's size: its pixels, and what was lost. */
    look: (file) => carryOut("look", file),
    /** Pixels, encrypted. */
    encrypt: (pixels) => carryOut("encrypt", pixels, seed()),
    /** What an answer says. */
    decrypt: (answer) => carryOut("decrypt", answer),
  };
}
