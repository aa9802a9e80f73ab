// Dies in the way that its first argument names. Compiled once by the test beside it.
#define _GNU_SOURCE
#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile char *nowhere;

static void *fault(void *unused) {
    *nowhere = 1;
    return unused;
}

static void *linger(void *seconds) {
    sleep((unsigned)(size_t)seconds);
    return 0;
}

__attribute__((noinline)) static int deeper(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return deeper(depth + 1) + room[0];
}

static void busy(void) {
    for (volatile unsigned long i = 0;; i++) {
    }
}

// Maps `size` bytes of a file and writes to each page of them.
static void fill_map(const char *name, size_t size, off_t length) {
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, length) != 0) exit(98);
    char *map = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) exit(98);
    for (size_t at = 0; at < size; at += 4096) map[at] = 1;
    exit(97);
}

static void forbid(unsigned number, unsigned action) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        exit(98);
}

// Fills memory by that many MiB and returns it.
static char *eat(size_t mib) {
    char *all = mmap(0, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) exit(98);
    for (size_t at = 0; at < mib << 20; at += 4096) all[at] = 1;
    return all;
}

static void set_timer(int which) {
    struct itimerval once = {.it_value = {0, 200000}};
    if (setitimer(which, &once, 0)) exit(98);
}

static void copy_from(int master) {
    char text[4096];
    ssize_t got;
    while ((got = read(master, text, sizeof text)) > 0) {
        if (write(1, text, (size_t)got) < 0) return;
    }
}

// Runs a command on a terminal of its own; when the file `ready` is there, presses a key or hangs up.
static int on_terminal(const char *act, char **command) {
    int master;
    pid_t child = forkpty(&master, 0, 0, 0);
    if (child == 0) {
        execvp(command[0], command);
        _exit(98);
    }
    struct timespec moment = {0, 20000000};
    for (int i = 0; access("ready", F_OK) != 0; i++) {
        if (i > 1500) exit(99);
        nanosleep(&moment, 0);
    }
    if (!strcmp(act, "hang-up")) close(master);
    else if (write(master, !strcmp(act, "interrupt") ? "\003" : "\034", 1) != 1) exit(98);
    else copy_from(master);
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void parent_dies_first(void) {
    int ready[2];
    if (pipe(ready)) exit(98);
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (write(ready[1], "x", 1) != 1) _exit(98);
        for (;;) pause();
    }
    char byte;
    if (read(ready[0], &byte, 1) != 1) exit(98);
    exit(0);
}

// A timer that sends a signal of choice, as a program's own watchdog.
static void own_timer(int signal) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal};
    struct itimerspec once = {.it_value = {0, 200000000}};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &once, 0)) exit(98);
    for (;;) pause();
}

static void realtime_hog(void) {
    struct sched_param one = {.sched_priority = 1};
    struct rlimit limit = {200000, 1000000};
    if (sched_setscheduler(0, SCHED_FIFO, &one) || setrlimit(RLIMIT_RTTIME, &limit)) exit(98);
    busy();
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    char *volatile heap = 0;
    pthread_t thread;
#define WAY(name) if (!strcmp(how, name))
    WAY("defaults") {
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        execvp(argv[2], argv + 2);
        return 98;
    }
    WAY("null") fault(0);
    WAY("thread-null") {
        pthread_create(&thread, 0, fault, 0);
        pthread_join(thread, 0);
    }
    WAY("stack") return deeper(0);
    WAY("abort") abort();
    WAY("assert") assert(!"the books balance");
    WAY("double-free") {
        heap = malloc(32);
        free(heap);
        free(heap);
    }
    WAY("invalid-free") free((char *)&heap + 8);
    WAY("divide") {
        volatile int one = 1, zero = 0;
        return one / zero;
    }
    WAY("illegal") __builtin_trap();
    WAY("trap") raise(SIGTRAP);
    WAY("truncated-map") fill_map("map", 1 << 20, 4096);
    WAY("full-map") fill_map(argv[2], 64 << 20, 64 << 20);
    WAY("seccomp") {
        forbid(SYS_getppid, SECCOMP_RET_KILL_PROCESS);
        syscall(SYS_getppid);
    }
    WAY("strict") {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        syscall(SYS_getppid);
    }
    WAY("alarm") {
        alarm(1);
        for (;;) pause();
    }
    WAY("itimer-real") {
        set_timer(ITIMER_REAL);
        for (;;) pause();
    }
    WAY("itimer-virtual") {
        set_timer(ITIMER_VIRTUAL);
        busy();
    }
    WAY("itimer-prof") {
        set_timer(ITIMER_PROF);
        busy();
    }
    WAY("timer-alarm") own_timer(SIGALRM);
    WAY("timer-usr2") own_timer(SIGUSR2);
    WAY("parent-dies-first") parent_dies_first();
    WAY("leader-exits") {
        pthread_create(&thread, 0, linger, (void *)9);
        syscall(SYS_exit, 0);
    }
    WAY("no-memory") {
        struct rlimit limit = {64 << 20, 64 << 20};
        setrlimit(RLIMIT_AS, &limit);
        heap = malloc(128 << 20);
        heap[0] = 1;
    }
    WAY("eat") {
        heap = eat((size_t)atol(argv[2]));
        if (argc > 3) close(open(argv[3], O_CREAT | O_WRONLY, 0644));
        for (;;) pause();
    }
    WAY("busy") busy();
    WAY("realtime") realtime_hog();
    WAY("terminal") return on_terminal(argv[2], argv + 3);
    return 96;
}
