// Handles that were freed, are of another kind or were never given out.
#include "fixture.h"
#include "harness.h"

#include <stdint.h>
#include <string.h>

TEST(a_freed_model_is_recognised) {
    mlxrt_model *model = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_message message = {string("user"), string("Hello")};
    size_t count = 0;
    REQUIRE_OK(load(model_folder(), &model));
    mlxrt_model_free(model);
    CHECK_FAILS(mlxrt_model_info(model, &desc), BAD_ARGUMENT, "freed");
    CHECK_FAILS(mlxrt_model_tokenize(model, "a", 1, 0, NULL, 0, &count), BAD_ARGUMENT, "freed");
    CHECK_FAILS(continue_text(model, "a", NULL, NULL, NULL), BAD_ARGUMENT, "freed");
    CHECK_FAILS(mlxrt_model_chat(model, &message, 1, NULL, NULL, NULL, NULL, NULL), BAD_ARGUMENT, "freed");
    mlxrt_model_free(model);
}

TEST(a_new_model_does_not_get_an_old_handle) {
    mlxrt_model *first = NULL, *second = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(load(model_folder(), &first));
    mlxrt_model_free(first);
    REQUIRE_OK(load(model_folder(), &second));
    CHECK(first != second);
    CHECK_STATUS(mlxrt_model_info(first, &desc), BAD_ARGUMENT);
    mlxrt_model_free(first); // is not the second's end
    CHECK_OK(mlxrt_model_info(second, &desc));
    mlxrt_model_free(second);
}

TEST(an_invented_model) {
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    int number = 0;
    CHECK_STATUS(mlxrt_model_info((const mlxrt_model *)&number, &desc), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_info((const mlxrt_model *)(uintptr_t)1, &desc), BAD_ARGUMENT);
    mlxrt_model_free((mlxrt_model *)&number);
}

TEST(a_freed_cancel_handle_is_recognised) {
    mlxrt_cancel *cancel = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    CHECK_OK(mlxrt_cancel_trigger(cancel));
    CHECK_OK(mlxrt_cancel_reset(cancel));
    mlxrt_cancel_free(cancel);
    CHECK_FAILS(mlxrt_cancel_trigger(cancel), BAD_ARGUMENT, "freed");
    CHECK_FAILS(mlxrt_cancel_reset(cancel), BAD_ARGUMENT, "freed");
    mlxrt_cancel_free(cancel);
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 1, .cancel = cancel};
    CHECK_FAILS(continue_text(shared_model(), "a", &options, NULL, NULL), BAD_ARGUMENT, "freed");
    mlxrt_load_options load_options = {.struct_size = sizeof load_options, .cancel = cancel};
    mlxrt_model *model = NULL;
    CHECK_STATUS(mlxrt_model_load(model_folder(), strlen(model_folder()), &load_options, &model),
                 BAD_ARGUMENT);
    CHECK(model == NULL);
}

TEST(a_handle_of_another_kind) {
    mlxrt_cancel *cancel = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    CHECK_STATUS(mlxrt_model_info((const mlxrt_model *)(const void *)cancel, &desc), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_cancel_trigger((mlxrt_cancel *)(void *)shared_model()), BAD_ARGUMENT);
    mlxrt_cancel_free(cancel);
}

static int32_t free_in_callback(void *user_data, const mlxrt_token *token) {
    mlxrt_model **model = user_data;
    (void)token;
    mlxrt_model_free(*model);
    return 0;
}

TEST(a_model_may_be_freed_by_its_own_callback) {
    mlxrt_model *model = NULL;
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 200, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result, .finish = 77};
    REQUIRE_OK(load(model_folder(), &model));
    CHECK_STATUS(mlxrt_model_generate(model, "Hello", 5, &options, free_in_callback, &model, &result),
                 CLOSED);
    CHECK_INT(result.finish, MLXRT_FINISH_NONE);
    CHECK(result.generated_tokens > 0 && result.generated_tokens < 200);
}

static int32_t free_cancel_in_callback(void *user_data, const mlxrt_token *token) {
    (void)token;
    mlxrt_cancel_free(user_data);
    return 0;
}

TEST(a_call_goes_on_without_its_cancel_handle) {
    mlxrt_cancel *cancel = NULL;
    REQUIRE_OK(mlxrt_cancel_new(&cancel));
    mlxrt_generate_options options = {
        .struct_size = sizeof options, .max_tokens = 5, .ignore_end = 1, .cancel = cancel};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    CHECK_OK(
        mlxrt_model_generate(shared_model(), "Hello", 5, &options, free_cancel_in_callback, cancel, &result));
    CHECK_INT(result.generated_tokens, 5);
}

int main(void) {
    RUN(a_freed_model_is_recognised);
    RUN(a_new_model_does_not_get_an_old_handle);
    RUN(an_invented_model);
    RUN(a_freed_cancel_handle_is_recognised);
    RUN(a_handle_of_another_kind);
    RUN(a_model_may_be_freed_by_its_own_callback);
    RUN(a_call_goes_on_without_its_cancel_handle);
    return end_of_tests();
}
