/* planted_native overflow|leak|undefined|race: what a sanitizer has to find before the native tests
 * are run with it (scripts/test.mjs). A build that does not see these sees nothing. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void* write_it(void* unused) {
  (void)unused;
  for (int i = 0; i < 100000; ++i) ++shared;
  return NULL;
}

int main(int argc, char** argv) {
  const char* const what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "overflow") == 0) {
    char* const block = malloc(16);
    volatile int beyond = 16;
    if (block != NULL) block[beyond] = 1;
    free(block);
  } else if (strcmp(what, "leak") == 0) {
    char* volatile block = malloc(12345);
    if (block != NULL) block[0] = 1;
    block = NULL;
  } else if (strcmp(what, "undefined") == 0) {
    volatile int most = INT_MAX;
    most = most + 1;
  } else if (strcmp(what, "race") == 0) {
    pthread_t other;
    if (pthread_create(&other, NULL, write_it, NULL) != 0) return 0;
    write_it(NULL);
    pthread_join(other, NULL);
  }
  return 0;
}
