// Values out of range, text that is no UTF-8, prompts that are empty or too long.
#include "fixture.h"
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char BAD_TEXT[] = "abc\xff"
                               "def";

// Generates two tokens with these options.
static mlxrt_status try_options(mlxrt_generate_options options) {
    options.struct_size = sizeof options;
    options.max_tokens = 2;
    return continue_text(shared_model(), "Hello", &options, NULL, NULL);
}

TEST(text_that_is_not_utf8) {
    const mlxrt_model *model = shared_model();
    size_t count = 0;
    mlxrt_message bad_content = {string("user"), string(BAD_TEXT)};
    mlxrt_message bad_role = {string(BAD_TEXT), string("Hello")};
    mlxrt_model *out = NULL;
    CHECK_FAILS(mlxrt_model_tokenize(model, BAD_TEXT, 7, 0, NULL, 0, &count), BAD_ARGUMENT, "UTF-8");
    CHECK_FAILS(continue_text(model, BAD_TEXT, NULL, NULL, NULL), BAD_ARGUMENT, "offset 3");
    CHECK_FAILS(mlxrt_model_chat(model, &bad_content, 1, NULL, NULL, NULL, NULL, NULL), BAD_ARGUMENT,
                "UTF-8");
    CHECK_FAILS(mlxrt_model_chat(model, &bad_role, 1, NULL, NULL, NULL, NULL, NULL), BAD_ARGUMENT, "UTF-8");
    CHECK_FAILS(load(BAD_TEXT, &out), BAD_ARGUMENT, "UTF-8");
    // A character that is cut in the middle.
    CHECK_FAILS(mlxrt_model_tokenize(model, "caf\xc3", 4, 0, NULL, 0, &count), BAD_ARGUMENT, "UTF-8");
    mlxrt_string stop = string(BAD_TEXT);
    CHECK_FAILS(try_options((mlxrt_generate_options){.stop_strings = &stop, .stop_string_count = 1}),
                BAD_ARGUMENT, "UTF-8");
}

TEST(text_with_a_nul_inside_is_text) {
    size_t count = 0;
    CHECK_OK(mlxrt_model_tokenize(shared_model(), "a\0b", 3, 0, NULL, 0, &count));
    CHECK(count >= 3);
}

