#include "fixture.h"
#include "harness.h"

#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_COPIES = 64 };
static char copies[MAX_COPIES][PATH_MAX];
static int copy_count = 0;
static mlxrt_model *shared = NULL;

// The tests cannot go on: the machine is at fault, not the library.
static void give_up(const char *what) {
    perror(what);
    exit(2);
}

const char *model_folder(void) {
    const char *folder = getenv("MLXRT_TEST_MODEL");
    if (folder == NULL) {
        fprintf(stderr, "MLXRT_TEST_MODEL must name the folder of the demo model\n");
        exit(2);
    }
    return folder;
}

bool short_run(void) {
    return getenv("MLXRT_TEST_SHORT") != NULL;
}

mlxrt_status load(const char *folder, mlxrt_model **out) {
    return mlxrt_model_load(folder, strlen(folder), NULL, out);
}

mlxrt_model *shared_model(void) {
    if (shared == NULL && load(model_folder(), &shared) != MLXRT_STATUS_OK) {
        fprintf(stderr, "the demo model does not load: %s\n", mlxrt_error_message());
        exit(1);
    }
    return shared;
}

static void path_of(char path[PATH_MAX], const char *folder, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX) {
        give_up(name);
    }
}

static void remove_folder(const char *folder) {
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[PATH_MAX];
        path_of(path, folder, entry->d_name);
        unlink(path); // fails for "." and ".."
    }
    if (dir != NULL) {
        closedir(dir);
    }
    rmdir(folder);
}

int end_of_tests(void) {
    mlxrt_model_free(shared);
    shared = NULL;
    while (copy_count > 0) {
        remove_folder(copies[--copy_count]);
    }
    return harness_end();
}

static char *read_whole(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        give_up(path);
    }
    long size = ftell(file);
    char *content = size < 0 ? NULL : malloc((size_t)size + 1);
    rewind(file);
    if (content == NULL || fread(content, 1, (size_t)size, file) != (size_t)size) {
        give_up(path);
    }
    fclose(file);
    content[size] = '\0';
    *len = (size_t)size;
    return content;
}

static void write_whole(const char *path, const char *content, size_t len) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(content, 1, len, file) != len || fclose(file) != 0) {
        give_up(path);
    }
}

const char *copy_of_model(void) {
    const char *base = getenv("TMPDIR");
    if (copy_count == MAX_COPIES) {
        fprintf(stderr, "more than %d copies of the model\n", MAX_COPIES);
        exit(2);
    }
    char *folder = copies[copy_count++];
    path_of(folder, base ? base : "/tmp", "mlxrt-test-XXXXXX");
    DIR *dir = mkdtemp(folder) == NULL ? NULL : opendir(model_folder());
    if (dir == NULL) {
        give_up(folder);
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        char from[PATH_MAX], to[PATH_MAX];
        size_t len = 0;
        path_of(from, model_folder(), entry->d_name);
        path_of(to, folder, entry->d_name);
        char *content = read_whole(from, &len);
        write_whole(to, content, len);
        free(content);
    }
    closedir(dir);
    return folder;
}

void write_file(const char *folder, const char *name, const char *content) {
    char path[PATH_MAX];
    path_of(path, folder, name);
    write_whole(path, content, strlen(content));
}

void remove_file(const char *folder, const char *name) {
    char path[PATH_MAX];
    path_of(path, folder, name);
    if (unlink(path) != 0) {
        give_up(path);
    }
}

void truncate_file(const char *folder, const char *name, size_t bytes) {
    char path[PATH_MAX];
    path_of(path, folder, name);
    if (truncate(path, (off_t)bytes) != 0) {
        give_up(path);
    }
}

void replace_in_file(const char *folder, const char *name, const char *from, const char *to) {
    char path[PATH_MAX];
    size_t len = 0;
    path_of(path, folder, name);
    char *content = read_whole(path, &len);
    char *place = strstr(content, from);
    if (place == NULL) {
        fprintf(stderr, "%s: no %s in it\n", path, from);
        exit(2);
    }
    size_t head = (size_t)(place - content);
    char *changed = malloc(len + strlen(to) + 1);
    if (changed == NULL) {
        give_up(path);
    }
    int size = sprintf(changed, "%.*s%s%s", (int)head, content, to, place + strlen(from));
    write_whole(path, changed, (size_t)size);
    free(changed);
    free(content);
}

bool is_utf8(const char *text, size_t len) {
    const unsigned char *at = (const unsigned char *)text, *end = at + len;
    while (at < end) {
        unsigned first = *at++;
        int more = first < 0x80 ? 0 : first >> 5 == 6 ? 1 : first >> 4 == 14 ? 2 : first >> 3 == 30 ? 3 : -1;
        uint32_t code = more > 0 ? first & (0x3fu >> more) : first;
        if (more < 0 || end - at < more) {
            return false;
        }
        for (int i = 0; i < more; i++, at++) {
            if (*at >> 6 != 2) {
                return false;
            }
            code = code << 6 | (*at & 0x3fu);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
            return false;
        }
    }
    return true;
}

int32_t collect(void *user_data, const mlxrt_token *token) {
    answer *out = user_data;
    if (out == NULL) {
        return 0;
    }
    out->calls++;
    out->broken += token->struct_size != sizeof *token || !is_utf8(token->text, token->text_len);
    if (token->id >= 0 && out->id_count < sizeof out->ids / sizeof *out->ids) {
        out->ids[out->id_count++] = token->id;
    }
    if (out->len + token->text_len < sizeof out->text) {
        memcpy(out->text + out->len, token->text, token->text_len);
        out->len += token->text_len;
        out->text[out->len] = '\0';
    }
    return out->stop_after != 0 && out->calls >= out->stop_after;
}

mlxrt_string string(const char *text) {
    return (mlxrt_string){text, strlen(text)};
}

mlxrt_status ask(const mlxrt_model *model, const char *question, const mlxrt_generate_options *options,
                 answer *out, mlxrt_generate_result *result) {
    mlxrt_message message = {string("user"), string(question)};
    return mlxrt_model_chat(model, &message, 1, NULL, options, out ? collect : NULL, out, result);
}

mlxrt_status continue_text(const mlxrt_model *model, const char *text, const mlxrt_generate_options *options,
                           answer *out, mlxrt_generate_result *result) {
    return mlxrt_model_generate(model, text, strlen(text), options, out ? collect : NULL, out, result);
}

void sleep_ms(unsigned milliseconds) {
    struct timespec time = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
}
