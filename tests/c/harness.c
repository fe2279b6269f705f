#include "harness.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const char *current = "";
static int tests = 0;
static int failed_tests = 0;
// Checks may be made on any thread.
static atomic_int failures = 0;

static bool failed(const char *file, int line) {
    failures++;
    const char *slash = strrchr(file, '/');
    fprintf(stderr, "  %s: %s:%d: ", current, slash ? slash + 1 : file, line);
    return false;
}

bool harness_check(bool holds, const char *file, int line, const char *what) {
    if (holds) {
        return true;
    }
    failed(file, line);
    fprintf(stderr, "%s does not hold\n", what);
    return false;
}

bool harness_int(long long found, long long expected, const char *file, int line, const char *what) {
    if (found == expected) {
        return true;
    }
    failed(file, line);
    fprintf(stderr, "%s is %lld, expected %lld\n", what, found, expected);
    return false;
}

bool harness_contains(const char *text, const char *part, const char *file, int line) {
    if (text != NULL && strstr(text, part) != NULL) {
        return true;
    }
    failed(file, line);
    fprintf(stderr, "\"%s\" does not contain \"%s\"\n", text ? text : "(NULL)", part);
    return false;
}

bool harness_status(int32_t found, int32_t expected, const char *file, int line, const char *what) {
    if (found == expected) {
        return true;
    }
    failed(file, line);
    fprintf(stderr, "%s is %s, expected %s", what, mlxrt_status_name(found), mlxrt_status_name(expected));
    if (found != MLXRT_STATUS_OK) {
        fprintf(stderr, ": %s", mlxrt_error_message());
    }
    fprintf(stderr, "\n");
    return false;
}

void harness_skip(const char *why) {
    printf("skipped: %s: %s\n", current, why);
}

void harness_run(const char *name, void (*test)(void)) {
    int before = failures;
    current = name;
    test();
    tests++;
    failed_tests += failures != before;
    printf("%s %s\n", failures == before ? "ok    " : "FAILED", name);
    fflush(stdout);
}

int harness_end(void) {
    printf("%d passed, %d failed\n", tests - failed_tests, failed_tests);
    return failed_tests != 0;
}