TEST(an_empty_prompt) {
    const mlxrt_model *model = shared_model();
    CHECK_FAILS(continue_text(model, "", NULL, NULL, NULL), BAD_ARGUMENT, "empty");
    CHECK_STATUS(mlxrt_model_generate(model, NULL, 0, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_FAILS(mlxrt_model_generate_ids(model, NULL, 0, NULL, NULL, NULL, NULL), BAD_ARGUMENT, "empty");
}

TEST(token_ids_out_of_range) {
    const mlxrt_model *model = shared_model();
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(mlxrt_model_info(model, &desc));
    const int32_t wrong[] = {-1, (int32_t)desc.vocab_size, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int32_t ids[] = {5, wrong[i]};
        size_t len = 0;
        CHECK_STATUS(mlxrt_model_generate_ids(model, ids, 2, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
        CHECK_STATUS(mlxrt_model_detokenize(model, ids, 2, 0, NULL, 0, &len), BAD_ARGUMENT);
        CHECK_STATUS(try_options((mlxrt_generate_options){.stop_tokens = ids, .stop_token_count = 2}),
                     BAD_ARGUMENT);
    }
    CHECK_FAILS(mlxrt_model_generate_ids(model, wrong, 1, NULL, NULL, NULL, NULL), BAD_ARGUMENT, "-1");
}

TEST(options_that_are_not_numbers_or_out_of_range) {
    typedef mlxrt_generate_options options;
    CHECK_FAILS(try_options((options){.temperature = NAN}), BAD_ARGUMENT, "temperature");
    CHECK_FAILS(try_options((options){.temperature = -1}), BAD_ARGUMENT, "temperature");
    CHECK_FAILS(try_options((options){.temperature = INFINITY}), BAD_ARGUMENT, "temperature");
    CHECK_FAILS(try_options((options){.temperature = 1, .top_p = NAN}), BAD_ARGUMENT, "top_p");
    CHECK_FAILS(try_options((options){.temperature = 1, .top_p = 1.5f}), BAD_ARGUMENT, "top_p");
    CHECK_FAILS(try_options((options){.temperature = 1, .top_p = -0.5f}), BAD_ARGUMENT, "top_p");
    CHECK_FAILS(try_options((options){.temperature = 1, .min_p = NAN}), BAD_ARGUMENT, "min_p");
    CHECK_FAILS(try_options((options){.temperature = 1, .min_p = 2}), BAD_ARGUMENT, "min_p");
    CHECK_FAILS(try_options((options){.repetition_penalty = NAN}), BAD_ARGUMENT, "repetition_penalty");
    CHECK_FAILS(try_options((options){.repetition_penalty = -1}), BAD_ARGUMENT, "repetition_penalty");
}

TEST(options_at_their_limits_are_fine) {
    typedef mlxrt_generate_options options;
    CHECK_OK(try_options((options){.temperature = 100, .seed = 1}));
    CHECK_OK(try_options((options){.temperature = 1e-6f, .seed = 1}));
    CHECK_OK(try_options((options){.temperature = 1, .top_k = UINT32_MAX, .seed = 1}));
    CHECK_OK(try_options((options){.temperature = 1, .top_p = 1, .min_p = 1, .seed = UINT64_MAX}));
    CHECK_OK(try_options((options){.temperature = 1, .top_p = 1e-9f, .seed = 1}));
    CHECK_OK(try_options((options){.repetition_penalty = 2, .repetition_window = UINT32_MAX}));
}

TEST(load_options_out_of_range) {
    mlxrt_model *model = NULL;
    const char *folder = model_folder();
    mlxrt_load_options device = {.struct_size = sizeof device, .device = 9};
    mlxrt_load_options dtype = {.struct_size = sizeof dtype, .dtype = -2};
    CHECK_FAILS(mlxrt_model_load(folder, strlen(folder), &device, &model), BAD_ARGUMENT, "device");
    mlxrt_load_options reserved = {.struct_size = sizeof reserved, .reserved = 1};
    CHECK_FAILS(mlxrt_model_load(folder, strlen(folder), &dtype, &model), BAD_ARGUMENT, "dtype");
    CHECK_FAILS(mlxrt_model_load(folder, strlen(folder), &reserved, &model), BAD_ARGUMENT, "reserved");
    mlxrt_load_options threads = {.struct_size = sizeof threads, .threads = 1025};
    CHECK_FAILS(mlxrt_model_load(folder, strlen(folder), &threads, &model), BAD_ARGUMENT, "threads is 1025");
}

TEST(a_prompt_longer_than_the_context) {
    const mlxrt_model *model = shared_model();
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_generate_result result = {.struct_size = sizeof result, .prompt_tokens = 77};
    REQUIRE_OK(mlxrt_model_info(model, &desc));
    size_t count = desc.context_length + 1;
    int32_t *ids = malloc(count * sizeof *ids);
    REQUIRE(ids != NULL);
    for (size_t i = 0; i < count; i++) {
        ids[i] = 5;
    }
    CHECK_STATUS(mlxrt_model_generate_ids(model, ids, count, NULL, NULL, NULL, &result), CONTEXT_FULL);
    CHECK(strlen(mlxrt_error_message()) > 0);
    CHECK_STATUS(mlxrt_model_generate_ids(model, ids, count - 1, NULL, NULL, NULL, &result), CONTEXT_FULL);
    CHECK_INT(result.prompt_tokens, 77);
    free(ids);
}

TEST(a_conversation_without_messages) {
    mlxrt_status status = mlxrt_model_chat(shared_model(), NULL, 0, NULL, NULL, NULL, NULL, NULL);
    CHECK_INT(status, MLXRT_STATUS_BAD_ARGUMENT);
}

int main(void) {
    RUN(text_that_is_not_utf8);
    RUN(text_with_a_nul_inside_is_text);
    RUN(an_empty_prompt);
    RUN(token_ids_out_of_range);
    RUN(options_that_are_not_numbers_or_out_of_range);
    RUN(options_at_their_limits_are_fine);
    RUN(load_options_out_of_range);
    RUN(a_prompt_longer_than_the_context);
    RUN(a_conversation_without_messages);
    return end_of_tests();
}
