// Writing a checkpoint anew: what is refused, what progress says, and that nothing half-written stays.
#include "fixture.h"
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch[] = "/tmp/mlxrt-convert-XXXXXX";
static char destination[64];

static void make_scratch(void) {
    if (destination[0] == '\0') {
        REQUIRE(mkdtemp(scratch) != NULL);
        snprintf(destination, sizeof destination, "%s/copy", scratch);
    }
}

static mlxrt_status convert_to(const char *folder, const mlxrt_convert_options *options) {
    return mlxrt_model_convert(model_folder(), strlen(model_folder()), folder, strlen(folder), options);
}

static int entries(const char *folder) {
    int count = 0;
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return -1;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

typedef struct {
    uint64_t last, total;
    int calls, stop_after;
} watch;

static int32_t on_progress(void *user_data, uint64_t done, uint64_t total) {
    watch *seen = user_data;
    CHECK(done >= seen->last && done <= total);
    seen->last = done;
    seen->total = total;
    return ++seen->calls == seen->stop_after;
}

TEST(what_is_refused) {
    make_scratch();
    mlxrt_convert_options options = {0};
    CHECK_OK(mlxrt_convert_options_default(&options, sizeof options));
    CHECK_INT(options.struct_size, sizeof options);
    CHECK_STATUS(mlxrt_convert_options_default(NULL, sizeof options), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_convert(NULL, 0, destination, strlen(destination), NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_convert(NULL, 4, destination, strlen(destination), NULL), BAD_ARGUMENT);
    CHECK_STATUS(convert_to("", NULL), BAD_ARGUMENT);
    CHECK_STATUS(convert_to("/no/such/folder/copy", NULL), NOT_FOUND);
    CHECK_STATUS(convert_to(scratch, NULL), BAD_ARGUMENT);

    options.quant_mode = 9;
    CHECK_FAILS(convert_to(destination, &options), BAD_ARGUMENT, "quant_mode");
    options.quant_mode = MLXRT_QUANT_AFFINE;
    options.quant_bits = 7;
    CHECK_FAILS(convert_to(destination, &options), BAD_ARGUMENT, "7 bits");
    // The demo model has 4 bits already.
    options.quant_bits = 0;
    CHECK_FAILS(convert_to(destination, &options), BAD_ARGUMENT, "quantised already");
    CHECK_INT(entries(scratch), 0);
}

TEST(a_stop_leaves_nothing) {
    make_scratch();
    watch seen = {.stop_after = 2};
    mlxrt_convert_options options = {
        .struct_size = sizeof options, .progress = on_progress, .user_data = &seen};
    CHECK_STATUS(convert_to(destination, &options), CANCELLED);
    mlxrt_cancel *cancel = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    CHECK_OK(mlxrt_cancel_trigger(cancel));
    options = (mlxrt_convert_options){.struct_size = sizeof options, .cancel = cancel};
    CHECK_STATUS(convert_to(destination, &options), CANCELLED);
    mlxrt_cancel_free(cancel);
    CHECK_INT(entries(scratch), 0);
}

TEST(the_copy_answers) {
    make_scratch();
    watch seen = {0};
    mlxrt_convert_options options = {
        .struct_size = sizeof options, .progress = on_progress, .user_data = &seen};
    REQUIRE_OK(convert_to(destination, &options));
    CHECK(seen.calls > 1 && seen.total > 0 && seen.last == seen.total);
    mlxrt_model *model = NULL;
    REQUIRE_OK(mlxrt_model_load(destination, strlen(destination), NULL, &model));
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    CHECK_OK(mlxrt_model_info(model, &desc));
    CHECK_INT(desc.quant_mode, MLXRT_QUANT_AFFINE);
    CHECK_INT(desc.unused_tensors, 0);
    mlxrt_generate_options generate = {.struct_size = sizeof generate, .max_tokens = 12};
    answer out = {0};
    CHECK_OK(ask(model, "What is the capital of France?", &generate, &out, NULL));
    CHECK_CONTAINS(out.text, "Paris");
    mlxrt_model_free(model);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", scratch);
    CHECK_INT(system(command), 0);
}

int main(void) {
    RUN(what_is_refused);
    RUN(a_stop_leaves_nothing);
    RUN(the_copy_answers);
    return end_of_tests();
}
