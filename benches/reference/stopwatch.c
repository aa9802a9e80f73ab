// stopwatch: times whole processes, several commands in turn (A B C A B C ...), so that ratios are
// paired and survive the drift of a noisy machine.
//
// usage: stopwatch ROUNDS WARM_UP STAMP ::: COMMAND ARG... [::: COMMAND ARG...]...
//   STAMP  the file that stampexit writes, or - if it is not among the commands.
//
// Prints a line for each timed run: the command's number from 0, the wall time in us, the time in
// us from the stamp to the end of the wrapper (-1 without one), and the wait status. The commands
// get /dev/null as standard descriptors.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX 64

extern char **environ;

struct run {
    double wall_us, latency_us;
    int status;
};

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

// The stamp is a time of CLOCK_MONOTONIC in nanoseconds, 0 before it was made.
static volatile uint64_t *map_stamp(const char *file) {
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || ftruncate(fd, 4096)) {
        perror(file);
        exit(2);
    }
    volatile uint64_t *stamp = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return stamp;
}

static struct run time_one(char **argv, posix_spawn_file_actions_t *actions,
                           volatile uint64_t *stamp) {
    pid_t pid;
    struct run run;
    if (stamp)
        *stamp = 0;
    double begin = now_us();
    int error = posix_spawnp(&pid, argv[0], actions, 0, argv, environ);
    if (error) {
        fprintf(stderr, "%s: %s\n", argv[0], strerror(error));
        exit(2);
    }
    while (waitpid(pid, &run.status, 0) < 0 && errno == EINTR)
        ;
    double end = now_us();
    run.wall_us = end - begin;
    run.latency_us = stamp && *stamp ? end - *stamp / 1e3 : -1;
    return run;
}

int main(int argc, char **argv) {
    if (argc < 6 || strcmp(argv[4], ":::"))
        return 2;
    int rounds = atoi(argv[1]), warm_up = atoi(argv[2]), count = 0;
    volatile uint64_t *stamp = strcmp(argv[3], "-") ? map_stamp(argv[3]) : 0;
    char **commands[COMMANDS_MAX];
    for (int i = 4; i < argc; i++)
        if (!strcmp(argv[i], ":::") && count < COMMANDS_MAX) {
            argv[i] = 0;
            commands[count++] = argv + i + 1;
        }

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 3; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);

    // Printed at the end only: writing between the runs would disturb them.
    struct run *runs = calloc((size_t)rounds * count, sizeof *runs);
    for (int round = -warm_up; round < rounds; round++)
        for (int i = 0; i < count; i++) {
            struct run run = time_one(commands[i], &actions, stamp);
            if (round >= 0)
                runs[round * count + i] = run;
        }
    for (int i = 0; i < rounds * count; i++)
        printf("%d %.1f %.1f %d\n", i % count, runs[i].wall_us, runs[i].latency_us, runs[i].status);
    return 0;
}
