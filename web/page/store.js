// What the browser keeps between visits: IndexedDB, one record a name. In a worker.

const KEPT = "kept";

/** The browser has no room left, or keeps nothing at all. */
export class NotKept extends Error {}

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** A store; where the browser has none, everything that is put there is refused. */
export async function open() {
  let database = null;
  let why = null;
  try {
    const request = indexedDB.open("polyveil", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(KEPT);
    database = await done(request);
  } catch (error) {
    why = error;
  }
  const within = async (mode, act) => {
    if (!database) throw new NotKept(String(why?.message ?? why));
    try {
      const transaction = database.transaction(KEPT, mode, { durability: "strict" });
      const ended = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error ?? new NotKept("the browser broke off"));
      });
      // both are waited for: a full disk may show at the end only
      const [result] = await Promise.all([act(transaction.objectStore(KEPT)), ended]);
      return result;
    } catch (error) {
      throw error instanceof NotKept ? error : new NotKept(`${error.name}: ${error.message}`);
    }
  };
  const under = (prefix) => IDBKeyRange.bound(prefix, `${prefix}\uffff`);
  return {
    /** Keeps a value under a name, or throws `NotKept`. */
    put: (name, value) => within("readwrite", (store) => done(store.put(value, name))),
    /** The value of a name, or undefined. */
    get: (name) => (database ? within("readonly", (store) => done(store.get(name))) : undefined),
    /** All names that begin so. */
    names: (prefix) => (database ? within("readonly", (store) => done(store.getAllKeys(under(prefix)))) : []),
    /** Removes all names that begin so. */
    remove: (prefix) => (database ? within("readwrite", (store) => done(store.delete(under(prefix)))) : undefined),
  };
}
