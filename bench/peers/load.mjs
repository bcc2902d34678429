// Not compiled, on purpose: a bare name is looked up from the file that imports it, and the peers are
// installed beside this one (bench/node_modules), not where the compiled subjects lie.
/** @param {string} name */
export function load(name) {
  return import(name)
}
