// sigrecv count COUNTS | sigrecv log1 COUNTS LOG: receives signals as fast as a process can, by a
// signalfd and 64 at a time. `count` only counts (the child under a forwarder); `log1` also writes
// one line per signal with one write(2) each (the reference for a log that loses nothing it saw).
//
// COUNTS is mapped and shared: [0] our pid once we are ready, [1] signals received, [2] payloads of
// sigqueue(3) that were not one more than the last. Blocks everything, so it ends by SIGKILL only.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t *counts;

static void count(const struct signalfd_siginfo *info) {
    static int last = -1;
    counts[1]++;
    if (info->ssi_code == SI_QUEUE) {
        counts[2] += info->ssi_int != last + 1;
        last = info->ssi_int;
    }
}

static void write_line(int log, const struct signalfd_siginfo *info) {
    char line[256];
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int n = sprintf(line, "%ld.%06ld signal %d code %d from uid %u pid %u value %d\n",
                    (long)t.tv_sec, t.tv_nsec / 1000, info->ssi_signo, info->ssi_code,
                    info->ssi_uid, info->ssi_pid, info->ssi_int);
    if (write(log, line, n) < 0)
        _exit(3);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, 0);
    int fd = open(argv[2], O_RDWR | O_CREAT, 0644), log = -1;
    if (fd < 0 || ftruncate(fd, 4096))
        return 2;
    counts = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (argc > 3 && !strcmp(argv[1], "log1"))
        log = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
    int signals = signalfd(-1, &all, 0);
    counts[0] = getpid();
    for (;;) {
        static struct signalfd_siginfo infos[64];
        ssize_t n = read(signals, infos, sizeof infos);
        for (int i = 0; i < n / (ssize_t)sizeof *infos; i++) {
            count(&infos[i]);
            if (log >= 0)
                write_line(log, &infos[i]);
        }
    }
}
