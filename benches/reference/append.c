// append WRITERS ROWS FILE: that many processes each append that many rows of 480 bytes to one file, and
// for each row open it, take an open-file-description lock on it, write once, unlock and close it: what
// one short job does at the least. Prints rows per second.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 480 };

static void set_lock(int fd, short type, int command)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET };
    while (fcntl(fd, command, &lock) < 0)
        if (errno != EINTR)
            exit(3);
}

static void write_rows(int writer, int rows, const char *file)
{
    char row[LENGTH + 1];
    for (int i = 0; i < rows; i++) {
        int begin = snprintf(row, sizeof row, "w%04d,r%06d,", writer, i);
        memset(row + begin, 'x', LENGTH - begin - 1);
        row[LENGTH - 1] = '\n';
        int fd = open(file, O_RDWR | O_APPEND | O_CLOEXEC);
        if (fd < 0)
            exit(3);
        set_lock(fd, F_WRLCK, F_OFD_SETLKW);
        if (write(fd, row, LENGTH) != LENGTH)
            exit(3);
        set_lock(fd, F_UNLCK, F_OFD_SETLK);
        close(fd);
    }
    _exit(0);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int writers = atoi(argv[1]), rows = atoi(argv[2]), gate[2], failed = 0, status;
    close(open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0644));
    if (pipe(gate))
        return 3;
    for (int i = 0; i < writers; i++)
        if (!fork()) {
            char byte;
            close(gate[1]);
            // All begin when the gate is closed.
            if (read(gate[0], &byte, 1) != 0)
                _exit(3);
            write_rows(i, rows, argv[3]);
        }
    close(gate[0]);
    usleep(300000);
    double begun = now();
    close(gate[1]);
    while (wait(&status) > 0)
        failed |= status;
    printf("%.0f\n", (double)writers * rows / (now() - begun));
    return failed != 0;
}
