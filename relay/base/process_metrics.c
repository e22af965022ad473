// SPDX-License-Identifier: Apache-2.0
#include "relay/base/process_metrics.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void print(FILE *out, const char *name, const char *type, const char *help, double value)
{
    fprintf(out, "# HELP process_%s %s\n# TYPE process_%s %s\nprocess_%s %.15g\n", name, help, name, type, name, value);
}

static void print_cpu(FILE *out)
{
    struct timespec used;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0) {
        print(out, "cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
            (double)used.tv_sec + (double)used.tv_nsec / 1e9);
    }
}

static void print_memory(FILE *out)
{
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return;
    }
    unsigned long long pages;
    unsigned long long resident;
    if (fscanf(file, "%llu %llu", &pages, &resident) == 2) {
        double size = (double)sysconf(_SC_PAGESIZE);
        print(out, "virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", (double)pages * size);
        print(out, "resident_memory_bytes", "gauge", "Resident memory size in bytes.", (double)resident * size);
    }
    fclose(file);
}

static void print_descriptors(FILE *out)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        print(out, "max_fds", "gauge", "Maximum number of open file descriptors.", (double)limit.rlim_cur);
    }
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        return;
    }
    double open = -1; // the directory's own
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        open += entry->d_name[0] != '.';
    }
    closedir(directory);
    print(out, "open_fds", "gauge", "Number of open file descriptors.", open);
}

// Seconds since the epoch at which the machine booted (btime of proc(5)).
static bool boot_time(double *at)
{
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL) {
        return false;
    }
    char line[4096];
    bool found = false;
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        found = sscanf(line, "btime %lf", at) == 1;
    }
    fclose(file);
    return found;
}

// Seconds since the epoch; 0: not known.
static double find_start(void)
{
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL) {
        return 0;
    }
    double start = 0;
    char line[2048];
    double boot;
    const char *after = fgets(line, sizeof(line), file) == NULL ? NULL
                                                                : strrchr(line, ')'); // the name may hold anything
    unsigned long long ticks;
    if (after != NULL && boot_time(&boot) &&
        sscanf(after + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
            &ticks) == 1) {
        start = boot + (double)ticks / (double)sysconf(_SC_CLK_TCK);
    }
    fclose(file);
    return start;
}

// What was found once stays: the kernel's time of the boot moves with each step of the clock, and a start that moves is
// told as a restart.
static void print_start(FILE *out)
{
    static _Atomic double known;
    double start = atomic_load(&known);
    if (start == 0) {
        start = find_start();
        atomic_store(&known, start);
    }
    if (start > 0) {
        print(out, "start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", start);
    }
}

void process_metrics_print(FILE *out)
{
    print_cpu(out);
    print_memory(out);
    print_descriptors(out);
    print_start(out);
}
