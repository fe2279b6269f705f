// What the tests share: the demo model, broken copies of it, and the collecting of answers.
#ifndef FIXTURE_H
#define FIXTURE_H

#include <mlxrt.h>

#include <stdbool.h>
#include <stddef.h>

// The folder of the demo model, from the environment.
const char *model_folder(void);

// Whether to generate less: valgrind is fifty times slower, and the plain run does the whole.
bool short_run(void);

// The demo model, loaded at first use. Freed by end_of_tests.
mlxrt_model *shared_model(void);

// Frees the shared model, deletes the copies and gives the program's exit status.
int end_of_tests(void);

// Loads from a folder with default options; `*out` is the model or NULL.
mlxrt_status load(const char *folder, mlxrt_model **out);

// A copy of the demo model in a folder of its own, to be spoiled. The string lives until end_of_tests.
const char *copy_of_model(void);
void write_file(const char *folder, const char *name, const char *content);
void remove_file(const char *folder, const char *name);
// Keeps the first bytes of a file only.
void truncate_file(const char *folder, const char *name, size_t bytes);
// Puts `to` in place of the first `from` of a text file, which must be there.
void replace_in_file(const char *folder, const char *name, const char *from, const char *to);

// An answer as a callback collects it.
typedef struct answer {
    char text[16384]; // NUL-terminated
    size_t len;
    int32_t ids[2048];
    size_t id_count;
    size_t calls;
    size_t broken;     // pieces that were not whole UTF-8, or had another size
    size_t stop_after; // calls after which the callback asks to stop, 0: never
} answer;

// The callback; user_data is an answer.
int32_t collect(void *user_data, const mlxrt_token *token);

bool is_utf8(const char *text, size_t len);

// Puts one user message to the model. Any pointer but model and question may be NULL.
mlxrt_status ask(const mlxrt_model *model, const char *question, const mlxrt_generate_options *options,
                 answer *out, mlxrt_generate_result *result);
// Continues a text.
mlxrt_status continue_text(const mlxrt_model *model, const char *text, const mlxrt_generate_options *options,
                           answer *out, mlxrt_generate_result *result);

mlxrt_string string(const char *text);
void sleep_ms(unsigned milliseconds);

#endif
