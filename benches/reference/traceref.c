/* traceref COMMAND...: traces a command and its descendants with the least that tells who sent each signal. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int hold[2], main_status = 0;
    if (argc < 2 || pipe(hold)) return 2;
    pid_t job = fork();
    if (job == 0) {
        char byte;
        close(hold[1]);
        if (read(hold[0], &byte, 1) != 1) _exit(3);
        close(hold[0]);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, job, 0, options)) return 4;
    if (write(hold[1], "", 1) != 1) return 5;
    close(hold[1]);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) {
            if (errno == EINTR) continue;
            break;
        }
        if (!WIFSTOPPED(status)) {
            if (pid == job) main_status = status;
            continue;
        }
        int event = status >> 16, signal = WSTOPSIG(status);
        unsigned long message;
        if (event == PTRACE_EVENT_STOP) {
            int is_group = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
            ptrace(is_group ? PTRACE_LISTEN : PTRACE_CONT, pid, 0, 0);
        } else if (event) {
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &message);
            ptrace(PTRACE_CONT, pid, 0, 0);
        } else {
            siginfo_t info;
            ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
            ptrace(PTRACE_CONT, pid, 0, (long)signal);
        }
    }
    return WIFEXITED(main_status) ? WEXITSTATUS(main_status) : 1;
}
