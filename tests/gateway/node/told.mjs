// What the client programs beside this file have in common; told.py says it for Python.

// The one that gives up does so when its request has reached the upstream.
export function aborted({ reached }) {
  const giving = new AbortController();
  fetch(reached).then(() => giving.abort());
  return giving.signal;
}

export async function run(calls, failure) {
  const one = async (asked) => {
    try {
      return await calls[asked.ask](asked);
    } catch (error) {
      return failure(error);
    }
  };
  const cases = JSON.parse(process.argv[2]);
  const found = await Promise.all(cases.map(async (asked) => ({ name: asked.name, ...(await one(asked)) })));
  for (const row of found) console.log(JSON.stringify(row));
  process.exit(0); // what was left open must not keep the process
}
