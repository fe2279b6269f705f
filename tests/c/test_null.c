// NULL wherever the header does not allow it, and where it does.
#include "fixture.h"
#include "harness.h"

#include <string.h>

static mlxrt_model *const invalid = NULL;

TEST(free_takes_null) {
    mlxrt_model_free(NULL);
    mlxrt_cancel_free(NULL);
}

TEST(no_model) {
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_message message = {string("user"), string("Hello")};
    int32_t id = 1;
    size_t count = 0;
    CHECK_FAILS(mlxrt_model_info(invalid, &desc), BAD_ARGUMENT, "model");
    CHECK_STATUS(mlxrt_model_tokenize(invalid, "a", 1, 0, NULL, 0, &count), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_detokenize(invalid, &id, 1, 0, NULL, 0, &count), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_render_chat(invalid, &message, 1, NULL, NULL, 0, &count), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_generate(invalid, "a", 1, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_generate_ids(invalid, &id, 1, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_chat(invalid, &message, 1, NULL, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
}

TEST(no_place_for_the_output) {
    const mlxrt_model *model = shared_model();
    int32_t id = 1;
    CHECK_STATUS(mlxrt_device_info(MLXRT_DEVICE_CPU, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_memory_active(NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_memory_peak(NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_memory_cache(NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_cancel_new(NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_load(model_folder(), strlen(model_folder()), NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_info(model, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_tokenize(model, "a", 1, 0, NULL, 0, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_detokenize(model, &id, 1, 0, NULL, 0, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_load_options_default(NULL, sizeof(mlxrt_load_options)), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_generate_options_default(NULL, sizeof(mlxrt_generate_options)), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_chat_options_default(NULL, sizeof(mlxrt_chat_options)), BAD_ARGUMENT);
}

TEST(no_cancel_handle) {
    CHECK_FAILS(mlxrt_cancel_trigger(NULL), BAD_ARGUMENT, "cancel");
    CHECK_FAILS(mlxrt_cancel_reset(NULL), BAD_ARGUMENT, "cancel");
}

TEST(null_with_a_length) {
    const mlxrt_model *model = shared_model();
    mlxrt_model *out = NULL;
    mlxrt_message no_content = {string("user"), {NULL, 3}};
    mlxrt_message no_role = {{NULL, 4}, string("Hello")};
    size_t count = 0;
    CHECK_STATUS(mlxrt_model_load(NULL, 3, NULL, &out), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_tokenize(model, NULL, 3, 0, NULL, 0, &count), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_detokenize(model, NULL, 3, 0, NULL, 0, &count), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_generate(model, NULL, 3, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_generate_ids(model, NULL, 3, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_chat(model, NULL, 1, NULL, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_chat(model, &no_content, 1, NULL, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_chat(model, &no_role, 1, NULL, NULL, NULL, NULL, NULL), BAD_ARGUMENT);
    mlxrt_chat_options chat = {.struct_size = sizeof chat, .tools = {NULL, 2}};
    CHECK_STATUS(mlxrt_model_render_chat(model, NULL, 0, &chat, NULL, 0, &count), BAD_ARGUMENT);
    mlxrt_generate_options options = {.struct_size = sizeof options, .stop_token_count = 1};
    CHECK_STATUS(continue_text(model, "a", &options, NULL, NULL), BAD_ARGUMENT);
    options.stop_token_count = 0;
    options.stop_string_count = 1;
    CHECK_STATUS(continue_text(model, "a", &options, NULL, NULL), BAD_ARGUMENT);
    mlxrt_string stop = {NULL, 2};
    options.stop_strings = &stop;
    CHECK_STATUS(continue_text(model, "a", &options, NULL, NULL), BAD_ARGUMENT);
}

TEST(a_buffer_that_is_null_with_a_capacity) {
    const mlxrt_model *model = shared_model();
    size_t count = 0;
    CHECK_STATUS(mlxrt_model_tokenize(model, "Hello", 5, 0, NULL, 8, &count), BAD_ARGUMENT);
}

TEST(null_with_no_length_is_empty_text) {
    const mlxrt_model *model = shared_model();
    size_t count = 9, len = 9;
    CHECK_OK(mlxrt_model_tokenize(model, NULL, 0, 0, NULL, 0, &count));
    CHECK_INT(count, 0);
    CHECK_OK(mlxrt_model_detokenize(model, NULL, 0, 0, NULL, 0, &len));
    CHECK_INT(len, 0);
}

TEST(an_output_handle_is_null_after_a_failure) {
    mlxrt_model *out = (mlxrt_model *)&out;
    CHECK_STATUS(mlxrt_model_load("/nowhere/at/all", 15, NULL, &out), NOT_FOUND);
    CHECK(out == NULL);
}

TEST(generating_needs_no_callback_and_no_result) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 2};
    CHECK_OK(continue_text(shared_model(), "Hello", &options, NULL, NULL));
}

int main(void) {
    RUN(free_takes_null);
    RUN(no_model);
    RUN(no_place_for_the_output);
    RUN(no_cancel_handle);
    RUN(null_with_a_length);
    RUN(a_buffer_that_is_null_with_a_capacity);
    RUN(null_with_no_length_is_empty_text);
    RUN(an_output_handle_is_null_after_a_failure);
    RUN(generating_needs_no_callback_and_no_result);
    return end_of_tests();
}
