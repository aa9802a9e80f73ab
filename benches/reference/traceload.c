/* traceload WHAT COUNT: does one thing again and again, and prints the nanoseconds of each on average. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static volatile double product = 1;

static void handler(int signal) { (void)signal; }

static void *thread(void *nothing) { return nothing; }

static void once(const char *what) {
    if (!strcmp(what, "syscall")) {
        syscall(SYS_getppid);
    } else if (!strcmp(what, "compute")) {
        for (int i = 0; i < 1000; i++) product = product * 1.0000001 + 1e-9;
    } else if (!strcmp(what, "signal")) {
        kill(getpid(), SIGUSR1);
    } else if (!strcmp(what, "fork")) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        waitpid(child, 0, 0);
    } else if (!strcmp(what, "exec")) {
        char *words[] = {"true", 0};
        pid_t child;
        if (posix_spawn(&child, "/bin/true", 0, 0, words, environ)) exit(2);
        waitpid(child, 0, 0);
    } else if (!strcmp(what, "thread")) {
        pthread_t made;
        if (pthread_create(&made, 0, thread, 0)) exit(2);
        pthread_join(made, 0);
    } else {
        exit(3);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 4;
    struct timespec begin, end;
    long count = atol(argv[2]);
    signal(SIGUSR1, handler);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < count; i++) once(argv[1]);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double elapsed = (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec);
    printf("%.1f\n", elapsed / count);
    return 0;
}
