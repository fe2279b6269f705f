// Structs that start with struct_size: older callers, newer callers and callers that forgot it.
#include "fixture.h"
#include "harness.h"

#include <stddef.h>
#include <string.h>

// Options as a program would have them that was compiled against a later header.
typedef struct newer_options {
    mlxrt_generate_options known;
    uint64_t unknown[2];
} newer_options;

typedef struct newer_desc {
    mlxrt_model_desc known;
    uint64_t unknown[2];
} newer_desc;

// Bytes of the options' first version, which had no session.
static const size_t FIRST_SIZE = offsetof(mlxrt_generate_options, session);

static mlxrt_status generate_with(const void *options) {
    return continue_text(shared_model(), "Hello", options, NULL, NULL);
}

TEST(defaults_are_zeros_and_the_size) {
    mlxrt_generate_options generate, zeros = {.struct_size = sizeof zeros};
    mlxrt_load_options load, no_load = {.struct_size = sizeof no_load};
    mlxrt_chat_options chat, no_chat = {.struct_size = sizeof no_chat};
    memset(&generate, 0xff, sizeof generate);
    memset(&load, 0xff, sizeof load);
    memset(&chat, 0xff, sizeof chat);
    CHECK_OK(mlxrt_generate_options_default(&generate, sizeof generate));
    CHECK(memcmp(&generate, &zeros, sizeof zeros) == 0);
    mlxrt_convert_options convert, no_convert = {.struct_size = sizeof no_convert};
    memset(&convert, 0xff, sizeof convert);
    CHECK_OK(mlxrt_convert_options_default(&convert, sizeof convert));
    CHECK(memcmp(&convert, &no_convert, sizeof convert) == 0);
    CHECK_OK(mlxrt_load_options_default(&load, sizeof load));
    CHECK(memcmp(&load, &no_load, sizeof load) == 0);
    CHECK_OK(mlxrt_chat_options_default(&chat, sizeof chat));
    CHECK(memcmp(&chat, &no_chat, sizeof chat) == 0);
    CHECK_STATUS(mlxrt_generate_options_default(&generate, FIRST_SIZE - 1), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_load_options_default(&load, 8), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_chat_options_default(&chat, 16), BAD_ARGUMENT);
}

TEST(a_size_that_was_not_set) {
    mlxrt_generate_options generate = {0};
    mlxrt_load_options options = {0};
    mlxrt_chat_options chat = {0};
    mlxrt_message message = {string("user"), string("Hello")};
    size_t len = 0;
    mlxrt_model_desc desc = {0};
    mlxrt_device_desc device = {0};
    mlxrt_model *model = NULL;
    CHECK_FAILS(generate_with(&generate), BAD_ARGUMENT, "mlxrt_generate_options: struct_size is 0");
    CHECK_FAILS(mlxrt_model_load(model_folder(), strlen(model_folder()), &options, &model), BAD_ARGUMENT,
                "mlxrt_load_options: struct_size is 0");
    CHECK(model == NULL);
    CHECK_FAILS(mlxrt_model_render_chat(shared_model(), &message, 1, &chat, NULL, 0, &len), BAD_ARGUMENT,
                "mlxrt_chat_options: struct_size is 0");
    CHECK_FAILS(mlxrt_model_info(shared_model(), &desc), BAD_ARGUMENT, "mlxrt_model_desc: struct_size");
    CHECK_FAILS(mlxrt_device_info(MLXRT_DEVICE_CPU, &device), BAD_ARGUMENT, "mlxrt_device_desc: struct_size");
}

TEST(a_result_without_a_size) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 2};
    mlxrt_generate_result result = {0};
    CHECK_FAILS(continue_text(shared_model(), "Hello", &options, NULL, &result), BAD_ARGUMENT,
                "mlxrt_generate_result: struct_size");
}

TEST(a_size_below_the_first_version) {
    mlxrt_generate_options generate = {.struct_size = FIRST_SIZE - 8};
    mlxrt_model_desc desc = {.struct_size = sizeof desc - 1, .vocab_size = 7};
    CHECK_STATUS(generate_with(&generate), BAD_ARGUMENT);
    CHECK_STATUS(mlxrt_model_info(shared_model(), &desc), BAD_ARGUMENT);
    CHECK_INT(desc.vocab_size, 7);
}

TEST(the_first_version) {
    mlxrt_generate_options generate = {.struct_size = FIRST_SIZE, .max_tokens = 1};
    memset(&generate.session, 0xff, sizeof generate.session); // not part of it
    CHECK_OK(generate_with(&generate));
}

TEST(a_size_beyond_reason) {
    mlxrt_generate_options generate = {.struct_size = SIZE_MAX};
    CHECK_STATUS(generate_with(&generate), BAD_ARGUMENT);
}

TEST(newer_options_that_are_zero_are_ignored) {
    newer_options options = {.known = {.struct_size = sizeof options, .max_tokens = 1}};
    CHECK_OK(generate_with(&options));
}

TEST(newer_options_that_are_set_are_refused) {
    newer_options options = {.known = {.struct_size = sizeof options, .max_tokens = 1}, .unknown = {0, 1}};
    CHECK_FAILS(generate_with(&options), BAD_ARGUMENT, "mlxrt_generate_options");
}

TEST(a_newer_output_struct_gets_zeros_at_its_end) {
    newer_desc desc;
    memset(&desc, 0xff, sizeof desc);
    desc.known.struct_size = sizeof desc;
    REQUIRE_OK(mlxrt_model_info(shared_model(), &desc.known));
    CHECK_INT(desc.known.struct_size, sizeof desc);
    CHECK(desc.known.vocab_size > 0);
    CHECK(desc.unknown[0] == 0 && desc.unknown[1] == 0);
}

int main(void) {
    RUN(defaults_are_zeros_and_the_size);
    RUN(a_size_that_was_not_set);
    RUN(a_result_without_a_size);
    RUN(a_size_below_the_first_version);
    RUN(the_first_version);
    RUN(a_size_beyond_reason);
    RUN(newer_options_that_are_zero_are_ignored);
    RUN(newer_options_that_are_set_are_refused);
    RUN(a_newer_output_struct_gets_zeros_at_its_end);
    return end_of_tests();
}
