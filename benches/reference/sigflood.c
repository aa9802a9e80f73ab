// sigflood kill|queue PID COUNT SIGNAL[,SIGNAL...]: sends COUNT signals to a process at full speed,
// the listed ones in turn: with kill(2), or with sigqueue(3) and the values 0, 1, 2 ... Where the
// queue is full it tries again, for at most 20 s. Prints how many were sent.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIGNALS_MAX 64
#define PATIENCE_S 20

static int send_one(int queue, pid_t pid, int signal, int value) {
    return queue ? sigqueue(pid, signal, (union sigval){.sival_int = value}) : kill(pid, signal);
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    int queue = !strcmp(argv[1], "queue"), signals[SIGNALS_MAX], kinds = 0;
    pid_t pid = atoi(argv[2]);
    long count = atol(argv[3]), sent = 0;
    for (char *word = strtok(argv[4], ","); word && kinds < SIGNALS_MAX; word = strtok(0, ","))
        signals[kinds++] = atoi(word);
    time_t end = time(0) + PATIENCE_S;
    while (sent < count) {
        if (!send_one(queue, pid, signals[sent % kinds], (int)sent))
            sent++;
        else if (errno == EAGAIN && time(0) < end)
            sched_yield();
        else
            break;
    }
    printf("%ld\n", sent);
    return 0;
}
