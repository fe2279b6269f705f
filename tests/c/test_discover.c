// Listing models, and loading one by its name in the Hugging Face cache.
#include "fixture.h"
#include "harness.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The last entry of a search, its strings copied.
typedef struct seen {
    int calls;
    int32_t answer;
    mlxrt_cancel *trigger;
    mlxrt_model_entry entry;
    char path[PATH_MAX], id[256], architecture[64], quant_name[64], problem[1024];
} seen;

static void keep(char *to, size_t capacity, mlxrt_string from) {
    snprintf(to, capacity, "%.*s", (int)from.len, from.data);
}

static int32_t note(void *user_data, const mlxrt_model_entry *entry) {
    seen *out = user_data;
    out->calls++;
    out->entry = *entry;
    keep(out->path, sizeof out->path, entry->path);
    keep(out->id, sizeof out->id, entry->id);
    keep(out->architecture, sizeof out->architecture, entry->architecture);
    keep(out->quant_name, sizeof out->quant_name, entry->quant_name);
    keep(out->problem, sizeof out->problem, entry->problem);
    if (out->trigger != NULL) {
        mlxrt_cancel_trigger(out->trigger);
    }
    return out->answer;
}

static mlxrt_status discover(const char *folder, const mlxrt_discover_options *options, seen *out) {
    return mlxrt_discover(folder, folder ? strlen(folder) : 0, options, note, out);
}

TEST(a_model_and_what_is_told_of_it) {
    seen out = {0};
    REQUIRE_OK(discover(copy_of_model(), NULL, &out));
    CHECK_INT(out.calls, 1);
    CHECK_INT(out.entry.struct_size, sizeof(mlxrt_model_entry));
    CHECK(strcmp(out.architecture, "llama") == 0);
    CHECK(strcmp(out.quant_name, "affine") == 0);
    CHECK_INT(out.entry.quant_mode, MLXRT_QUANT_AFFINE);
    CHECK(strcmp(out.id, "") == 0);
    CHECK_INT(out.entry.status, MLXRT_STATUS_OK);
    CHECK_INT(out.entry.problem.len, 0);
    CHECK_INT(out.entry.quant_bits, 4);
    CHECK_INT(out.entry.quant_group, 64);
    CHECK_INT(out.entry.context_length, 1024);
    CHECK(out.entry.weight_bytes > 2000000);
    mlxrt_model *model = NULL;
    CHECK_OK(load(out.path, &model));
    mlxrt_model_free(model);
}

TEST(what_is_broken_is_listed_with_its_problem) {
    const char *folder = copy_of_model();
    seen out = {0};
    write_file(folder, "config.json", "{\"model_type\": \"mamba\"}");
    CHECK_OK(discover(folder, NULL, &out));
    CHECK_INT(out.entry.status, MLXRT_STATUS_UNSUPPORTED);
    CHECK_CONTAINS(out.problem, "known are");
    write_file(folder, "config.json", "{");
    CHECK_OK(discover(folder, NULL, &out));
    CHECK_INT(out.entry.status, MLXRT_STATUS_BAD_MODEL);
    CHECK_CONTAINS(out.problem, "config.json");
    remove_file(folder, "config.json");
    CHECK_OK(discover(folder, NULL, &out));
    CHECK_INT(out.entry.status, MLXRT_STATUS_NOT_FOUND);
    CHECK_INT(out.calls, 3);
}

TEST(arguments) {
    seen out = {0};
    mlxrt_discover_options options = {.struct_size = 8};
    const char *folder = model_folder();
    CHECK_FAILS(discover("/nowhere/at/all", NULL, &out), NOT_FOUND, "/nowhere/at/all");
    CHECK_FAILS(discover("", NULL, &out), BAD_ARGUMENT, "folder is empty");
    CHECK_STATUS(mlxrt_discover(NULL, 3, NULL, note, &out), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_discover("\xff", 1, NULL, note, &out), BAD_ARGUMENT);
    CHECK_FAILS(mlxrt_discover(folder, strlen(folder), NULL, NULL, NULL), BAD_ARGUMENT, "callback");
    CHECK_FAILS(discover(folder, &options, &out), BAD_ARGUMENT, "mlxrt_discover_options: struct_size");
    CHECK_INT(out.calls, 0);
    mlxrt_discover_options zeros = {.struct_size = sizeof zeros};
    memset(&options, 0xff, sizeof options);
    CHECK_OK(mlxrt_discover_options_default(&options, sizeof options));
    CHECK(memcmp(&options, &zeros, sizeof zeros) == 0);
    CHECK_STATUS(mlxrt_discover_options_default(NULL, sizeof options), BAD_ARGUMENT);
}

