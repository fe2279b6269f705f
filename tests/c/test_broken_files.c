// Weights, tokenizer and the small files beside them: missing, cut short, or with nonsense in them.
#include "fixture.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define WEIGHTS "model.safetensors"

static mlxrt_status load_spoiled(const char *folder) {
    mlxrt_model *model = (mlxrt_model *)&model;
    mlxrt_status status = load(folder, &model);
    CHECK((status == MLXRT_STATUS_OK) == (model != NULL));
    mlxrt_model_free(model);
    return status;
}

TEST(no_weights) {
    const char *folder = copy_of_model();
    remove_file(folder, WEIGHTS);
    CHECK_FAILS(load_spoiled(folder), NOT_FOUND, "safetensors");
    CHECK_CONTAINS(mlxrt_error_message(), folder);
}

TEST(weights_cut_short) {
    static const size_t sizes[] = {0, 5, 8, 200, 30000, 1000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *folder = copy_of_model();
        truncate_file(folder, WEIGHTS, sizes[i]);
        CHECK_FAILS(load_spoiled(folder), BAD_MODEL, WEIGHTS);
    }
}

TEST(weights_that_are_no_safetensors) {
    const char *folder = copy_of_model();
    write_file(folder, WEIGHTS,
               "this is no model, but it is longer than the eight bytes of a header's length");
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, WEIGHTS);
    // A header of more bytes than there are.
    write_file(folder, WEIGHTS, "\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f{}");
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, WEIGHTS);
}

TEST(an_index_that_names_a_missing_file) {
    const char *folder = copy_of_model();
    write_file(folder, "model.safetensors.index.json",
               "{\"weight_map\": {\"model.norm.weight\": \"model-00002-of-00002.safetensors\"}}");
    mlxrt_status status = load_spoiled(folder);
    // An index beside a complete model.safetensors may also be ignored.
    CHECK(status == MLXRT_STATUS_OK || status == MLXRT_STATUS_NOT_FOUND || status == MLXRT_STATUS_BAD_MODEL);
    remove_file(folder, WEIGHTS);
    status = load_spoiled(folder);
    CHECK(status == MLXRT_STATUS_NOT_FOUND || status == MLXRT_STATUS_BAD_MODEL);
}

TEST(no_tokenizer) {
    const char *folder = copy_of_model();
    remove_file(folder, "tokenizer.json");
    CHECK_FAILS(load_spoiled(folder), NOT_FOUND, "tokenizer.json: not there");
    write_file(folder, "tokenizer.model", "");
    CHECK_FAILS(load_spoiled(folder), NOT_FOUND, "tokenizer.model is, but only tokenizer.json is read");
}

TEST(a_broken_tokenizer) {
    const char *folder = copy_of_model();
    truncate_file(folder, "tokenizer.json", 2000);
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, "tokenizer.json");
    write_file(folder, "tokenizer.json", "{}");
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, "tokenizer.json");
}

TEST(a_broken_tokenizer_config) {
    const char *folder = copy_of_model();
    write_file(folder, "tokenizer_config.json", "{\"chat_template\": ");
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, "tokenizer_config.json");
}

TEST(a_broken_generation_config) {
    const char *folder = copy_of_model();
    write_file(folder, "generation_config.json", "nothing");
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, "generation_config.json");
    write_file(folder, "generation_config.json", "{\"eos_token_id\": [2, \"</s>\"]}");
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, "generation_config.json: `eos_token_id`");
}

TEST(a_broken_chat_template) {
    const char *folder = copy_of_model();
    write_file(folder, "chat_template.jinja", "{% for %}");
    CHECK_FAILS(load_spoiled(folder), BAD_MODEL, "chat_template.jinja");
}

TEST(a_chat_template_that_does_not_parse) {
    const char *folder = copy_of_model();
    write_file(folder, "tokenizer_config.json", "{\"chat_template\": \"{% for message in %}\"}");
    mlxrt_model *model = NULL;
    mlxrt_status status = load(folder, &model);
    if (status == MLXRT_STATUS_OK) { // found at first use instead
        status = ask(model, "Hello", NULL, NULL, NULL);
    }
    CHECK_INT(status, MLXRT_STATUS_BAD_MODEL);
    CHECK_CONTAINS(mlxrt_error_message(), "template");
    mlxrt_model_free(model);
}

TEST(a_chat_template_that_refuses) {
    const char *folder = copy_of_model();
    write_file(folder, "tokenizer_config.json",
               "{\"chat_template\": \"{{ raise_exception('only cats may ask') }}\"}");
    mlxrt_model *model = NULL;
    REQUIRE_OK(load(folder, &model));
    CHECK_FAILS(ask(model, "Hello", NULL, NULL, NULL), BAD_ARGUMENT, "only cats may ask");
    mlxrt_model_free(model);
}

TEST(no_chat_template) {
    const char *folder = copy_of_model();
    mlxrt_model *model = NULL;
    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 3};
    remove_file(folder, "tokenizer_config.json");
    REQUIRE_OK(load(folder, &model));
    CHECK_OK(mlxrt_model_info(model, &desc));
    CHECK_INT(desc.has_chat_template, 0);
    CHECK_FAILS(ask(model, "Hello", NULL, NULL, NULL), UNSUPPORTED, "template");
    CHECK_OK(continue_text(model, "Hello", &options, NULL, NULL));
    mlxrt_model_free(model);
}

TEST(the_process_goes_on) {
    answer out = {0};
    CHECK_OK(ask(shared_model(), "What is the capital of France?", NULL, &out, NULL));
    CHECK_CONTAINS(out.text, "Paris");
}

int main(void) {
    RUN(no_weights);
    RUN(weights_cut_short);
    RUN(weights_that_are_no_safetensors);
    RUN(an_index_that_names_a_missing_file);
    RUN(no_tokenizer);
    RUN(a_broken_tokenizer);
    RUN(a_broken_tokenizer_config);
    RUN(a_broken_generation_config);
    RUN(a_broken_chat_template);
    RUN(a_chat_template_that_does_not_parse);
    RUN(a_chat_template_that_refuses);
    RUN(no_chat_template);
    RUN(the_process_goes_on);
    return end_of_tests();
}
