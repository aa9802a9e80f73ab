// refwrap LOG COMMAND ARG...: the smallest honest wrapper, as a floor for ours. It blocks all
// signals, reads them from a signalfd, writes a log line at the start, for each signal and at the
// end, and hands the job's status on. It forwards nothing and explains nothing.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int log_fd;

static void say(const char *format, ...) {
    char line[512];
    struct timespec t;
    va_list arguments;
    clock_gettime(CLOCK_REALTIME, &t);
    int n = sprintf(line, "%ld.%06ld ", (long)t.tv_sec, t.tv_nsec / 1000);
    va_start(arguments, format);
    n += vsnprintf(line + n, sizeof line - n, format, arguments);
    va_end(arguments);
    if (write(log_fd, line, n) < 0)
        _exit(125);
}

// Returns the wait status of the job.
static int mind(pid_t job, int signals, struct rusage *usage) {
    for (;;) {
        struct signalfd_siginfo infos[8];
        ssize_t n = read(signals, infos, sizeof infos);
        for (int i = 0; i < n / (ssize_t)sizeof *infos; i++) {
            struct signalfd_siginfo *info = &infos[i];
            int status;
            if (info->ssi_signo != SIGCHLD)
                say("signal=%d code=%d pid=%d uid=%d value=%d\n", info->ssi_signo, info->ssi_code,
                    info->ssi_pid, info->ssi_uid, info->ssi_int);
            else if (wait4(job, &status, WNOHANG | WUNTRACED, usage) == job && !WIFSTOPPED(status))
                return status;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 125;
    sigset_t all, given;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &given);
    int signals = signalfd(-1, &all, SFD_CLOEXEC);
    log_fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &given);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t job;
    int error = posix_spawnp(&job, argv[2], 0, &attributes, argv + 2, environ);
    if (error)
        return error == ENOENT ? 127 : 126;
    say("start pid=%d command=%s\n", job, argv[2]);

    struct rusage usage;
    int status = mind(job, signals, &usage);
    say("end pid=%d status=%d utime=%ld.%06ld stime=%ld.%06ld maxrss=%ld\n", job, status,
        (long)usage.ru_utime.tv_sec, (long)usage.ru_utime.tv_usec, (long)usage.ru_stime.tv_sec,
        (long)usage.ru_stime.tv_usec, usage.ru_maxrss);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