TEST(stopping_and_cancelling) {
    seen out = {.answer = 1};
    mlxrt_discover_options options = {.struct_size = sizeof options, .include_cache = 1};
    setenv("HF_HUB_CACHE", copy_of_model(), 1);
    CHECK_OK(discover(copy_of_model(), &options, &out));
    CHECK_INT(out.calls, 1);
    out.answer = 0;
    CHECK_OK(discover(copy_of_model(), &options, &out));
    CHECK_INT(out.calls, 3);
    mlxrt_cancel *cancel = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    out.trigger = cancel;
    options.cancel = cancel;
    CHECK_STATUS(discover(copy_of_model(), &options, &out), CANCELLED);
    CHECK_INT(out.calls, 4);
    mlxrt_cancel_free(cancel);
}

TEST(a_cache_that_is_not_there_is_empty) {
    seen out = {0};
    setenv("HF_HUB_CACHE", "/nowhere/at/all", 1);
    CHECK_OK(discover(NULL, NULL, &out));
    CHECK_INT(out.calls, 0);
}

TEST(a_model_by_its_name) {
    char repository[PATH_MAX], refs[PATH_MAX + 8], ref[PATH_MAX + 16], snapshots[PATH_MAX + 16];
    char snapshot[PATH_MAX + 32];
    const char *cache = copy_of_model();
    snprintf(repository, sizeof repository, "%s/models--org--demo", cache);
    snprintf(refs, sizeof refs, "%s/refs", repository);
    snprintf(ref, sizeof ref, "%s/main", refs);
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", repository);
    snprintf(snapshot, sizeof snapshot, "%s/c0ffee", snapshots);
    REQUIRE(mkdir(repository, 0700) == 0 && mkdir(refs, 0700) == 0 && mkdir(snapshots, 0700) == 0);
    REQUIRE(symlink(model_folder(), snapshot) == 0);
    write_file(refs, "main", "c0ffee");
    remove_file(cache, "config.json");
    remove_file(cache, "model.safetensors");
    setenv("HF_HUB_CACHE", cache, 1);

    seen out = {0};
    mlxrt_model *model = NULL;
    CHECK_OK(discover(NULL, NULL, &out));
    CHECK_INT(out.calls, 1);
    CHECK(strcmp(out.id, "org/demo") == 0);
    CHECK_OK(load(out.id, &model));
    mlxrt_model_free(model);
    CHECK_OK(load("org/demo@c0ffee", &model));
    mlxrt_model_free(model);
    CHECK_FAILS(load("org/other", &model), NOT_FOUND, "not in the Hugging Face cache");

    unlink(snapshot);
    unlink(ref);
    rmdir(snapshots);
    rmdir(refs);
    rmdir(repository);
}

TEST(a_download_that_cannot_be) {
    mlxrt_model *model = NULL;
    mlxrt_load_options options = {.struct_size = sizeof options, .download = 1};
    setenv("HF_HUB_CACHE", copy_of_model(), 1);
    setenv("HF_ENDPOINT", "http://127.0.0.1:9", 1); // nobody listens there
    mlxrt_status status = mlxrt_model_load("org/other", 9, &options, &model);
    // Without and with Cargo feature `hub`.
    CHECK(status == MLXRT_STATUS_UNSUPPORTED || status == MLXRT_STATUS_NETWORK);
    CHECK_CONTAINS(mlxrt_error_message(), "org/other");
    CHECK(model == NULL);
}

int main(void) {
    RUN(a_model_and_what_is_told_of_it);
    RUN(what_is_broken_is_listed_with_its_problem);
    RUN(arguments);
    RUN(stopping_and_cancelling);
    RUN(a_cache_that_is_not_there_is_empty);
    RUN(a_model_by_its_name);
    RUN(a_download_that_cannot_be);
    return end_of_tests();
}
