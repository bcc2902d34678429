/* planted: what a sanitizer has to find in each run (scripts/sanitized-addon.mjs): loaded into Node
 * like an addon, it leaks, or writes beyond a block. */
#include <stdlib.h>

__attribute__((constructor)) static void plant(void) {
  char* volatile block = malloc(12345);
  if (getenv("COROIPC_TEST_OVERFLOW") != NULL) block[12345] = 1;
  block = NULL;
}
