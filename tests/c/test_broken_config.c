// A config.json that is missing, broken or of an unknown kind: the status, and a message that names file and
// key.
#include "fixture.h"
#include "harness.h"

#include <string.h>

#define CONFIG "config.json"

// Loading fails with this status and a message with both parts in it.
#define CHECK_LOAD_FAILS(folder, name, part1, part2)                                                         \
    do {                                                                                                     \
        mlxrt_model *spoiled_ = (mlxrt_model *)&spoiled_;                                                    \
        CHECK_FAILS(load(folder, &spoiled_), name, part1);                                                   \
        CHECK_CONTAINS(mlxrt_error_message(), part2);                                                        \
        CHECK(spoiled_ == NULL);                                                                             \
    } while (0)

// The model with one place of its config.json changed.
static const char *with_config(const char *from, const char *to) {
    const char *folder = copy_of_model();
    replace_in_file(folder, CONFIG, from, to);
    return folder;
}

TEST(an_unspoiled_copy_loads) {
    mlxrt_model *model = NULL;
    CHECK_OK(load(copy_of_model(), &model));
    mlxrt_model_free(model);
}

TEST(no_such_folder) {
    CHECK_LOAD_FAILS("/nowhere/at/all", NOT_FOUND, "/nowhere/at/all", "");
    mlxrt_model *model = NULL;
    CHECK_STATUS(mlxrt_model_load("", 0, NULL, &model), BAD_ARGUMENT);
}

TEST(a_file_in_place_of_a_folder) {
    const char *folder = copy_of_model();
    char path[1024];
    strcpy(path, folder);
    strcat(path, "/" CONFIG);
    mlxrt_model *model = NULL;
    mlxrt_status status = load(path, &model);
    CHECK(status == MLXRT_STATUS_NOT_FOUND || status == MLXRT_STATUS_BAD_MODEL);
    CHECK_CONTAINS(mlxrt_error_message(), CONFIG);
    CHECK(model == NULL);
}

TEST(no_config) {
    const char *folder = copy_of_model();
    remove_file(folder, CONFIG);
    CHECK_LOAD_FAILS(folder, NOT_FOUND, CONFIG, folder);
}

TEST(config_that_is_not_json) {
    const char *folder = copy_of_model();
    write_file(folder, CONFIG, "{\"model_type\": ");
    CHECK_LOAD_FAILS(folder, BAD_MODEL, CONFIG, folder);
    write_file(folder, CONFIG, "");
    CHECK_LOAD_FAILS(folder, BAD_MODEL, CONFIG, folder);
    write_file(folder, CONFIG, "[1, 2]");
    CHECK_LOAD_FAILS(folder, BAD_MODEL, CONFIG, folder);
    write_file(folder, CONFIG, "\xff\xfe");
    CHECK_LOAD_FAILS(folder, BAD_MODEL, CONFIG, folder);
}

TEST(config_of_nested_brackets_without_end) {
    static char deep[200001];
    memset(deep, '[', sizeof deep - 1);
    const char *folder = copy_of_model();
    write_file(folder, CONFIG, deep);
    CHECK_LOAD_FAILS(folder, BAD_MODEL, CONFIG, folder);
}

TEST(config_without_model_type) {
    CHECK_LOAD_FAILS(with_config("\"model_type\"", "\"model_typo\""), BAD_MODEL, CONFIG, "model_type");
}

TEST(an_unknown_model_type_lists_the_known_ones) {
    const char *folder = with_config("\"llama\"", "\"gpt_abacus\"");
    CHECK_LOAD_FAILS(folder, UNSUPPORTED, "gpt_abacus", "llama");
    CHECK_CONTAINS(mlxrt_error_message(), "qwen3");
}

TEST(a_key_that_is_missing) {
    CHECK_LOAD_FAILS(with_config("\"hidden_size\"", "\"hidden_sighs\""), BAD_MODEL, CONFIG, "hidden_size");
    CHECK_LOAD_FAILS(with_config("\"num_attention_heads\"", "\"heads\""), BAD_MODEL, CONFIG,
                     "num_attention_heads");
}

TEST(a_value_of_the_wrong_type) {
    CHECK_LOAD_FAILS(with_config("\"hidden_size\": 256", "\"hidden_size\": \"wide\""), BAD_MODEL, CONFIG,
                     "hidden_size");
    CHECK_LOAD_FAILS(with_config("\"bits\": 4", "\"bits\": [4]"), BAD_MODEL, CONFIG, "bits");
}

TEST(values_that_make_no_model) {
    CHECK_LOAD_FAILS(with_config("\"hidden_size\": 256", "\"hidden_size\": 0"), BAD_MODEL, CONFIG,
                     "hidden_size");
    CHECK_LOAD_FAILS(with_config("\"num_hidden_layers\": 6", "\"num_hidden_layers\": -1"), BAD_MODEL, CONFIG,
                     "num_hidden_layers");
    CHECK_LOAD_FAILS(with_config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"), BAD_MODEL,
                     CONFIG, "num_key_value_heads");
    CHECK_LOAD_FAILS(with_config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 0"), BAD_MODEL,
                     CONFIG, "num_key_value_heads");
    CHECK_LOAD_FAILS(with_config("\"bits\": 4", "\"bits\": 5000"), BAD_MODEL, CONFIG, "bits");
    CHECK_LOAD_FAILS(with_config("\"group_size\": 64", "\"group_size\": 0"), BAD_MODEL, CONFIG, "group_size");
    CHECK_LOAD_FAILS(with_config("\"hidden_size\": 256", "\"hidden_size\": 4294967296"), BAD_MODEL, CONFIG,
                     "hidden_size");
}

// The weights tell another size than the config: the message names a tensor and both shapes' source.
TEST(sizes_that_do_not_fit_the_weights) {
    mlxrt_model *model = NULL;
    CHECK_STATUS(load(with_config("\"hidden_size\": 256", "\"hidden_size\": 512"), &model), BAD_MODEL);
    CHECK_CONTAINS(mlxrt_error_message(), "weight");
    CHECK_STATUS(load(with_config("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7"), &model),
                 BAD_MODEL);
    CHECK_CONTAINS(mlxrt_error_message(), "model.layers.6");
    CHECK_STATUS(load(with_config("\"intermediate_size\": 704", "\"intermediate_size\": 640"), &model),
                 BAD_MODEL);
    CHECK_CONTAINS(mlxrt_error_message(), "mlp");
    CHECK_STATUS(load(with_config("\"vocab_size\": 1024", "\"vocab_size\": 1000"), &model), BAD_MODEL);
    CHECK_CONTAINS(mlxrt_error_message(), "embed_tokens");
    CHECK(model == NULL);
}

int main(void) {
    RUN(an_unspoiled_copy_loads);
    RUN(no_such_folder);
    RUN(a_file_in_place_of_a_folder);
    RUN(no_config);
    RUN(config_that_is_not_json);
    RUN(config_of_nested_brackets_without_end);
    RUN(config_without_model_type);
    RUN(an_unknown_model_type_lists_the_known_ones);
    RUN(a_key_that_is_missing);
    RUN(a_value_of_the_wrong_type);
    RUN(values_that_make_no_model);
    RUN(sizes_that_do_not_fit_the_weights);
    return end_of_tests();
}
