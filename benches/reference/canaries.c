// canaries FUNCTION SECONDS DIRECTORY: the work of childminder's built-in functions in plain C, called
// again and again like `childminder -f SECONDS FUNCTION`. Prints the last answer, the number of
// calls and the CPU time of one call in ms. Written from the facts of DESIGN.md, section 9.
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define STEPS 102400000L
#define BUFFER_BYTES 8192000
#define FILES 1000
#define ROUNDS 1000

static const char *directory;

static void math_int(char *answer) {
    uint64_t value = 0;
    for (uint64_t i = 0; i < STEPS; i++) {
        value += 1;
        value ^= i;
        value <<= i & 15;
        value *= 19;
    }
    sprintf(answer, "%ld", (long)value);
}

static void math_fp(char *answer) {
    double value = 0;
    for (long i = 0; i < STEPS; i++) {
        value += i * i;
        if (i & 1)
            value *= M_E;
        else
            value /= M_PI;
    }
    sprintf(answer, "%f", value);
}

static void string(char *answer) {
    char *buffer = malloc(BUFFER_BYTES);
    for (int i = 0; i < BUFFER_BYTES; i++)
        buffer[i] = i % 101 ? 32 + i % 126 : 0;
    for (int i = 0; i < BUFFER_BYTES - 4; i++)
        if (strcmp(buffer + i, "abc") <= 0)
            strcpy(buffer + i, "abc");
    sprintf(answer, "%zu", strlen(buffer));
    free(buffer);
}

static int ones_of(int i) {
    char name[4096];
    snprintf(name, sizeof name, "%s/probe-XXXXXX", directory);
    FILE *file = fdopen(mkstemp(name), "w+");
    if (!file) {
        perror(name);
        exit(1);
    }
    for (int j = 2; j <= i + 2; j++)
        fprintf(file, "%d\n", i % j);
    rewind(file);
    int ones = 0;
    for (int c; (c = getc(file)) != EOF;)
        ones += c == '1';
    fclose(file);
    unlink(name);
    return ones;
}

static void file(char *answer) {
    int ones = 0;
    for (int i = 0; i < FILES; i++)
        ones += ones_of(i);
    sprintf(answer, "%d", ones);
}

static void memory(char *answer) {
    long sum = 0;
    for (int i = 1; i <= ROUNDS; i++) {
        int32_t *numbers = calloc((size_t)i * 1024, sizeof *numbers);
        for (int j = 0; j < i * 1024; j++)
            numbers[j] = j % i;
        // The compiler must believe that somebody reads it all.
        __asm__ volatile("" : : "r"(numbers) : "memory");
        sum += numbers[i];
        free(numbers);
    }
    sprintf(answer, "%ld", sum);
}

static const struct {
    const char *name;
    void (*call)(char *answer);
} functions[] = {
    {"math-int", math_int}, {"math-fp", math_fp}, {"string", string}, {"file", file}, {"memory", memory},
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu_ms(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    directory = argv[3];
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (strcmp(functions[i].name, argv[1]))
            continue;
        char answer[64];
        double end = now_s() + atof(argv[2]);
        int calls = 0;
        for (; now_s() < end; calls++)
            functions[i].call(answer);
        printf("%s %d %.3f\n", answer, calls, cpu_ms() / calls);
        return 0;
    }
    return 2;
}
