// `node --require` of this loads the addon that COROIPC_TEST_ADDON names in place of the one that is built for use: in this process,
// in its workers and, by NODE_OPTIONS, in the processes that it starts (scripts/test.mjs --addon).
const { basename } = require('node:path')

const { dlopen } = process
process.dlopen = (module, path, ...flags) =>
  dlopen.call(
    process,
    module,
    basename(path) === 'coroipc.node' ? process.env.COROIPC_TEST_ADDON : path,
    ...flags,
  )
