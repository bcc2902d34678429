/* musl-host.c: loads an addon as a Node.js for musl would, into musl's own loader. The functions of
 * Node.js are there by name only (test/packaging/prebuilds.test.ts writes them): every symbol has
 * to be found, none is called. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char** argv) {
  void* addon = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
  if (addon == NULL) {
    printf("%s\n", dlerror());
    return 1;
  }
  puts(dlsym(addon, "napi_register_module_v1") != NULL ? "a module" : "no module");
  return 0;
}
