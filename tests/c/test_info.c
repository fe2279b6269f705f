// What a model tells of itself, loading with options, and its progress.
#include "fixture.h"
#include "harness.h"

#include <string.h>

static mlxrt_status load_with(mlxrt_load_options options, mlxrt_model **out) {
    options.struct_size = sizeof options;
    return mlxrt_model_load(model_folder(), strlen(model_folder()), &options, out);
}

TEST(the_numbers_of_the_demo_model) {
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(mlxrt_model_info(shared_model(), &desc));
    CHECK(strcmp(desc.architecture, "llama") == 0);
    CHECK_INT(desc.vocab_size, 1024);
    CHECK_INT(desc.num_layers, 6);
    CHECK_INT(desc.hidden_size, 256);
    CHECK_INT(desc.num_heads, 4);
    CHECK_INT(desc.num_kv_heads, 2);
    CHECK_INT(desc.head_dim, 64);
    CHECK_INT(desc.context_length, 1024);
    CHECK_INT(desc.quant_bits, 4);
    CHECK_INT(desc.quant_group, 64);
    CHECK_INT(desc.has_chat_template, 1);
    // Tied embedding and, in each layer, q and o, k and v, three matrices of the MLP and two norms; a norm.
    CHECK_INT(desc.parameters,
              1024 * 256 + 6 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 704 * 256 + 2 * 256) + 256);
    CHECK(desc.weight_bytes > desc.parameters / 2);
}

TEST(device_and_type_are_those_in_use) {
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(mlxrt_model_info(shared_model(), &desc));
    CHECK(desc.device == MLXRT_DEVICE_CPU || desc.device == MLXRT_DEVICE_GPU);
    CHECK(desc.dtype != MLXRT_DTYPE_AUTO);
    if (desc.device == MLXRT_DEVICE_CPU) {
        CHECK_INT(desc.dtype, MLXRT_DTYPE_FLOAT32);
    }
}

TEST(every_type_can_be_asked_for) {
    // MLX's CPU build is slow with 16 bits.
    int32_t last = short_run() ? MLXRT_DTYPE_FLOAT32 : MLXRT_DTYPE_BFLOAT16;
    for (int32_t dtype = MLXRT_DTYPE_FLOAT32; dtype <= last; dtype++) {
        mlxrt_model *model = NULL;
        mlxrt_model_desc desc = {.struct_size = sizeof desc};
        mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 12};
        answer out = {0};
        REQUIRE_OK(load_with((mlxrt_load_options){.device = MLXRT_DEVICE_CPU, .dtype = dtype}, &model));
        CHECK_OK(mlxrt_model_info(model, &desc));
        CHECK_INT(desc.dtype, dtype);
        CHECK_INT(desc.device, MLXRT_DEVICE_CPU);
        CHECK_OK(ask(model, "What is the capital of France?", &options, &out, NULL));
        CHECK_CONTAINS(out.text, "Paris");
        mlxrt_model_free(model);
    }
}

// Mapped weights are not counted: the system may take their memory back at any time.
TEST(weights_in_memory_of_our_own) {
    mlxrt_model *model = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 12};
    answer mapped = {0}, own = {0};
    uint64_t active = 0;
    CHECK_OK(ask(shared_model(), "What is the capital of France?", &options, &mapped, NULL));
    REQUIRE_OK(load_with((mlxrt_load_options){.no_mmap = 1}, &model));
    CHECK_OK(mlxrt_model_info(model, &desc));
    CHECK_OK(mlxrt_memory_active(&active));
    CHECK(active >= desc.weight_bytes);
    CHECK_OK(ask(model, "What is the capital of France?", &options, &own, NULL));
    CHECK(strcmp(mapped.text, own.text) == 0);
    mlxrt_model_free(model);
}

TEST(float_arithmetic_on_one_thread) {
    mlxrt_model *model = NULL;
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 12};
    answer exact = {0};
    REQUIRE_OK(load_with((mlxrt_load_options){.exact = 1, .threads = 1}, &model));
    CHECK_OK(ask(model, "What is the capital of France?", &options, &exact, NULL));
    CHECK_CONTAINS(exact.text, "Paris");
    mlxrt_model_free(model);
}

TEST(a_shorter_context) {
    mlxrt_model *model = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 100, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    REQUIRE_OK(load_with((mlxrt_load_options){.context_length = 24}, &model));
    CHECK_OK(mlxrt_model_info(model, &desc));
    CHECK_INT(desc.context_length, 24);
    CHECK_OK(continue_text(model, "Once upon a time", &options, NULL, &result));
    CHECK_INT(result.finish, MLXRT_FINISH_CONTEXT);
    CHECK_INT(result.prompt_tokens + result.generated_tokens, 24);
    mlxrt_model_free(model);
}

typedef struct progress {
    uint64_t calls, done, total;
    bool went_back;
    int32_t answer;
} progress;

static int32_t note_progress(void *user_data, uint64_t done, uint64_t total) {
    progress *seen = user_data;
    seen->calls++;
    seen->went_back |= done < seen->done || done > total;
    seen->done = done;
    seen->total = total;
    return seen->answer;
}

TEST(progress_ends_at_the_total) {
    mlxrt_model *model = NULL;
    progress seen = {0};
    REQUIRE_OK(load_with((mlxrt_load_options){.progress = note_progress, .user_data = &seen}, &model));
    mlxrt_model_free(model);
    CHECK(seen.calls > 0 && !seen.went_back);
    CHECK_INT(seen.done, seen.total);
    CHECK(seen.total > 2000000);
}

TEST(progress_may_stop_loading) {
    mlxrt_model *model = (mlxrt_model *)&model;
    progress seen = {.answer = 1};
    CHECK_STATUS(load_with((mlxrt_load_options){.progress = note_progress, .user_data = &seen}, &model),
                 CANCELLED);
    CHECK(model == NULL);
    CHECK_INT(seen.calls, 1);
}

int main(void) {
    RUN(the_numbers_of_the_demo_model);
    RUN(device_and_type_are_those_in_use);
    RUN(every_type_can_be_asked_for);
    RUN(weights_in_memory_of_our_own);
    RUN(float_arithmetic_on_one_thread);
    RUN(a_shorter_context);
    RUN(progress_ends_at_the_total);
    RUN(progress_may_stop_loading);
    return end_of_tests();
}
