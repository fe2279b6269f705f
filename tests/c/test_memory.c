// Counters and limits, and that a model gives back all it took.
#include "fixture.h"
#include "harness.h"

#include <string.h>

static uint64_t active(void) {
    uint64_t bytes = UINT64_MAX;
    CHECK_OK(mlxrt_memory_active(&bytes));
    return bytes;
}

// The active bytes once nothing is under way any more.
static uint64_t idle_active(void) {
    sleep_ms(50);
    return active();
}

static uint64_t peak(void) {
    uint64_t bytes = 0;
    CHECK_OK(mlxrt_memory_peak(&bytes));
    return bytes;
}

// The engine's thread may give memory back a moment after the call has returned.
static void check_active_becomes(uint64_t expected) {
    for (int i = 0; i < 2000 && active() != expected; i++) {
        sleep_ms(1);
    }
    CHECK_INT(active(), expected);
}

TEST(a_model_takes_its_weights_and_gives_them_back) {
    uint64_t before = active();
    mlxrt_model *model = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_load_options options = {.struct_size = sizeof options, .no_mmap = 1};
    REQUIRE_OK(mlxrt_model_load(model_folder(), strlen(model_folder()), &options, &model));
    REQUIRE_OK(mlxrt_model_info(model, &desc));
    CHECK(active() >= before + desc.weight_bytes);
    mlxrt_model_free(model);
    CHECK_INT(active(), before);
}

TEST(an_answer_gives_its_cache_back) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 30, .ignore_end = 1};
    shared_model();
    uint64_t before = idle_active();
    for (int i = 0; i < 5; i++) {
        CHECK_OK(continue_text(shared_model(), "Hello", &options, NULL, NULL));
        check_active_becomes(before);
    }
}

TEST(loading_generating_and_freeing_again_and_again) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 5, .ignore_end = 1};
    uint64_t before = idle_active();
    for (int i = 0; i < 4; i++) {
        mlxrt_model *model = NULL;
        REQUIRE_OK(load(model_folder(), &model));
        CHECK_OK(continue_text(model, "Hello", &options, NULL, NULL));
        mlxrt_model_free(model);
        check_active_becomes(before);
    }
}

TEST(a_failed_load_keeps_nothing) {
    uint64_t before = idle_active();
    mlxrt_model *model = NULL;
    const char *folder = copy_of_model();
    replace_in_file(folder, "config.json", "\"num_hidden_layers\": 6", "\"num_hidden_layers\": 9");
    CHECK_STATUS(load(folder, &model), BAD_MODEL);
    CHECK_INT(active(), before);
}

TEST(the_peak_starts_anew) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 3};
    CHECK_OK(continue_text(shared_model(), "Hello", &options, NULL, NULL));
    uint64_t high = peak();
    CHECK(high >= active());
    CHECK_OK(mlxrt_memory_reset_peak());
    CHECK(peak() <= high);
    CHECK_OK(continue_text(shared_model(), "Hello", &options, NULL, NULL));
    CHECK(peak() >= active());
}

TEST(limits_tell_their_previous_value) {
    uint64_t original = 0, previous = 0;
    CHECK_OK(mlxrt_memory_set_limit(1ull << 40, &original));
    CHECK_OK(mlxrt_memory_set_limit(1ull << 39, &previous));
    CHECK_INT(previous, 1ll << 40);
    CHECK_OK(mlxrt_memory_set_limit(original, NULL));
    CHECK_OK(mlxrt_memory_set_limit(original, &previous));
    CHECK_INT(previous, original);
}

// MLX's CPU build accepts and ignores these two.
TEST(limits_without_effect_here_are_accepted) {
    uint64_t original = 0, wired = 0;
    CHECK_OK(mlxrt_memory_set_cache_limit(0, &original));
    CHECK_OK(mlxrt_memory_set_cache_limit(original, NULL));
    CHECK_OK(mlxrt_memory_set_wired_limit(0, &wired));
    CHECK_OK(mlxrt_memory_set_wired_limit(wired, NULL));
}

TEST(kept_memory_can_be_given_back) {
    uint64_t kept = 1;
    CHECK_OK(mlxrt_memory_clear_cache());
    CHECK_OK(mlxrt_memory_cache(&kept));
    CHECK_INT(kept, 0);
}

int main(void) {
    RUN(a_model_takes_its_weights_and_gives_them_back);
    RUN(an_answer_gives_its_cache_back);
    RUN(loading_generating_and_freeing_again_and_again);
    RUN(a_failed_load_keeps_nothing);
    RUN(the_peak_starts_anew);
    RUN(limits_tell_their_previous_value);
    RUN(limits_without_effect_here_are_accepted);
    RUN(kept_memory_can_be_given_back);
    return end_of_tests();
}
