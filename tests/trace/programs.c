/* What the tests of --trace run, by name: programs that sh and perl cannot be. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* A thread that is not the first one executes a program. */
static void *exec_true(void *unused) {
    (void)unused;
    execl("/bin/sh", "sh", "-c", "exit 42", (char *)0);
    return 0;
}

static void *wait_for_ever(void *unused) {
    (void)unused;
    for (;;) pause();
}

static int exec_by_thread(void) {
    pthread_t threads[9];
    for (int i = 0; i < 8; i++) pthread_create(&threads[i], 0, wait_for_ever, 0);
    pthread_create(&threads[8], 0, exec_true, 0);
    for (;;) pause();
}

/* posix_spawn uses CLONE_VFORK. */
static int spawn_storm(int count) {
    for (int i = 0; i < count; i++) {
        char *words[] = {"sh", "-c", "exit 7", 0};
        pid_t child;
        int status;
        if (posix_spawn(&child, "/bin/sh", 0, 0, words, environ)) return 1;
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) return 2;
    }
    return 0;
}

static int fork_storm(int count) {
    for (int i = 0; i < count; i++) {
        int status;
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) _exit(i & 0x7f);
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != (i & 0x7f)) return 2;
    }
    return 0;
}

static void *do_nothing(void *unused) { return unused; }

static int thread_storm(int count) {
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, do_nothing, 0) || pthread_join(thread, 0)) return 1;
    }
    return 0;
}

static sigjmp_buf back;
static volatile sig_atomic_t seen;

static void jump(int signal) {
    (void)signal;
    seen++;
    siglongjmp(back, 1);
}

/* Faults that a handler takes, as the JVM and Go do. */
static int survive_faults(int count) {
    signal(SIGSEGV, jump);
    for (volatile int i = 0; i < count; i++)
        if (!sigsetjmp(back, 1)) *(volatile int *)8 = 1;
    return seen == count ? 0 : 1;
}

static void note(int signal) { (void)signal; seen++; }

/* Signals to itself, as Go does. */
static int signal_itself(int count) {
    signal(SIGURG, note);
    for (int i = 0; i < count; i++) raise(SIGURG);
    return seen == count ? 0 : 1;
}

/* Counts queued signals until SIGTERM. */
static int count_signals(int count) {
    sigset_t all;
    sigemptyset(&all);
    struct sigaction action = {.sa_handler = note};
    sigaction(SIGRTMIN + 1, &action, 0);
    puts("ready");
    fflush(stdout);
    while (seen < count) pause();
    return 0;
}

static int crash(void) { return *(volatile int *)8; }

/* Whether a debugger works in here. */
static int be_traced(void) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(1);
        raise(SIGSTOP);
        _exit(5);
    }
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 1;
    ptrace(PTRACE_CONT, child, 0, 0);
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 5) return 2;
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    int count = argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(what, "exec-by-thread")) return exec_by_thread();
    if (!strcmp(what, "spawn")) return spawn_storm(count);
    if (!strcmp(what, "fork")) return fork_storm(count);
    if (!strcmp(what, "thread")) return thread_storm(count);
    if (!strcmp(what, "survive")) return survive_faults(count);
    if (!strcmp(what, "itself")) return signal_itself(count);
    if (!strcmp(what, "count")) return count_signals(count);
    if (!strcmp(what, "crash")) return crash();
    if (!strcmp(what, "be-traced")) return be_traced();
    return 99;
}
