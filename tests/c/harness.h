// A few macros to write tests with. A test is a function; a failed CHECK is printed and the test goes on,
// a failed REQUIRE ends it.
#ifndef HARNESS_H
#define HARNESS_H

#include <mlxrt.h>

#include <stdbool.h>
#include <stddef.h>

#define TEST(name) static void name(void)
#define RUN(name) harness_run(#name, name)

#define CHECK(condition) harness_check((condition), __FILE__, __LINE__, #condition)
#define CHECK_INT(found, expected) harness_int(found, expected, __FILE__, __LINE__, #found)
#define CHECK_CONTAINS(text, part) harness_contains(text, part, __FILE__, __LINE__)
// The call's status; on a mismatch the library's message is printed too.
#define CHECK_STATUS(call, name) harness_status((call), MLXRT_STATUS_##name, __FILE__, __LINE__, #call)
#define CHECK_OK(call) CHECK_STATUS(call, OK)
// The call fails with this status, and its message contains the text.
#define CHECK_FAILS(call, name, part)                                                                        \
    do {                                                                                                     \
        CHECK_STATUS(call, name);                                                                            \
        CHECK_CONTAINS(mlxrt_error_message(), part);                                                         \
    } while (0)
#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!CHECK(condition)) {                                                                             \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)
#define REQUIRE_OK(call)                                                                                     \
    do {                                                                                                     \
        if (!CHECK_OK(call)) {                                                                               \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)
// Ends the test; `make test` collects the line.
#define SKIP(why)                                                                                            \
    do {                                                                                                     \
        harness_skip(why);                                                                                   \
        return;                                                                                              \
    } while (0)

void harness_run(const char *name, void (*test)(void));
// The exit status of the program: 0 if all checks held.
int harness_end(void);

bool harness_check(bool holds, const char *file, int line, const char *what);
bool harness_int(long long found, long long expected, const char *file, int line, const char *what);
bool harness_contains(const char *text, const char *part, const char *file, int line);
bool harness_status(int32_t found, int32_t expected, const char *file, int line, const char *what);
void harness_skip(const char *why);

#endif
