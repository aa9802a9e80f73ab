// treegen N FANOUT FDS DIRECTORY: a tree of N sleeping descendants (node i's parent is node
// (i-1)/FANOUT), each with FDS open files: 0, 1, 2 on /dev/null and the rest in DIRECTORY.  Prints
// the root's pid when all are up, then sleeps; when the root ends, PDEATHSIG takes the tree down.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static int nodes, fanout, fds;
static const char *directory;
static volatile int *up;

static void node(int i) {
    char name[4096];
    if (i) close_range(3, ~0U, 0);
    for (int k = 3; k < fds; k++) {
        snprintf(name, sizeof name, "%s/f%d.dat", directory, (i * 7 + k) % 512);
        if (open(name, O_RDWR | O_CREAT, 0644) < 0) perror(name);
    }
    for (long j = (long)i * fanout + 1; j <= (long)i * fanout + fanout && j <= nodes; j++) {
        pid_t pid = fork();
        if (pid < 0) perror("fork");
        if (!pid) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            prctl(PR_SET_NAME, "treenode");
            node(j);
        }
    }
    __sync_fetch_and_add(up, 1);
    while (i) pause();
}

int main(int count, char **words) {
    if (count < 5) return 2;
    nodes = atoi(words[1]);
    fanout = atoi(words[2]);
    fds = atoi(words[3]);
    directory = words[4];
    up = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signal(SIGCHLD, SIG_IGN);
    int out = fcntl(1, F_DUPFD_CLOEXEC, 300);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(null, fd);
    close_range(3, 299, 0);
    prctl(PR_SET_NAME, "treeroot");
    node(0);
    while (*up < nodes + 1) usleep(10000);
    dprintf(out, "%d\n", getpid());
    close(out);
    for (;;) pause();
}
