// stampexit FILE MS: sleeps, stores the time of CLOCK_MONOTONIC in nanoseconds at the beginning of
// FILE as its last act, and ends. The page is touched before, so that no fault is in the timed part.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;
    if (fd < 0)
        return 9;
    volatile uint64_t *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    page[1] = 1;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long ms = atol(argv[2]);
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, 0);
    clock_gettime(CLOCK_MONOTONIC, &t);
    page[0] = t.tv_sec * 1000000000ull + t.tv_nsec;
    _exit(0);
}
