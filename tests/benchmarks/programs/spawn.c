/* spawn COUNT AT_ONCE PROGRAM [ARGUMENT ...]

   Runs a program COUNT times, AT_ONCE at a time, and prints last how many a second that were: the
   most that this machine gives to anything that starts processes. */

#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    int count = atoi(argv[1]), at_once = atoi(argv[2]), begun = 0, ended = 0;
    double start = now();
    while (ended < count) {
        while (begun < count && begun - ended < at_once) {
            pid_t pid;
            if (posix_spawn(&pid, argv[3], NULL, NULL, argv + 3, environ))
                return 1;
            begun++;
        }
        int status;
        if (wait(&status) < 0 || status)
            return 1;
        ended++;
    }
    printf("%f\n", count / (now() - start));
    return 0;
}
