# The core (a static library), libcoroipc (the same, shared, for C programs) and the addon.
# Tests, examples and tools are built by the Makefile beside this file, on top of what is made here.
# Sources are listed by pattern: a new file needs no line here.
{
  'variables': {
    'sources_of': "require('fs').readdirSync('.', { recursive: true }).filter(f => RegExp('^' + process.argv[1] + '/[^/]+[.]cc$').test(f)).sort().join('\\n')",
  },
  'target_defaults': {
    'default_configuration': 'Release',
    'include_dirs': ['include'],
    # common.gypi asks for -std=gnu++17 and -O3; ours come later and are the ones that count.
    'cflags!': ['-O3', '-Wno-unused-parameter'],
    'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
    'cflags': ['-O2', '-g', '-fPIC', '-Wall', '-Wextra', '-Wconversion', '-Werror', '-fvisibility=hidden'],
    'cflags_cc': ['-std=c++20', '-fno-exceptions', '-fno-rtti', '-fvisibility-inlines-hidden'],
  },
  'targets': [
    {
      'target_name': 'coroipc_core',
      'type': 'static_library',
      'sources': ['<!@(node -p "<(sources_of)" src)'],
      'include_dirs': ['src'],
    },
    {
      'target_name': 'libcoroipc',
      'product_name': 'libcoroipc',
      'type': 'shared_library',
      # gyp takes the whole of a static library into a shared one.
      'dependencies': ['coroipc_core'],
      'sources': ['coroipc.map'],
      'libraries': [
        '-Wl,--version-script=<(module_root_dir)/coroipc.map',
        '-Wl,-z,defs',
        '-pthread',
      ],
    },
    {
      # The include path has include/ and Node's headers, not src/: what is not in the C API cannot be reached.
      'target_name': 'coroipc',
      'dependencies': ['coroipc_core'],
      'sources': ['<!@(node -p "<(sources_of)" addon)'],
      'defines': [
        'NAPI_VERSION=9',
        'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
        'NODE_ADDON_API_DISABLE_DEPRECATED',
        # In a worker that is being terminated nothing can be thrown; that is no reason to end the process.
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      ],
      # As system headers, since they are not held to our warnings.
      'cflags': ['-isystem', '<!(node -p "require(\'path\').resolve(require(\'node-addon-api\').include_dir)")'],
      # Nor does it hand the core's functions on to whoever else is loaded.
      'libraries': ['-pthread', '-Wl,--exclude-libs,ALL'],
    },
  ],
}
