/* latency COUNT: fork, exec and wait of /bin/true; prints the seconds of each. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    int count = atoi(argv[1]);
    double *taken = calloc(count, sizeof *taken);
    for (int i = 0; i < count; i++) {
        double start = now();
        pid_t pid = fork();
        if (pid == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
            return 1;
        taken[i] = now() - start;
    }
    for (int i = 0; i < count; i++)
        printf("%.9f\n", taken[i]);
    return 0;
}
