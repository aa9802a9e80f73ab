// procsample ROOT SAMPLES: the reference for sampling a process tree.  Each sample walks down from
// ROOT by /proc/P/task/P/children and reads /proc/P/stat, both by descriptors that stay open, and
// asks fstatat for the number of descriptors.  Prints the number of descendants, then the median
// and the mean of the CPU time of a sample in microseconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PIDS = 4194304, MOST = 20000 };

struct kept { pid_t pid; int stat, children; };

static int proc;
static struct kept kept[MOST];
static int n_kept, place[PIDS];
static pid_t found[200000];
static int n_found;
static char text[1 << 16];
static unsigned long sum_rss, sum_cpu, sum_fds, sum_threads;

static double cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static unsigned long number(char **at) {
    while (**at == ' ' || **at == '-') (*at)++;
    unsigned long value = 0;
    while (**at >= '0' && **at <= '9') value = value * 10 + *(*at)++ - '0';
    return value;
}

static void path(char *to, pid_t pid, const char *rest) {
    char digits[12];
    int n = 0;
    do digits[n++] = '0' + pid % 10; while (pid /= 10);
    while (n) *to++ = digits[--n];
    strcpy(to, rest);
}

static struct kept *keep(pid_t pid) {
    if (place[pid] && kept[place[pid] - 1].pid == pid) return &kept[place[pid] - 1];
    char name[96], digits[16];
    struct kept *k = &kept[n_kept];
    k->pid = pid;
    path(name, pid, "/stat");
    k->stat = openat(proc, name, O_RDONLY | O_CLOEXEC);
    path(name, pid, "/task/");
    path(digits, pid, "/children");
    strcat(name, digits);
    k->children = openat(proc, name, O_RDONLY | O_CLOEXEC);
    place[pid] = ++n_kept;
    return k;
}

static void read_stat(int is_root) {
    char *at = strrchr(text, ')');
    if (!at || is_root) return;
    at += 4;
    for (int field = 4; field < 14; field++) number(&at);
    sum_cpu += number(&at);
    sum_cpu += number(&at);
    for (int field = 16; field < 20; field++) number(&at);
    sum_threads += number(&at);
    for (int field = 21; field < 24; field++) number(&at);
    sum_rss += number(&at);
}

static int sample(pid_t root) {
    sum_rss = sum_cpu = sum_fds = sum_threads = 0;
    n_found = 0;
    found[n_found++] = root;
    for (int i = 0; i < n_found; i++) {
        struct kept *k = keep(found[i]);
        int n = pread(k->stat, text, 2047, 0);
        if (n <= 0) continue;
        text[n] = 0;
        read_stat(i == 0);
        n = pread(k->children, text, sizeof text - 1, 0);
        if (n > 0) {
            text[n] = 0;
            for (char *at = text; *at;) {
                found[n_found++] = number(&at);
                if (*at == ' ') at++;
            }
        }
        char name[32];
        struct stat told;
        path(name, found[i], "/fd");
        if (i && !fstatat(proc, name, &told, 0)) sum_fds += told.st_size;
    }
    return n_found - 1;
}

int main(int count, char **words) {
    if (count < 3) return 2;
    pid_t root = atoi(words[1]);
    int samples = atoi(words[2]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int processes = sample(root);
    double *cost = calloc(samples, sizeof *cost), sum = 0;
    for (int i = 0; i < samples; i++) {
        double begin = cpu_us();
        sample(root);
        cost[i] = cpu_us() - begin;
        sum += cost[i];
    }
    qsort(cost, samples, sizeof *cost, compare);
    printf("%d %.1f %.1f\n", processes, cost[samples / 2], sum / samples);
    return 0;
}
