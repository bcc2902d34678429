// `node --require` of this is a host that allows no external buffers, as far as TypeScript can tell.
const { dlopen } = process
process.dlopen = (module, ...rest) => {
  dlopen.call(process, module, ...rest)
  if ('externalBuffers' in module.exports) module.exports.externalBuffers = false
}
